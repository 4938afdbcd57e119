/** What a coordinator that gave its place away keeps of that in its state folder: as long as it lies there, it signs nothing else. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { readWhole, writeDurable } from './durable.js'
import { Key, Name, Term } from './fields.js'
import { Handed } from './handover.js'

/** `name`: of who has it; the names in that one's memberships are not for this host any more. */
const HandedOver = v.strictObject({ to: Key, name: Name, term: Term, ...Handed.entries })
export type HandedOver = v.InferOutput<typeof HandedOver>

export const HANDOVER = 'handover.json'

/** Undefined where it has handed over nothing. Throws CORRUPT: who cannot read it must not take itself for the coordinator. */
export function readHandedOver(state: string): HandedOver | undefined {
  const path = join(state, HANDOVER)
  if (!existsSync(path)) return undefined
  const text = readWhole(path).toString()
  try {
    return v.parse(HandedOver, JSON.parse(text))
  } catch (cause) {
    throw new ImagerError('CORRUPT', { what: `${path} is damaged` }, { cause })
  }
}

export function writeHandedOver(state: string, given: HandedOver): void {
  writeDurable(join(state, HANDOVER), Buffer.from(`${JSON.stringify(given)}\n`))
}
