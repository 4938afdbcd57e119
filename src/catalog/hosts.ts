/**
 * The master file: every member, what it offers, when it was seen. Heartbeats bring free space, storage identity and
 * addresses; uptime is measured from them. Space of a file system that several hosts share is counted once.
 */
import type Database from 'better-sqlite3'
import type { Clock } from '../base/clock.js'
import type { Hex } from '../base/ids.js'
import { AWAY_AFTER_MS, CLOCK_SKEW_ALARM_MS, HEARTBEAT_MS, RUN_PATIENCE_MS } from '../base/limits.js'
import type { Role } from '../keys/fields.js'
import type { StoreState } from './stores.js'
import type { HostRow, HostState } from './types.js'

export interface Admission {
  host: Hex
  /** X25519 key to which keys for this host are wrapped. */
  sealing: Hex
  name: string
  role: Role
  domain: string
  /** Left out: what is known stays. */
  addresses?: readonly string[]
}

export interface Heartbeat {
  addresses: readonly string[]
  freeBytes: number
  usedBytes: number
  capacityBytes: number
  /** Empty: this host offers no store. */
  storage: string
  /** Null: it has none. */
  store: StoreState | null
}

interface Stored extends Omit<HostRow, 'addresses' | 'uptime' | 'away' | 'state'> {
  n: number
  sealing: Hex
  addresses: string
  member: number
  admitted: number
  seenMs: number
  storeSequence: number
}

export class HostCatalogue {
  readonly #db: Database.Database
  readonly #clock: Clock
  readonly #all: Database.Statement<[], Stored>
  readonly #one: Database.Statement<[string], Stored>
  /** When nobody listened. */
  #deaf = { from: 0, until: 0 }
  /** Heartbeats that could not be written yet. */
  readonly #unwritten = new Map<Hex, { beat: Heartbeat; at: number }>()

  constructor(db: Database.Database, clock: Clock) {
    this.#db = db
    this.#clock = clock
    this.#all = db.prepare('SELECT * FROM sound_host WHERE member = 1 ORDER BY name, n')
    this.#one = db.prepare('SELECT * FROM sound_host WHERE member = 1 AND host = ?')
  }

  /**
   * The coordinator listens again. While it was started anew nobody could be heard, which says nothing against a host until it
   * had the time to beat. After a longer absence, what was heard before it is old.
   */
  listen(coordinator: Hex): void {
    const [from, until] = [this.#one.get(coordinator)?.lastSeen ?? 0, this.#clock.now()]
    if (until - from <= 2 * RUN_PATIENCE_MS) this.#deaf = { from, until }
  }

  /** Admits a host or renews what is known of it. What was measured stays. */
  admit(a: Admission): void {
    this.#db
      .prepare(`INSERT INTO host (host, sealing, name, role, domain, addresses, admitted) VALUES (?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (host) DO UPDATE SET sealing = excluded.sealing, name = excluded.name, role = excluded.role,
        domain = excluded.domain, member = 1,
        addresses = CASE excluded.addresses WHEN '[]' THEN addresses ELSE excluded.addresses END`)
      .run(a.host, a.sealing, a.name, a.role, a.domain, JSON.stringify(a.addresses ?? []), this.#clock.now())
  }

  rename(host: Hex, name: string): void {
    this.#db.prepare('UPDATE host SET name = ? WHERE host = ?').run(name, host)
  }

  /** One that is no member: by its name only. */
  know({ host, sealing, name, role, domain }: Admission): void {
    this.#db
      .prepare(`INSERT OR IGNORE INTO host (host, sealing, name, role, domain, addresses, admitted, member)
        VALUES (?, ?, ?, ?, ?, '[]', ?, 0)`)
      .run(host, sealing, name, role, domain, this.#clock.now())
  }

  /** Exactly these are members from now on. */
  admitOnly(hosts: readonly Admission[]): void {
    this.#db.prepare('UPDATE host SET member = 0').run()
    for (const host of hosts) this.admit(host)
  }

  /** Stores what a heartbeat says. True when the addresses changed. */
  heartbeat(host: Hex, beat: Omit<Heartbeat, 'store'>): boolean {
    const stored = this.#one.get(host)
    if (!stored) return false
    this.seen(host)
    const addresses = JSON.stringify(beat.addresses)
    this.#db
      .prepare(`UPDATE host SET addresses = ?, freeBytes = ?, usedBytes = ?, capacityBytes = ?, storage = ?
        WHERE host = ?`)
      .run(addresses, beat.freeBytes, beat.usedBytes, beat.capacityBytes, beat.storage, host)
    return addresses !== stored.addresses
  }

  /**
   * Notes that the host made a call just now. Appliances send no heartbeats: their calls during a snapshot count
   * instead.
   */
  seen(host: Hex): void {
    const stored = this.#one.get(host)
    if (!stored) return
    const now = this.#clock.now()
    this.#db
      .prepare('UPDATE host SET lastSeen = ?, seenMs = ? WHERE host = ?')
      .run(Math.max(now, stored.lastSeen), seenUntil(stored, now), host)
  }

  /**
   * Notes a call of any kind, and what the caller measured of its clock: it is written once in HEARTBEAT_MS at most, because
   * a run makes thousands of calls. A peer is there when its daemon beats: one who asks on it says nothing of that. True where
   * its clock has just been found to be far off.
   */
  called(host: Hex, clockSkewMs: number | undefined): boolean {
    const stored = this.#one.get(host)
    if (!stored) return false
    const known = stored.clockSkewMs
    const moved = clockSkewMs !== undefined && hasMoved(known, clockSkewMs)
    if (!moved && Math.abs(this.#clock.now() - stored.lastSeen) < HEARTBEAT_MS) return false
    if (stored.role !== 'peer') this.seen(host)
    if (clockSkewMs === undefined) return false
    this.#db.prepare('UPDATE host SET clockSkewMs = ? WHERE host = ?').run(clockSkewMs, host)
    return isFarOff(clockSkewMs) && !isFarOff(known ?? 0)
  }

  /** Keeps a heartbeat in memory, while nothing can be written: whoever asks sees it as if it had been. */
  remember(host: Hex, beat: Heartbeat): void {
    this.#unwritten.set(host, { beat, at: this.#clock.now() })
  }

  /** What was kept in memory, once: for whoever writes it now. */
  takeRemembered(): Map<Hex, Heartbeat> {
    const taken = new Map([...this.#unwritten].map(([host, { beat }]) => [host, beat]))
    this.#unwritten.clear()
    return taken
  }

  /** With what a heartbeat in memory says. */
  #asSeen(stored: Stored): Stored {
    const news = this.#unwritten.get(stored.host)
    if (!news) return stored
    const { addresses, store: _store, ...space } = news.beat
    return { ...stored, ...space, addresses: JSON.stringify(addresses), lastSeen: Math.max(news.at, stored.lastSeen) }
  }

  /** The membership's view: who, without what was measured. */
  members(): Required<Admission>[] {
    return this.#all.all().map(({ host, sealing, name, role, domain, addresses }) => ({
      host,
      sealing,
      name,
      role,
      domain,
      addresses: JSON.parse(addresses) as string[],
    }))
  }

  /** The same, as they came: who has been a member for longest is first. */
  inOrder(): Required<Admission>[] {
    const numbers = new Map(this.#all.all().map(({ host, n }) => [host, n]))
    return this.members().sort((a, b) => (numbers.get(a.host) ?? 0) - (numbers.get(b.host) ?? 0))
  }

  rows(): HostRow[] {
    const now = this.#clock.now()
    return shareSpace(
      this.#all
        .all()
        .map((row) => this.#asSeen(row))
        .map((stored) => toRow(stored, now, this.#isAway(stored, now))),
    )
  }

  #isAway({ lastSeen }: Stored, now: number): boolean {
    const unheard = Math.max(0, this.#deaf.until - Math.max(this.#deaf.from, lastSeen))
    return now - lastSeen - unheard > AWAY_AFTER_MS
  }

  /** By `host.n`: who is not there now, or not a member any more. */
  awayNumbers(): Map<number, Hex> {
    const now = this.#clock.now()
    const rows = this.#db.prepare<[], Stored>('SELECT * FROM sound_host').all()
    const away = rows.filter((row) => row.member === 0 || this.#isAway(this.#asSeen(row), now))
    return new Map(away.map(({ n, host }) => [n, host]))
  }

  /** By `host.n`: its failure domain. */
  domainNumbers(): Map<number, string> {
    return new Map(
      this.#db
        .prepare<[], Stored>('SELECT * FROM sound_host')
        .all()
        .map(({ n, domain }) => [n, domain]),
    )
  }

  /** Why its store is not believed; empty: it is. */
  suspicion(host: Hex): string {
    return this.#one.get(host)?.suspect ?? ''
  }

  /** Empty: it is believed again. */
  suspect(host: Hex, why: string): void {
    this.#db.prepare('UPDATE host SET suspect = ? WHERE host = ?').run(why, host)
  }

  addresses(host: Hex): readonly string[] {
    return JSON.parse(this.#one.get(host)?.addresses ?? '[]') as string[]
  }

  role(host: Hex): Role | undefined {
    return this.#one.get(host)?.role
  }

  /** Of one that is no member any more. */
  formerName(host: Hex): string {
    const row = this.#db.prepare<[string], Stored>('SELECT * FROM sound_host WHERE host = ?').get(host)
    return row?.name ?? host.slice(0, 8)
  }

  name(host: Hex): string {
    return this.#one.get(host)?.name ?? host.slice(0, 8)
  }

  /** The same of a host that may have left. */
  lastName(host: Hex): string {
    const known = this.#db.prepare<[Hex], string>('SELECT name FROM sound_host WHERE host = ?').pluck().get(host)
    return known ?? host.slice(0, 8)
  }
}

/** Smaller changes of a clock's skew are noise of the network. */
const SKEW_STEP_MS = 1_000

/** Between two measurements of a clock: is it worth telling? Pure. */
export function hasMoved(known: number | null | undefined, skewMs: number): boolean {
  return typeof known !== 'number' || Math.abs(skewMs - known) >= SKEW_STEP_MS
}

function isFarOff(skewMs: number): boolean {
  return Math.abs(skewMs) >= CLOCK_SKEW_ALARM_MS
}

/** A gap between two heartbeats counts as seen when it is no longer than what makes a host away. */
function seenUntil(stored: Stored, now: number): number {
  const gap = now - (stored.lastSeen || stored.admitted)
  return stored.seenMs + (gap > 0 && gap <= AWAY_AFTER_MS ? gap : 0)
}

function toRow(stored: Stored, now: number, away: boolean): HostRow {
  const {
    n: _n,
    sealing: _sealing,
    member: _member,
    admitted,
    seenMs: _seenMs,
    storeSequence: _sequence,
    addresses,
    ...row
  } = stored
  const age = now - admitted
  const uptime = age > 0 ? Math.min(1, seenUntil(stored, now) / age) : 1
  const measured = { away, uptime: stored.lastSeen > 0 ? uptime : 0, state: stateOf(stored, away) }
  return { ...row, ...measured, addresses: JSON.parse(addresses) as string[] }
}

function stateOf({ lastSeen, suspect }: Stored, away: boolean): HostState {
  if (lastSeen === 0) return 'never-seen'
  if (away) return 'away'
  return suspect === '' ? 'here' : 'suspect'
}

/** Divides the free space and the capacity of each shared file system among the hosts on it. Pure. */
export function shareSpace(rows: HostRow[]): HostRow[] {
  const groups = new Map<string, HostRow[]>()
  for (const row of rows) {
    if (row.storage !== '') groups.set(row.storage, [...(groups.get(row.storage) ?? []), row])
  }
  const shared = new Map<Hex, Pick<HostRow, 'freeBytes' | 'capacityBytes'>>()
  for (const group of groups.values()) {
    if (group.length < 2) continue
    // What an absent host last said of the file system is old; the present ones know.
    const present = group.filter((row) => !row.away)
    const free = divide(new Map((present.length > 0 ? present : group).map((row) => [row.host, row.freeBytes])))
    const capacity = divide(new Map(group.map((row) => [row.host, row.capacityBytes])))
    for (const { host } of group) {
      shared.set(host, { freeBytes: free.get(host) ?? 0, capacityBytes: capacity.get(host) ?? 0 })
    }
  }
  return rows.map((row) => ({ ...row, ...shared.get(row.host) }))
}

/** The largest claim is the space there is; equal parts of it, but to nobody more than he claims (a quota). */
function divide(claims: Map<Hex, number>): Map<Hex, number> {
  let left = Math.max(...claims.values())
  let heirs = claims.size
  const parts = new Map<Hex, number>()
  for (const [host, claim] of [...claims].sort((a, b) => a[1] - b[1])) {
    const part = Math.min(claim, Math.floor(left / heirs))
    parts.set(host, part)
    left -= part
    heirs--
  }
  return parts
}
