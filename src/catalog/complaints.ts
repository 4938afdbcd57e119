/**
 * Who found that a stripe does not hold what it is said to. One appliance alone strikes it for itself only: a liar must not take
 * away what others stored. A second one, or who looks after the fleet, strikes it for all. Only SQL and that rule.
 */
import type Database from 'better-sqlite3'
import type { Hex } from '../base/ids.js'
import { COMPLAINT_SHOWN_MS, COMPLAINTS_AN_APPLIANCE } from '../base/limits.js'
import { formatCount } from '../base/units.js'
import type { Line } from '../keys/replacement.js'
import type { Registry } from './registry.js'
import type { Condition } from './types.js'

/** By who looks after the fleet: nobody else has to say so too. */
const TRUSTED = ''

interface Row {
  readonly stripe: number
  readonly by: Hex
  readonly time: number
  readonly writer: Hex
}

export interface ComplaintParts {
  readonly line: () => Line
  readonly members: { name(host: Hex): string; role(host: Hex): unknown }
  readonly registry: Registry
}

export class Complaints {
  readonly #parts: ComplaintParts
  readonly #all: Database.Statement<[], Row>
  readonly #count: Database.Statement<[Hex], number>
  readonly #writer: Database.Statement<[number], Hex>
  readonly #add: Database.Statement<[number, Hex, number]>

  constructor(db: Database.Database, parts: ComplaintParts) {
    this.#parts = parts
    this.#all = db.prepare(`SELECT complaint.stripe AS stripe, complaint.by AS by, complaint.time AS time, writer
      FROM sound_complaint AS complaint JOIN sound_stripe AS stripe USING (stripe)`)
    this.#count = db.prepare<[Hex], number>('SELECT count(*) FROM complaint WHERE by = ?').pluck()
    this.#writer = db.prepare<[number], Hex>('SELECT writer FROM sound_stripe WHERE stripe = ? AND committed').pluck()
    this.#add = db.prepare('INSERT OR IGNORE INTO complaint VALUES (?, ?, ?)')
  }

  /** What is more than one appliance may say is left out: it goes on storing its own copies. */
  add(stripes: readonly number[], by: Hex, trusted: boolean, now: number): void {
    const struck = this.struckFor(undefined)
    const found = new Map<Hex, number>()
    const who = trusted ? TRUSTED : by
    for (const stripe of stripes) {
      const writer = this.#writer.get(stripe)
      if (writer === undefined || (this.#count.get(who) ?? 0) >= COMPLAINTS_AN_APPLIANCE) continue
      if (this.#add.run(stripe, who, now).changes === 1) found.set(writer, (found.get(writer) ?? 0) + 1)
    }
    for (const [writer, count] of found)
      this.#tell(writer, `${this.#name(who)} found that ${said(count, this.#name(writer))}`)
    const news = new Map<Hex, number>()
    for (const { stripe, writer } of this.#rows()) {
      if (!this.struckFor(undefined).has(stripe) || struck.has(stripe)) continue
      struck.add(stripe)
      news.set(writer, (news.get(writer) ?? 0) + 1)
    }
    for (const [writer, count] of news) {
      const what = formatCount(count, 'stripe')
      this.#tell(
        writer,
        `${what} that ${this.#name(writer)} stored: nobody refers to what is in it any more, it was found false twice`,
      )
    }
  }

  /** Stripes that are not offered to this host; undefined: to nobody. */
  struckFor(host: Hex | undefined): Set<number> {
    const line = this.#parts.line()
    const by = new Map<number, Set<Hex>>()
    for (const row of this.#rows()) by.set(row.stripe, (by.get(row.stripe) ?? new Set()).add(line.originOf(row.by)))
    const own = host === undefined ? undefined : line.originOf(host)
    const isStruck = (hosts: Set<Hex>) => hosts.size > 1 || hosts.has(TRUSTED) || (own !== undefined && hosts.has(own))
    return new Set([...by].flatMap(([stripe, hosts]) => (isStruck(hosts) ? [stripe] : [])))
  }

  /** Of each writer, what was said lately. */
  conditions(now: number): Condition[] {
    const lately = this.#rows().filter(({ time }) => now - time < COMPLAINT_SHOWN_MS)
    return [...new Set(lately.map(({ writer }) => writer))].map((writer) => {
      const rows = lately.filter((row) => row.writer === writer)
      const found = [...new Set(rows.map(({ by }) => this.#name(by)))].sort().join(', ')
      const name = this.#name(writer)
      return {
        code: 'FALSE_RECORDS',
        sentence: `${found} found that ${said(new Set(rows.map(({ stripe }) => stripe)).size, name)}`,
        remedy: `Whoever found it stored its own copy. See who has ${name} in hand, and end what it may do: \`imager remove ${name}\`. Where one server alone says so, it may be that one.`,
      }
    })
  }

  /** Of who is a member no more nothing counts. */
  #rows(): Row[] {
    return this.#all.all().filter(({ by }) => by === TRUSTED || this.#parts.members.role(by) !== undefined)
  }

  #tell(writer: Hex, sentence: string): void {
    this.#parts.registry.record('alarm', writer, sentence)
  }

  #name(host: Hex): string {
    return host === TRUSTED ? 'The coordinator' : this.#parts.members.name(host)
  }
}

function said(stripes: number, writer: string): string {
  return `${formatCount(stripes, 'stripe')} that ${writer} stored ${stripes === 1 ? 'does' : 'do'} not hold what it said`
}
