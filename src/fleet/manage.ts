/**
 * What a person changes of the fleet, or reads of its history: asked of the coordinator's daemon, or done in its own state folder
 * where that does not run. The daemon takes over at its next start what was signed meanwhile.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '../base/clock.js'
import { hasCode, ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import type { LocalCatalog } from '../catalog/local.js'
import type { VolumeId } from '../catalog/policies.js'
import type { EventRow } from '../catalog/registry.js'
import type { Policy } from '../catalog/types.js'
import type { Admission } from '../coordinator/admission.js'
import type { Answer } from '../coordinator/calls.js'
import type { RemoteCatalog } from '../coordinator/client.js'
import { makeAdminKey } from '../keys/admin-key.js'
import { appoint, findAdmin } from '../keys/admins.js'
import { moveEnroller } from '../keys/duties.js'
import { makeDismissal, makeRemoval, requireAdmin } from '../keys/enroller.js'
import { signHandover } from '../keys/handover.js'
import type { Home } from '../keys/home.js'
import { findHost, type Membership, openMembership } from '../keys/membership.js'
import { openPolicy, signPolicy } from '../keys/policy.js'
import { type Root, rootFromWords } from '../keys/root.js'
import { nextHandover } from '../keys/take-up.js'
import type { SecretHandle } from '../native.js'

const EVENTS_AT_ONCE = 1000
const MOVE_POLL_MS = 250

export class Management {
  readonly #home: Home
  readonly #remote: RemoteCatalog
  readonly #local: LocalCatalog | undefined

  constructor(home: Home, remote: RemoteCatalog, local: LocalCatalog | undefined) {
    this.#home = home
    this.#remote = remote
    this.#local = local
  }

  /** `admin`: whose key signs it. Throws NOT_ALLOWED, NOT_ADMIN, NO_SUCH_HOST, WOULD_LOSE. */
  async remove(wanted: string, force: boolean, admin?: SecretHandle): Promise<Answer<'remove'>> {
    const signed = this.#removal(wanted, admin)
    const host = signed?.host ?? wanted
    return this.#ask(
      () => this.#remote.remove(host, force, signed?.removal),
      (admission) => admission.remove(host, force, signed?.removal),
    )
  }

  /** An enroller signs it, wherever it is; or an admin. */
  #removal(wanted: string, admin: SecretHandle | undefined): { host: Hex; removal: Buffer } | undefined {
    const membership = admin ? this.#seenBy(admin) : this.#home.membership()
    if (!admin && (this.#home.coordinates || !membership.delegated(this.#home.host, 'enroller'))) return undefined
    const { host } = findHost(membership.hosts, wanted)
    return { host, removal: makeRemoval(this.#home, membership, host, admin) }
  }

  /** With names, on a host that cannot read them. */
  #seenBy(admin: SecretHandle): Membership {
    const { fleet, rootKey } = this.#home
    const as = { reader: toHex(admin.signingKey()), secret: admin }
    return openMembership(this.#home.membership().bytes, fleet, rootKey, as)
  }

  /** The key lies in that file, or is made there. Throws WRONG_WORDS, NAME_TAKEN, USAGE, SECRET_EXPOSED. */
  async addAdmin(name: string, words: string, file: string): Promise<Answer<'appoint'>> {
    const root = this.#root(words)
    const key = makeAdminKey(file)
    const delegation = appoint(toHex(key.signingKey()), this.#home.membership(), root.secret)
    const admin = { name, sealing: toHex(key.sealingKey()) }
    return this.#ask(
      async () => this.#adopt(await this.#remote.appoint(admin, delegation)),
      (admission) => admission.appoint(admin, delegation),
    )
  }

  /** `by`: the words, or the key of another admin. Throws WRONG_WORDS, NOT_ADMIN, USAGE. */
  async removeAdmin(wanted: string, by: string | SecretHandle): Promise<Answer<'dismiss'>> {
    const signer = typeof by === 'string' ? this.#root(by).secret : by
    const membership = typeof by === 'string' ? this.#home.membership() : this.#seenBy(by)
    if (typeof by !== 'string') requireAdmin(membership, by)
    const admin = findAdmin(membership.admins, wanted)
    if (admin.key === toHex(signer.signingKey())) {
      throw new ImagerError('USAGE', {
        what: 'An admin is ended by another one, or with the words',
        verb: 'admin remove',
      })
    }
    const parts = makeDismissal(membership, admin, signer)
    const { dismissal, ...anew } = parts
    return this.#ask(
      async () => this.#adopt(await this.#remote.dismiss(parts)),
      (admission) => admission.dismiss(anew, Buffer.from(dismissal, 'base64')),
    )
  }

  /** What came with an answer; the coordinator's daemon has written its own. */
  #adopt<A>({ membership, ...answer }: A & { membership: Buffer }): Omit<A, 'membership'> {
    if (!this.#home.coordinates) this.#home.saveMembership(membership)
    return answer as Omit<A, 'membership'>
  }

  #root(words: string): Root {
    const root = rootFromWords(words)
    if (root.rootKey === this.#home.rootKey) return root
    throw new ImagerError('WRONG_WORDS', { what: 'These are the words of another fleet' })
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
    const root = this.#root(words)
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

  /**
   * Has the coordinator's daemon hand its place to a host that stands by; an enroller agrees by typing it. `waiting` hears each stage.
   * Throws NOT_ALLOWED, NO_SUCH_HOST, USAGE, NOT_STANDING_BY, NOT_MOVED, COORDINATOR_UNREACHABLE.
   */
  async moveCoordinator(
    wanted: string,
    waiting: (stage: string) => void,
    signal: AbortSignal,
  ): Promise<{ name: string }> {
    const membership = this.#home.membership()
    const { host, name } = findHost(membership.hosts, wanted)
    const agrees = !this.#home.coordinates && membership.delegated(this.#home.host, 'enroller')
    const consent = agrees ? signHandover(nextHandover(membership, host), this.#home.secret) : undefined
    const statement = consent === undefined ? undefined : Buffer.from(consent, 'base64')
    for (let start = true, last = ''; ; start = false) {
      const stage = await this.#moving(host, start, statement)
      if (stage === 'moved') return { name }
      if (stage !== last) waiting(stage)
      last = stage
      await sleep(MOVE_POLL_MS, undefined, { signal })
    }
  }

  /** Once it has moved, the old one says only that. */
  async #moving(host: Hex, start: boolean, consent: Buffer | undefined): Promise<string> {
    try {
      return (await this.#remote.move(host, start, consent)).stage
    } catch (error) {
      if (start || !hasCode(error, 'REPLACED')) throw error
      return 'moved'
    }
  }

  /** Of one disk, or of all without a decision of their own; `admin`: whose key signs it. Throws NOT_ALLOWED, NOT_ADMIN. */
  async setPolicy(of: VolumeId | null, change: Partial<Policy>, admin?: SecretHandle): Promise<void> {
    const { changedPolicy, decide, policyInForce, requireNoAdmins, settlePolicy, takePolicy } = await import(
      '../coordinator/policy.js'
    )
    const clock = systemClock
    const [home, catalog] = [this.#home, this.#local]
    if (!admin) {
      const here = async () => {
        if (!catalog) return
        requireNoAdmins({ home, catalog })
        await catalog.setPolicy(of, change)
        settlePolicy({ home, catalog, clock })
      }
      return this.#ask(() => this.#remote.setPolicy(of, change), here)
    }
    const membership = home.membership()
    requireAdmin(membership, admin)
    const said = catalog ? policyInForce({ home, catalog })?.bytes : await this.#remote.policy()
    const last = said?.length ? openPolicy(said, membership, home.rootKey) : undefined
    const statement = signPolicy(changedPolicy(last, membership, decide(last, of, change), clock.now()), admin)
    await this.#ask(
      () => this.#remote.say('policy', statement),
      () => catalog && void takePolicy({ home, catalog, clock }, statement),
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

  async #ask<T>(daemon: () => Promise<T>, here: (admission: Admission) => T | Promise<T>): Promise<T> {
    try {
      return await daemon()
    } catch (error) {
      if (!this.#local || !hasCode(error, 'COORDINATOR_UNREACHABLE')) throw error
      const [{ Admission }, { DomainKey }] = await Promise.all([
        import('../coordinator/admission.js'),
        import('../coordinator/domain-key.js'),
      ])
      const address = () => this.#home.coordinator.address
      const parts = { home: this.#home, catalog: this.#local }
      // The daemon brings peers what is new once it runs.
      const domainKey = new DomainKey({ ...parts, onKey: () => {} })
      return here(new Admission({ ...parts, domainKey, address, onMembership: () => {} }))
    }
  }
}
