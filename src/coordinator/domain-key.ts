/**
 * The key D of the dedupe domain: the coordinator gives it to each appliance that begins a run, and makes another once somebody had
 * it who is no member any more. So who is removed is never given what newer blocks are sealed under; an appliance that joins later
 * is given the newest alone. Nothing is noted of a change that is due: it follows from who was removed and who had the newest.
 */
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { LocalCatalog } from '../catalog/local.js'
import { entryName, makeKey, partsOfEntryName, readEntry, sealEntry } from '../keys/entry.js'
import type { Home } from '../keys/home.js'

/** A document for each host and key: the entry that it was given. Never sent but to that host. */
const GIVEN = 'given'

export interface DomainKeyParts {
  readonly home: Home
  readonly catalog: LocalCatalog
  /** Peers are to have it. */
  readonly onKey: (name: string, bytes: Buffer) => void
}

export class DomainKey {
  readonly #parts: DomainKeyParts

  constructor(parts: DomainKeyParts) {
    this.#parts = parts
  }

  /** The key of new blocks, sealed to an appliance: the same entry each time. Throws NOT_ALLOWED where this host may give none. */
  sealTo(host: Hex, readerSealing: Hex): Buffer {
    const { home, catalog } = this.#parts
    const { domainKey, domainEntry, fleet } = home
    if (!domainKey || !domainEntry || !home.membership().delegated(home.host, 'holder')) {
      throw new ImagerError('NOT_ALLOWED', { what: "This coordinator does not hold the fleet's keys", role: 'holder' })
    }
    const name = `${domainEntry.key}${host}`
    const given = catalog.registry.document(GIVEN, name)
    if (given) return given.bytes
    const { term, rotation } = domainEntry
    const to = { fleet, term, purpose: 'domain' as const, rotation, owner: home.host, reader: host, readerSealing }
    const entry = sealEntry(domainKey, to, home.secret)
    catalog.write(() => catalog.registry.setDocument(GIVEN, name, 0, entry))
    return entry
  }

  /** What a run of that appliance is to seal under; nothing where this host may give none. */
  forRun(host: Hex): Buffer | undefined {
    const member = this.#parts.home.membership().find(host)
    try {
      this.changeIfDue()
      return member && this.sealTo(host, member.sealing)
    } catch (error) {
      if (!hasCode(error, 'NOT_ALLOWED')) throw error
      return undefined
    }
  }

  /**
   * Makes another key where somebody had the newest who is no member any more; true where it did. At the most as many a day as peers
   * take of one host: what is due then is done at the next run.
   */
  changeIfDue(): boolean {
    const { home, catalog } = this.#parts
    const { domainEntry } = home
    const { term } = home.membership()
    const knowing = domainEntry ? this.#leftWith(domainEntry.key) : []
    if (!domainEntry || knowing.length === 0 || !home.membership().delegated(home.host, 'holder')) return false
    const rotation = domainEntry.term === term ? domainEntry.rotation + 1 : 0
    const maker = { fleet: home.fleet, term, rootSealing: home.rootSealing, identity: home.secret }
    const named = makeKey('domain', maker, rotation).map((bytes) => ({
      name: entryName(readEntry(bytes).entry),
      bytes,
    }))
    try {
      catalog.write(() => {
        for (const { name, bytes } of named) catalog.registry.takeKey(name, bytes)
        const names = knowing.map((host) => catalog.members.formerName(host)).join(', ')
        catalog.registry.record(
          'fleet',
          home.host,
          `New blocks are sealed under another key: ${names} had the former one`,
        )
        // Last: where this is not committed after all, the next start hands in what the state folder has.
        home.takeKeys(named.map(({ bytes }) => bytes))
      })
    } catch (error) {
      if (hasCode(error, 'TOO_MANY_KEYS')) return false
      throw error
    }
    for (const { name, bytes } of named) this.#parts.onKey(name, bytes)
    return true
  }

  /** Who is no member any more, and was given this key, or sealed it to the recovery words. */
  #leftWith(key: Hex): Hex[] {
    const { home, catalog } = this.#parts
    const membership = home.membership()
    const { line, parts } = membership
    const gone = [...new Set([...parts.removals.map(({ host }) => host), ...line.former])]
    const isGiven = (host: Hex) => catalog.registry.document(GIVEN, `${key}${host}`) !== undefined
    const isSealed = (host: Hex) => catalog.registry.keysOf(host).some(({ name }) => partsOfEntryName(name).key === key)
    return gone.filter((host) => !membership.find(host) && (isGiven(host) || isSealed(host)))
  }
}
