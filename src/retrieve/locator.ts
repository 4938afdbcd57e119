/**
 * Where records lie. A birth number names the stripe that a record was first stored in and its position among that stripe's
 * records, so the lengths of these are all there is to ask for. What is not told by stripe (it is another appliance's, or
 * less safe than its scheme, or the record was moved) is asked for by its signature and birth: what its writer made of it
 * counts before what somebody else says to hold the same.
 */
import { LOOKUP_IDS } from '../base/limits.js'
import type { Catalog } from '../catalog/types.js'
import { LocationIndex, type RecordLocations } from '../native.js'
import { ID_BYTES } from '../signatures/rows.js'

export class Locator {
  readonly #catalog: Pick<Catalog, 'records' | 'locate'>
  readonly #index = new LocationIndex()

  constructor(catalog: Pick<Catalog, 'records' | 'locate'>) {
    this.#catalog = catalog
  }

  /** `ids` gives the signatures of the same records, 32 bytes each; it is asked only where they are needed. */
  async of(births: BigUint64Array, ids: () => Uint8Array): Promise<RecordLocations> {
    const absent = this.#index.unknown(births)
    const lengths = absent.length > 0 ? await this.#catalog.records(absent) : []
    for (const [at, stripe] of absent.entries()) this.#index.learn(stripe, lengths[at] ?? new Uint32Array())
    const found = this.#index.locate(births)
    const unknown = Array.from(found.stripes.keys()).filter((at) => found.stripes[at] === 0)
    if (unknown.length > 0) await this.#ask(found, unknown, ids(), births)
    return found
  }

  /** In other stripes than `except`; in stripe 0 where they are in none. */
  async elsewhere(births: BigUint64Array, ids: Uint8Array, except: readonly number[]): Promise<RecordLocations> {
    const { length } = births
    const found = {
      stripes: new Float64Array(length),
      offsets: new Uint32Array(length),
      lengths: new Uint32Array(length),
    }
    await this.#ask(found, [...births.keys()], ids, births, except)
    return found
  }

  /** By signature, those `at`. */
  async #ask(
    found: RecordLocations,
    at: readonly number[],
    ids: Uint8Array,
    births: BigUint64Array,
    except: readonly number[] = [],
  ): Promise<void> {
    for (let from = 0; from < at.length; from += LOOKUP_IDS) {
      const some = at.slice(from, from + LOOKUP_IDS)
      const wanted = some.map((index) => ids.subarray(index * ID_BYTES, (index + 1) * ID_BYTES))
      const { stripes, offsets, lengths } = await this.#catalog.locate(
        Buffer.concat(wanted),
        BigUint64Array.from(some, (index) => births[index] as bigint),
        except,
      )
      for (const [nth, index] of some.entries()) {
        found.stripes[index] = Number(stripes[nth])
        found.offsets[index] = offsets[nth] as number
        found.lengths[index] = lengths[nth] as number
      }
    }
  }
}
