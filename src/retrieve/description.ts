/** What a snapshot's root page says about it, as JSON. Only its appliance could have sealed it; its form is checked all the same. */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { KEYS_AN_OWNER } from '../base/limits.js'
import { Id } from '../keys/fields.js'

const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const Flaws = v.object({
  bytes: Count,
  ranges: v.array(v.object({ start: Count, length: Count })),
  files: v.array(v.string()),
})
const NONE = { bytes: 0, ranges: [], files: [] }
const Schema = v.object({
  version: v.literal(1),
  snapshot: v.string(),
  timeMs: Count,
  /** Ids of the dedupe domains' keys: each block is sealed under one of them, those that were new under the first. */
  domains: v.pipe(v.array(Id), v.minLength(1), v.maxLength(KEYS_AN_OWNER)),
  /** Model, serial and path of the disk. */
  source: v.string(),
  label: v.string(),
  /** The static view that was obtained. */
  view: v.string(),
  sizeBytes: Count,
  table: v.object({ kind: v.string(), id: v.string(), sectorBytes: Count }),
  volumes: v.array(
    v.object({
      index: Count,
      /** Of a logical volume: group and name. */
      name: v.optional(v.string()),
      start: Count,
      length: Count,
      /** Start and length of each, where the volume is no single piece of the disk. */
      pieces: v.optional(v.array(v.tuple([Count, Count]))),
      fileSystem: v.string(),
      label: v.string(),
      uuid: v.string(),
      clusterBytes: Count,
      /** Number of the root folder; null where the volume was read raw. */
      root: v.nullable(Count),
    }),
  ),
  /** In use, but left out on purpose; restores as zeros. */
  leftOut: v.optional(v.array(v.object({ partition: Count, what: v.string(), path: v.string(), bytes: Count })), []),
  /** What the source refused to give, and the first files that it belongs to. */
  unreadable: v.optional(Flaws, NONE),
  /** What may be of several moments, and the first files that it belongs to. */
  torn: v.optional(Flaws, NONE),
})
export type Description = Omit<v.InferOutput<typeof Schema>, 'version'>

export function encodeDescription(description: Description): string {
  return JSON.stringify({ version: 1, ...description })
}

/** Throws CORRUPT. */
export function decodeDescription(json: string): Description {
  try {
    return v.parse(Schema, JSON.parse(json))
  } catch (cause) {
    throw new ImagerError('CORRUPT', { what: 'The root page of the snapshot does not describe one' }, { cause })
  }
}
