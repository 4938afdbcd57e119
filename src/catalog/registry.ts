/**
 * What the coordinator keeps beside the data's records: invite tokens, signed documents (membership, keybags) and the
 * events that people read. A token is spent in the transaction that admits its bearer: see `redeem`.
 */
import type Database from 'better-sqlite3'
import type { Clock } from '../base/clock.js'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { TOKEN_LIFETIME_MS } from '../base/limits.js'
import type { JoinRole } from '../keys/token.js'

export type EventKind = 'join' | 'refusal' | 'snapshot' | 'fleet'

export interface EventRow {
  n: number
  time: number
  kind: EventKind
  /** Whom it is about. */
  host: Hex
  sentence: string
}

export interface Token {
  secret: Buffer
  role: JoinRole
  expires: number
  spentBy: Hex | null
}

/** Refusals can be provoked by strangers: only the newest of all events stay. */
const EVENTS_KEPT = 10_000
const SENTENCE_LENGTH = 1000

export class Registry {
  readonly #db: Database.Database
  readonly #clock: Clock

  constructor(db: Database.Database, clock: Clock) {
    this.#db = db
    this.#clock = clock
  }

  addToken(id: Hex, secret: Uint8Array, role: JoinRole): number {
    const expires = this.#clock.now() + TOKEN_LIFETIME_MS
    this.#db.prepare('DELETE FROM token WHERE expires < ?').run(this.#clock.now())
    this.#db.prepare('INSERT INTO token VALUES (?, ?, ?, ?, NULL)').run(id, secret, role, expires)
    return expires
  }

  /** What is known of a token; nothing once it has expired. The caller checks the proof. */
  token(id: Hex): Token | undefined {
    const row = this.#db.prepare<[Hex], Token>('SELECT secret, role, expires, spentBy FROM token WHERE id = ?').get(id)
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

  /** False when an equal or newer one is kept already. */
  keepDocument(kind: string, name: string, sequence: number, bytes: Uint8Array): boolean {
    const { changes } = this.#db
      .prepare(`INSERT INTO document VALUES (?, ?, ?, ?) ON CONFLICT (kind, name) DO UPDATE
        SET sequence = excluded.sequence, bytes = excluded.bytes WHERE excluded.sequence > sequence`)
      .run(kind, name, sequence, bytes)
    return changes === 1
  }

  /** Whatever was there. */
  setDocument(kind: string, name: string, sequence: number, bytes: Uint8Array): void {
    this.#db.prepare('INSERT OR REPLACE INTO document VALUES (?, ?, ?, ?)').run(kind, name, sequence, bytes)
  }

  document(kind: string, name: string): { sequence: number; bytes: Buffer } | undefined {
    return this.#db
      .prepare<[string, string], { sequence: number; bytes: Buffer }>(
        'SELECT sequence, bytes FROM document WHERE kind = ? AND name = ?',
      )
      .get(kind, name)
  }

  documents(kind: string): { name: string; sequence: number; bytes: Buffer }[] {
    return this.#db
      .prepare<[string], { name: string; sequence: number; bytes: Buffer }>(
        'SELECT name, sequence, bytes FROM document WHERE kind = ? ORDER BY name',
      )
      .all(kind)
  }

  record(kind: EventKind, host: Hex, sentence: string): void {
    const { lastInsertRowid } = this.#db
      .prepare('INSERT INTO event (time, kind, host, sentence) VALUES (?, ?, ?, ?)')
      .run(this.#clock.now(), kind, host, sentence.slice(0, SENTENCE_LENGTH))
    this.#db.prepare('DELETE FROM event WHERE n <= ?').run(Number(lastInsertRowid) - EVENTS_KEPT)
  }

  /** Newest last, those after number `after`. */
  events(after = 0, limit = 1000): EventRow[] {
    const rows = this.#db
      .prepare<[number, number], EventRow>('SELECT * FROM event WHERE n > ? ORDER BY n DESC LIMIT ?')
      .all(after, limit)
    return rows.reverse()
  }
}
