/** Coordinators of earlier terms that called here: they were replaced, and run again. */
import type { Hex } from '../base/ids.js'
import { AWAY_AFTER_MS } from '../base/limits.js'
import type { LocalCatalog } from '../catalog/local.js'
import type { Condition } from '../catalog/types.js'

export class Returned {
  readonly #catalog: LocalCatalog
  /** When each was heard last, on the monotonic clock. */
  readonly #heard = new Map<Hex, number>()

  constructor(catalog: LocalCatalog) {
    this.#catalog = catalog
  }

  note(host: Hex): void {
    const now = performance.now()
    if (now - (this.#heard.get(host) ?? Number.NEGATIVE_INFINITY) > AWAY_AFTER_MS) {
      this.#catalog.registry.record('alarm', host, `${this.#named(host)} was replaced, and runs again: it was refused`)
    }
    this.#heard.set(host, now)
  }

  /** Those that were heard lately. */
  conditions(): Condition[] {
    const now = performance.now()
    const here = [...this.#heard].filter(([, at]) => now - at <= AWAY_AFTER_MS)
    return here.map(([host]) => ({
      code: 'REPLACED_BACK',
      sentence: `${this.#named(host)} was replaced, and runs again; no host obeys it`,
      remedy: 'End it where it runs: `imager status` there says who took its place.',
    }))
  }

  #named(host: Hex): string {
    const name = this.#catalog.members.name(host)
    const key = host.slice(0, 16)
    return host.startsWith(name)
      ? `A former coordinator (key ${key}...)`
      : `The former coordinator ${name} (key ${key}...)`
  }
}
