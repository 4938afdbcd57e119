/**
 * What a caller shows to a coordinator that was set back: a checkpoint that a quorum of its witnesses signed, and which is newer than
 * the own ones. The witnesses that can know of it are waited for; where none does any more, the chain goes on after it.
 */
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { formatCount } from '../base/units.js'
import type { LocalCatalog } from '../catalog/local.js'
import { type Checkpoint, decodeCosigned, openCheckpoint, openCosignature, quorumOf } from '../keys/checkpoint.js'
import { isNewer, type Place } from '../keys/handover.js'
import { HeadSet } from '../keys/head-set.js'
import type { Home } from '../keys/home.js'

interface Cosigned {
  readonly checkpoint: Checkpoint
  /** By witness. */
  readonly cosignatures: ReadonlyMap<Hex, Buffer>
}

export interface ShownParts {
  readonly home: Home
  readonly catalog: LocalCatalog
  /** Hears what befell it. */
  readonly say: (what: string) => void
}

export class Shown {
  readonly #parts: ShownParts
  /** The newest, as long as no witness has it. */
  #newest: Cosigned | undefined

  constructor(parts: ShownParts) {
    this.#parts = parts
  }

  /** True where it is newer than the tip, and proves itself. Throws FORGED, CORRUPT, UNSUPPORTED. */
  take(bytes: Uint8Array, witnesses: readonly { readonly host: Hex }[], tip: Place | undefined): boolean {
    const one = openCosigned(
      bytes,
      this.#parts.home,
      witnesses.map(({ host }) => host),
    )
    if (!one || !isNewer(one.checkpoint, tip)) return false
    if (!this.#newest || isNewer(one.checkpoint, this.#newest.checkpoint)) this.#newest = one
    return true
  }

  /** False while a witness that may know what was shown has not answered. Where all have, and none does, the chain goes on after it. */
  isSettled(tip: Place | undefined, haveAllAnswered: boolean): boolean {
    const one = this.#newest
    const isReached = !one || !isNewer(one.checkpoint, tip)
    if (!isReached && !haveAllAnswered) return false
    if (one && !isReached) this.#goOnFrom(one)
    this.#newest = undefined
    return true
  }

  /** What it lists beyond what is known is sought among the peers. */
  #goOnFrom({ checkpoint, cosignatures }: Cosigned): void {
    const { home, catalog, say } = this.#parts
    const { chain, registry } = catalog
    const known = HeadSet.empty.with(chain.heads()).with(chain.unlisted()).size
    const lost = formatCount(Math.max(0, checkpoint.heads.count - known), 'snapshot')
    const where = `checkpoint ${checkpoint.sequence} of term ${checkpoint.term}`
    const what = `A server showed ${where}, which neither this coordinator nor any of its witnesses has: all were set back. ${lost} of it are sought among the PCs`
    say(what)
    catalog.write(() => {
      chain.exchange([checkpoint], [])
      const n = chain.tip()?.n ?? 0
      for (const [witness, bytes] of cosignatures) chain.keepCosignature(n, witness, bytes)
      chain.noteQuorum(n)
      registry.record('alarm', home.host, what)
      seekAmongPeers(home, catalog)
    })
  }
}

/** What peers keep and is not known here is taken over: keys, stripes, snapshots. */
export function seekAmongPeers(home: Home, { registry }: LocalCatalog): void {
  const peers = home.membership().hosts.filter(({ role }) => role === 'peer')
  registry.noteUnsurveyed(
    home.fleet,
    peers.map(({ host }) => host),
  )
}

/** Undefined where no quorum of these witnesses signed it: then it says nothing. */
function openCosigned(
  bytes: Uint8Array,
  { fleet, rootKey }: Pick<Home, 'fleet' | 'rootKey'>,
  witnesses: readonly Hex[],
): Cosigned | undefined {
  const shown = decodeCosigned(bytes)
  const checkpoint = openCheckpoint(shown.checkpoint, fleet, rootKey)
  const signed = shown.cosignatures.flatMap((cosignature): [Hex, Buffer][] => {
    const signer = signerOf(cosignature, checkpoint)
    return signer !== undefined && witnesses.includes(signer) ? [[signer, Buffer.from(cosignature)]] : []
  })
  const cosignatures = new Map(signed)
  const isProved = witnesses.length > 0 && cosignatures.size >= quorumOf(witnesses.length)
  return isProved ? { checkpoint, cosignatures } : undefined
}

function signerOf(cosignature: Uint8Array, of: Checkpoint): Hex | undefined {
  try {
    return openCosignature(cosignature, of)
  } catch (error) {
    if (error instanceof ImagerError && hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED')) return undefined
    throw error
  }
}
