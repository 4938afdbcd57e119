/** Shapes that the catalog refuses, whoever asks: caps and counts only, no look into a database. */
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { LOOKUP_IDS, SHARD_BYTES, SHARD_FILE_BYTES } from '../base/limits.js'
import { ID_BYTES, RECORD_BYTES } from '../signatures/rows.js'
import { unfitBecause } from '../stripes/place.js'
import {
  type CommitRequest,
  type HostRow,
  type PlaceRequest,
  RECORDS_PER_STRIPE,
  type ShardPlace,
  STRIPE_WIDTH,
} from './types.js'

export function checkIds(ids: Uint8Array): void {
  const count = ids.length / ID_BYTES
  if (!Number.isInteger(count) || count > LOOKUP_IDS) refuse(`a batch of ${ids.length} bytes of signatures`)
}

export function checkPlace(r: PlaceRequest): void {
  checkScheme(r)
  checkShards(r)
  if (r.lengthBytes < 1 || r.lengthBytes > SHARD_FILE_BYTES) refuse(`a shard of ${r.lengthBytes} bytes`)
}

export function checkCommit(r: CommitRequest): void {
  checkScheme(r)
  checkShards(r)
  if (r.shards.length < r.k) refuse(`${r.shards.length} shards are held, the stripe needs ${r.k}`)
  checkRecords(r)
}

/** Whole rows, each inside its pack. */
export function checkRecords(r: { records: Uint8Array; packBytes: number; births?: BigUint64Array }): void {
  const count = r.records.length / RECORD_BYTES
  if (!Number.isInteger(count) || count > RECORDS_PER_STRIPE) refuse(`${r.records.length} bytes of records`)
  if (r.births && r.births.length !== count) refuse(`${r.births.length} birth numbers for ${count} records`)
  const rows = Buffer.from(r.records.buffer, r.records.byteOffset, r.records.byteLength)
  for (let at = ID_BYTES; at < rows.length; at += RECORD_BYTES) {
    const end = rows.readUInt32LE(at) + rows.readUInt32LE(at + 4)
    if (end > r.packBytes) refuse(`a record ends at ${end}, its pack at ${r.packBytes}`)
  }
}

/** A code of the table of errors, or what a later version calls one. */
export function checkFailure(failure: string): void {
  if (!/^[A-Z_]{1,64}$/.test(failure)) refuse('a failure that is no code')
}

/** Each host of a placement offers a store, was seen lately, has room, and is not the bearer. Throws HOST_UNFIT. */
export function requireFit(hosts: readonly HostRow[], bearer: Hex, { shards, lengthBytes }: PlaceRequest): void {
  const rows = new Map(hosts.map((row) => [row.host, row]))
  const needed = new Map<Hex, number>()
  for (const { host } of shards) needed.set(host, (needed.get(host) ?? 0) + lengthBytes)
  for (const [host, bytes] of needed) {
    const row = rows.get(host)
    const why = row ? unfitBecause(row, bearer, bytes) : 'it is not a member of the fleet'
    if (why) throw new ImagerError('HOST_UNFIT', { host: row?.name ?? host.slice(0, 8), key: host, why })
  }
}

/** Each of its shards is where there was leave to send it. */
export function requirePlaced({ shards }: CommitRequest, placed: readonly ShardPlace[]): void {
  const name = ({ index, host }: ShardPlace) => `${index} ${host}`
  const known = new Set(placed.map(name))
  if (!shards.every((shard) => known.has(name(shard)))) refuse('a stripe holds a shard that was never placed')
}

function checkScheme({ k, m, packBytes }: { k: number; m: number; packBytes: number }): void {
  if (k < 1 || m < 0 || k + m > STRIPE_WIDTH) refuse(`the scheme ${k}+${m}`)
  if (packBytes < 1 || packBytes > k * SHARD_BYTES) refuse(`a pack of ${packBytes} bytes for ${k} shards`)
}

function checkShards({ k, m, shards }: { k: number; m: number; shards: readonly ShardPlace[] }): void {
  const indexes = new Set(shards.map((shard) => shard.index))
  if (shards.length === 0 || indexes.size !== shards.length) refuse('shards named twice')
  if (shards.some(({ index }) => index < 0 || index >= k + m)) refuse('a shard beyond the scheme')
}

function refuse(what: string): never {
  throw new ImagerError('PROTOCOL', { what })
}
