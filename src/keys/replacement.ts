/**
 * Whose place a server took: a statement of the root, with the words, that holds in every term. Peers and coordinator believe the
 * former host nothing from then on, and its snapshots are the other's (docs/formats/membership.md). Pure.
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
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

/** And the statement that says so, in base64. */
export interface SignedReplacement extends Replacement {
  readonly text: string
}

export function signReplacement(replacement: Replacement, root: Signer): string {
  return signStatement('replacement', replacement, root).toString('base64')
}

/** `text`: in base64. Throws FORGED where it is another fleet's, or not the root's. */
export function openReplacement(text: string, fleet: Hex, rootKey: Hex): SignedReplacement {
  const { body, signer } = openStatement('replacement', ReplacementBody, Buffer.from(text, 'base64'))
  const forged = (what: string) => new ImagerError('FORGED', { what: `A replacement ${what}` })
  if (signer !== rootKey) throw forged("is not signed by the fleet's root")
  if (body.fleet !== fleet) throw forged('belongs to another fleet')
  return { ...body, text }
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
