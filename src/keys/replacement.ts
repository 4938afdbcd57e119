/**
 * Whose place a server took: a statement of the root, with the words, or of an admin, that holds in every term. Peers and coordinator
 * believe the former host nothing from then on, and its snapshots are the other's (docs/formats/membership.md). What an admin said,
 * whoever ends him says again, and the root at the beginning of each term. Pure.
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import type { Admins } from './admins.js'
import { Id, Key } from './fields.js'
import { openStatement, type Signer, signStatement } from './statement.js'

const ReplacementBody = v.strictObject({
  fleet: Id,
  /** Whose place it was. */
  former: Key,
  /** Who took it. */
  heir: Key,
})
export type Replacement = v.InferOutput<typeof ReplacementBody>

/** And the statement that says so, in base64; whose it is. */
export interface SignedReplacement extends Replacement {
  readonly text: string
  readonly signer: Hex
}

/** By the root or an admin. */
export function signReplacement(replacement: Replacement, signer: Signer): string {
  return signStatement('replacement', replacement, signer).toString('base64')
}

/** `text`: in base64. Throws FORGED where it is another fleet's, or neither the root's nor an admin's. */
export function openReplacement(text: string, by: Pick<Admins, 'fleet' | 'isAdmin'>): SignedReplacement {
  const { body, signer } = openStatement('replacement', ReplacementBody, Buffer.from(text, 'base64'))
  const forged = (what: string) => new ImagerError('FORGED', { what: `A replacement ${what}` })
  if (!by.isAdmin(signer)) throw forged("is signed neither by the fleet's root nor by an admin")
  if (body.fleet !== by.fleet) throw forged('belongs to another fleet')
  return { ...body, text, signer }
}

/** Whose place was taken by whom. */
export class Line {
  readonly #places: ReadonlyMap<Hex, SignedReplacement>

  /** Throws CORRUPT where a place was taken twice, or hosts took each other's. */
  constructor(replacements: readonly SignedReplacement[]) {
    this.#places = new Map(replacements.map((one) => [one.former, one]))
    const corrupt = (what: string) => new ImagerError('CORRUPT', { what: `A membership ${what}` })
    if (this.#places.size !== replacements.length) throw corrupt('says twice who took the place of a host')
    if (this.former.some((host) => this.#goesRound(host))) throw corrupt('has hosts that took the places of each other')
  }

  /** Of several, of two about one host the first. */
  static union(lines: readonly Line[]): Line {
    const places = new Map<Hex, SignedReplacement>()
    for (const line of lines) {
      for (const [former, place] of line.#places) if (!places.has(former)) places.set(former, place)
    }
    return new Line([...places.values()])
  }

  /** As a membership has them. */
  get texts(): string[] {
    return [...this.#places.values()].map(({ text }) => text)
  }

  /** What that key said, said again by another. */
  saidAgain(by: Hex, signer: Signer): string[] {
    const own = [...this.#places.values()].filter((one) => one.signer === by)
    return own.map(({ fleet, former, heir }) => signReplacement({ fleet, former, heir }, signer))
  }

  /** As the first membership of a term has them: all by the root. */
  textsBy(root: Signer): string[] {
    const rootKey = toHex(root.signingKey())
    return [...this.#places.values()].map(({ text, signer, ...replacement }) =>
      signer === rootKey ? text : signReplacement(replacement, root),
    )
  }

  /** Whose places were taken. */
  get former(): readonly Hex[] {
    return [...this.#places.keys()]
  }

  isFormer(host: Hex): boolean {
    return this.#places.has(host)
  }

  /** Who has the place of the host now: itself, where nobody took it. */
  heirOf(host: Hex): Hex {
    const heir = this.#places.get(host)?.heir
    return heir === undefined ? host : this.heirOf(heir)
  }

  /** Everybody who ever had the place that the host has now, or had: the one of now first. */
  of(host: Hex): Hex[] {
    const heir = this.heirOf(host)
    return [heir, ...this.former.filter((one) => this.heirOf(one) === heir)]
  }

  /** Who had its place first. */
  originOf(host: Hex): Hex {
    const before = this.former.find((one) => this.#places.get(one)?.heir === host)
    return before === undefined ? host : this.originOf(before)
  }

  #goesRound(host: Hex): boolean {
    let [at, steps] = [this.#places.get(host)?.heir, 0]
    for (; at !== undefined && steps <= this.#places.size; steps++) at = this.#places.get(at)?.heir
    return at !== undefined
  }
}

/** Where nobody took a place. */
export const NO_LINE = new Line([])
