/**
 * What a person changes of the fleet, or reads of its history: asked of the coordinator's daemon, or done in its own state folder
 * where that does not run. The daemon takes over at its next start what was signed meanwhile.
 */
import { hasCode } from '../base/errors.js'
import type { LocalCatalog } from '../catalog/local.js'
import type { VolumeId } from '../catalog/policies.js'
import type { EventRow } from '../catalog/registry.js'
import type { Admission } from '../coordinator/admission.js'
import type { Answer } from '../coordinator/calls.js'
import type { RemoteCatalog } from '../coordinator/client.js'
import type { Home } from '../keys/home.js'

const EVENTS_AT_ONCE = 1000

export class Management {
  readonly #home: Home
  readonly #remote: RemoteCatalog
  readonly #local: LocalCatalog | undefined

  constructor(home: Home, remote: RemoteCatalog, local: LocalCatalog | undefined) {
    this.#home = home
    this.#remote = remote
    this.#local = local
  }

  /** Throws NOT_ALLOWED, NO_SUCH_HOST, WOULD_LOSE. */
  remove(host: string, force: boolean): Promise<Answer<'remove'>> {
    return this.#ask(
      () => this.#remote.remove(host, force),
      (admission) => admission.remove(host, force),
    )
  }

  /** Throws NOT_ALLOWED, NO_SUCH_HOST, NAME_TAKEN. */
  rename(host: string, name: string): Promise<Answer<'rename'>> {
    return this.#ask(
      () => this.#remote.rename(host, name),
      (admission) => admission.rename(host, name),
    )
  }

  /** Throws NOT_ALLOWED, NO_SUCH_VOLUME. */
  async retire(volume: VolumeId, retired: boolean): Promise<void> {
    // Nothing is signed: the database is enough, also while the daemon runs.
    if (this.#local) (await import('../coordinator/retirement.js')).retireVolume(this.#local, volume, retired)
    else await this.#remote.retire(volume, retired)
  }

  /** All after number `after`, newest last. Throws NOT_ALLOWED. */
  async events(after: number): Promise<EventRow[]> {
    if (!this.#local) return this.#remote.events(after)
    const rows: EventRow[] = []
    for (;;) {
      const page = this.#local.registry.events(rows.at(-1)?.n ?? after, EVENTS_AT_ONCE)
      rows.push(...page)
      if (page.length < EVENTS_AT_ONCE) return rows
    }
  }

  async #ask<T>(daemon: () => Promise<T>, here: (admission: Admission) => T): Promise<T> {
    try {
      return await daemon()
    } catch (error) {
      if (!this.#local || !hasCode(error, 'COORDINATOR_UNREACHABLE')) throw error
      const { Admission } = await import('../coordinator/admission.js')
      const address = () => this.#home.coordinator.address
      return here(new Admission({ home: this.#home, catalog: this.#local, address, onMembership: () => {} }))
    }
  }
}
