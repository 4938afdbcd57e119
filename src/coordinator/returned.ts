/**
 * Who calls here and must not: coordinators of earlier terms and servers whose place another took, which were replaced and run
 * again; and hosts that were removed.
 */
import { hasCode } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { AWAY_AFTER_MS } from '../base/limits.js'
import type { LocalCatalog } from '../catalog/local.js'
import type { Condition } from '../catalog/types.js'
import type { Home } from '../keys/home.js'

export class Returned {
  readonly #catalog: LocalCatalog
  readonly #home: Pick<Home, 'membership'>
  /** When each was heard last, on the monotonic clock. */
  readonly #heard = new Map<Hex, number>()
  readonly #removed = new Map<Hex, number>()

  constructor(catalog: LocalCatalog, home: Pick<Home, 'membership'>) {
    this.#catalog = catalog
    this.#home = home
  }

  note(host: Hex): void {
    const now = performance.now()
    if (now - (this.#heard.get(host) ?? Number.NEGATIVE_INFINITY) > AWAY_AFTER_MS) {
      this.#catalog.registry.record('alarm', host, `${this.#named(host)} was replaced, and runs again: it was refused`)
    }
    this.#heard.set(host, now)
  }

  /** Of who was removed: an event, and no more. It is switched on, and nobody obeys it. */
  noteRemoved(host: Hex): void {
    const now = performance.now()
    const isNew = now - (this.#removed.get(host) ?? Number.NEGATIVE_INFINITY) > AWAY_AFTER_MS
    this.#removed.set(host, now)
    if (!isNew) return
    try {
      const name = this.#catalog.members.lastName(host)
      const sentence = `${name} (key ${host.slice(0, 16)}...) was removed, and calls all the same: it was refused`
      this.#catalog.registry.record('alarm', host, sentence)
    } catch (error) {
      if (!hasCode(error, 'COORDINATOR_READ_ONLY', 'STATE_DAMAGED')) throw error
    }
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
    const { line } = this.#home.membership()
    if (line.isFormer(host)) {
      const { members } = this.#catalog
      return `The server ${members.formerName(host)} (key ${key}...), whose place ${members.name(line.heirOf(host))} took,`
    }
    return host.startsWith(name)
      ? `A former coordinator (key ${key}...)`
      : `The former coordinator ${name} (key ${key}...)`
  }
}
