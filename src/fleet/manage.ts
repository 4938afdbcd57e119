/**
 * What a person changes of the fleet, or reads of its history: asked of the coordinator's daemon, or done in its own state folder
 * where that does not run. The daemon takes over at its next start what was signed meanwhile.
 */
import { hasCode, ImagerError } from '../base/errors.js'
import type { LocalCatalog } from '../catalog/local.js'
import type { VolumeId } from '../catalog/policies.js'
import type { EventRow } from '../catalog/registry.js'
import type { Admission } from '../coordinator/admission.js'
import type { Answer } from '../coordinator/calls.js'
import type { RemoteCatalog } from '../coordinator/client.js'
import { moveEnroller } from '../keys/duties.js'
import { makeRemoval } from '../keys/enroller.js'
import type { Home } from '../keys/home.js'
import { findHost, type Membership } from '../keys/membership.js'
import { rootFromWords } from '../keys/root.js'

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
      () => this.#remote.remove(host, force, this.#removal(host)),
      (admission) => admission.remove(host, force),
    )
  }

  /** An enroller signs it, wherever it is. */
  #removal(wanted: string): Buffer | undefined {
    const membership = this.#home.membership()
    if (this.#home.coordinates || !membership.delegated(this.#home.host, 'enroller')) return undefined
    return makeRemoval(this.#home, membership, findHost(membership.hosts, wanted).host)
  }

  /** Throws NOT_ALLOWED, NO_SUCH_HOST, NAME_TAKEN. */
  rename(host: string, name: string): Promise<Answer<'rename'>> {
    return this.#ask(
      () => this.#remote.rename(host, name),
      (admission) => admission.rename(host, name),
    )
  }

  /** Gives the enroller's duty to these, and to nobody else. Throws WRONG_WORDS, USAGE, NO_SUCH_HOST. */
  async moveEnroller(hosts: readonly string[], words: string): Promise<Membership> {
    const root = rootFromWords(words)
    if (root.rootKey !== this.#home.rootKey) {
      throw new ImagerError('WRONG_WORDS', { what: 'These are the words of another fleet' })
    }
    const before = this.#home.membership()
    const next = moveEnroller(
      before,
      hosts.map((wanted) => findHost(before.hosts, wanted).host),
      root,
    )
    await this.#ask(
      () => this.#remote.adopt(next.bytes),
      (admission) => admission.beginTerm(next.bytes),
    )
    this.#home.saveMembership(next.bytes)
    return next
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
