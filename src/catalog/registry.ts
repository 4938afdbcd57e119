/**
 * What the coordinator keeps beside the data's records: invite tokens, signed documents (membership, key entries) with the peers
 * that hold them, and the events that people read. A token is spent in the transaction that admits its bearer: see `redeem`.
 */
import type Database from 'better-sqlite3'
import type { Clock } from '../base/clock.js'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { TOKEN_LIFETIME_MS } from '../base/limits.js'
import { partsOfEntryName } from '../keys/entry.js'
import { requireKeyRoom } from '../keys/entry-room.js'
import type { JoinRole } from '../keys/token.js'
import { Deliveries, isHeldWidely } from './deliveries.js'
import { Statements } from './statements.js'
import type { HostRow } from './types.js'

export const EVENT_KINDS = [
  ...(['join', 'removal', 'rename', 'fleet', 'snapshot'] as const),
  // These can come in storms: what is the same within a minute is one line with a count.
  ...(['refusal', 'correction', 'alarm'] as const),
]
export type EventKind = (typeof EVENT_KINDS)[number]

export interface EventRow {
  n: number
  time: number
  kind: EventKind
  /** Whom it is about. */
  host: Hex
  sentence: string
  /** How often it was met, within a minute of `time`. */
  count: number
}

export interface Token {
  /** What an enroller said of it (keys/admission.ts). */
  voucher: Buffer
  role: JoinRole
  expires: number
  spentBy: Hex | null
}

/** So many stay of what comes in storms, and of each other kind: refusals can be provoked by strangers, and must not push out who joined. */
const EVENTS_KEPT = 10_000
const COUNTED: readonly EventKind[] = ['refusal', 'correction', 'alarm']
const COUNTED_MS = 60_000
const SENTENCE_LENGTH = 1000
const ADDRESS_EVERY_MS = 60_000
/** A JSON array of hosts. */
const UNSURVEYED = 'unsurveyed'

export class Registry {
  readonly #db: Database.Database
  readonly #clock: Clock
  readonly #statements: Statements
  readonly #addressKept = new Map<Hex, number>()
  /** Who holds which document. */
  readonly deliveries: Deliveries

  constructor(db: Database.Database, clock: Clock) {
    this.#db = db
    this.#clock = clock
    this.#statements = new Statements(db)
    this.deliveries = new Deliveries(db)
  }

  /** Writes something that follows from nothing: whether the disk takes it is seen at the commit. */
  touch(): void {
    this.#db.prepare(`INSERT OR REPLACE INTO checksum VALUES ('touched', '', ?)`).run(this.#clock.now())
  }

  /** Until when a token of now is good. */
  tokenExpiry(): number {
    return this.#clock.now() + TOKEN_LIFETIME_MS
  }

  /** Never for longer than a token lives, whatever its enroller's clock says. */
  addToken(id: Hex, voucher: Uint8Array, role: JoinRole, expires: number): void {
    const last = Math.min(expires, this.tokenExpiry())
    this.#db.prepare('DELETE FROM token WHERE expires < ?').run(this.#clock.now())
    this.#db.prepare('INSERT OR IGNORE INTO token VALUES (?, ?, ?, ?, NULL)').run(id, voucher, role, last)
  }

  /** A token that this host spent would let it in again. */
  dropTokensOf(host: Hex): void {
    this.#db.prepare('DELETE FROM token WHERE spentBy = ?').run(host)
  }

  /** What is known of a token; nothing once it has expired. The caller checks the proof. */
  token(id: Hex): Token | undefined {
    const row = this.#db
      .prepare<[Hex], Token>('SELECT voucher, role, expires, spentBy FROM sound_token WHERE id = ?')
      .get(id)
    return row && row.expires >= this.#clock.now() ? row : undefined
  }

  /** Spends the token on `host` and runs `admit`, both or neither. The same host may repeat a join that was cut short. */
  redeem<T>(id: Hex, host: Hex, admit: () => T): T {
    const spend = this.#db.transaction(() => {
      const { changes } = this.#db
        .prepare(
          'UPDATE token SET spentBy = @host WHERE id = @id AND expires >= @now AND coalesce(spentBy, @host) = @host',
        )
        .run({ id, host, now: this.#clock.now() })
      if (changes !== 1)
        throw new ImagerError('WRONG_KEY', { what: 'This join token was used already, or has expired' })
      return admit()
    })
    return spend.immediate()
  }

  /** The first key entry under a name stays; false where there is one. Of the own keys, and of what a recovery found. */
  keepKey(name: string, bytes: Uint8Array): boolean {
    return this.#keepKey(name, bytes, () => {})
  }

  /** The same of what a host brings, within the caps of its owner: throws TOO_MANY_KEYS. */
  takeKey(name: string, bytes: Uint8Array): boolean {
    return this.#keepKey(name, bytes, (now) => {
      const held = this.keysOf(partsOfEntryName(name).owner).map(({ name, sequence }) => ({ name, since: sequence }))
      requireKeyRoom('The coordinator', name, held, now)
    })
  }

  #keepKey(name: string, bytes: Uint8Array, admit: (now: number) => void): boolean {
    const now = this.#clock.now()
    const keep = this.#db.transaction(() => {
      if (this.document('key', name)) return false
      admit(now)
      this.setDocument('key', name, now, bytes)
      return true
    })
    return keep.immediate()
  }

  /** What one host had kept, without the bytes; `sequence` is when. */
  keysOf(owner: Hex): { name: string; sequence: number }[] {
    return this.#statements
      .prepare<[string, string], { name: string; sequence: number }>(
        "SELECT name, sequence FROM sound_document WHERE kind = 'key' AND name > ? AND name < ? ORDER BY name",
      )
      .all(owner, `${owner}g`)
  }

  /** Whatever was there. */
  setDocument(kind: string, name: string, sequence: number, bytes: Uint8Array): void {
    this.#db.prepare('INSERT OR REPLACE INTO document VALUES (?, ?, ?, ?)').run(kind, name, sequence, bytes)
  }

  dropDocument(kind: string, name: string): void {
    this.#db.prepare('DELETE FROM document WHERE kind = ? AND name = ?').run(kind, name)
  }

  /** What a host says of itself, at most once a minute: it repeats what was not kept. True where it was. */
  keepAddress(host: Hex, sequence: number, bytes: Uint8Array): boolean {
    const now = this.#clock.now()
    const last = this.#addressKept.get(host) ?? Number.NEGATIVE_INFINITY
    if (now >= last && now - last < ADDRESS_EVERY_MS) return false
    if ((this.document('address', host)?.sequence ?? 0) >= sequence) return false
    this.setDocument('address', host, sequence, bytes)
    this.#addressKept.set(host, now)
    return true
  }

  /** Peers that were not there when all others were asked for their shards, and what else they hold. */
  unsurveyed(fleet: Hex): Hex[] {
    const kept = this.document(UNSURVEYED, fleet)
    return kept ? (JSON.parse(kept.bytes.toString()) as Hex[]) : []
  }

  noteUnsurveyed(fleet: Hex, hosts: readonly Hex[]): void {
    if (hosts.length === 0) this.dropDocument(UNSURVEYED, fleet)
    else this.setDocument(UNSURVEYED, fleet, 0, Buffer.from(JSON.stringify(hosts)))
  }

  document(kind: string, name: string): { sequence: number; bytes: Buffer } | undefined {
    return this.#db
      .prepare<[string, string], { sequence: number; bytes: Buffer }>(
        'SELECT sequence, bytes FROM sound_document WHERE kind = ? AND name = ?',
      )
      .get(kind, name)
  }

  /** Another text whenever one of these kinds is added, replaced or dropped. */
  stampOf(kinds: readonly string[]): string {
    const stamp = this.#statements.prepare<[string], string>(
      "SELECT count(*) || '.' || coalesce(max(rowid), 0) FROM document WHERE kind = ?",
    )
    return kinds.map((kind) => stamp.pluck().get(kind) ?? '').join(' ')
  }

  documents(kind: string): { name: string; sequence: number; bytes: Buffer }[] {
    return this.#db
      .prepare<[string], { name: string; sequence: number; bytes: Buffer }>(
        'SELECT name, sequence, bytes FROM sound_document WHERE kind = ? ORDER BY name',
      )
      .all(kind)
  }

  /** Are an owner's keys on so many of the peers that are there that a recovery finds them? */
  keysHeld(owner: Hex, peers: readonly Pick<HostRow, 'host' | 'role' | 'away' | 'suspect'>[]): boolean {
    const hosts = peers.filter(({ role }) => role === 'peer').map(({ host }) => host)
    return isHeldWidely(this.keyHolders(owner, hosts), peers)
  }

  /** Those of `hosts` that hold each of them. */
  keyHolders(owner: Hex, hosts: readonly Hex[]): Set<Hex> {
    const keys = this.keysOf(owner).map(({ name, sequence }) => ({ name, version: String(sequence) }))
    return this.deliveries.holders('key', keys, hosts)
  }

  /**
   * What may come in storms and has been said within a minute is counted there. The sentence tells cause and host: names are
   * unique, and strangers are one.
   */
  record(kind: EventKind, host: Hex, sentence: string): void {
    const [now, text] = [this.#clock.now(), sentence.slice(0, SENTENCE_LENGTH)]
    const counted = COUNTED.includes(kind)
    if (counted && this.#countAgain(kind, text, now)) return
    const { lastInsertRowid } = this.#statements
      .prepare('INSERT INTO event (time, kind, host, sentence) VALUES (?, ?, ?, ?)')
      .run(now, kind, host, text)
    const oldest = counted ? '@last' : '(SELECT n FROM event WHERE kind = @kind ORDER BY n DESC LIMIT 1 OFFSET @kept)'
    this.#statements
      .prepare(`DELETE FROM event WHERE kind = @kind AND n <= ${oldest}`)
      .run({ kind, last: Number(lastInsertRowid) - EVENTS_KEPT, kept: EVENTS_KEPT })
  }

  #countAgain(kind: EventKind, sentence: string, now: number): boolean {
    const { changes } = this.#statements
      .prepare(`UPDATE event SET count = count + 1 WHERE n =
        (SELECT n FROM event WHERE kind = ? AND sentence = ? AND time > ? ORDER BY n DESC LIMIT 1)`)
      .run(kind, sentence, now - COUNTED_MS)
    return changes === 1
  }

  /** Newest last: the first of those after number `after`. */
  events(after = 0, limit = 1000): EventRow[] {
    return this.#db
      .prepare<[number, number], EventRow>('SELECT * FROM event WHERE n > ? ORDER BY n LIMIT ?')
      .all(after, limit)
  }
}
