/** The only importer of the addon: secrets and hashes live there, this file gives them their types. */
import { createRequire } from 'node:module'
import type { Hex } from './base/ids.js'

/** 32 bytes that stay in the addon. */
export interface Secret {
  save(path: string): void
  words(): string
  derive(context: string, material?: Uint8Array): Secret
  id(): Buffer
  signingKey(): Buffer
  sign(message: Uint8Array): Buffer
  sealingKey(): Buffer
  sealTo(recipientSealingKey: Uint8Array, info: Uint8Array): Buffer
  openSealed(sealed: Uint8Array, info: Uint8Array): Secret
  tag(message: Uint8Array): Buffer
  tlsKey(): Buffer
}

interface Addon {
  Secret: { random(): Secret; load(path: string): Secret; fromWords(words: string): Secret }
  verifySignature(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean
  hash(data: Uint8Array): Buffer
  inspectShard(bytes: Uint8Array): Promise<ShardFacts>
  inspectShardHeader(prefix: Uint8Array): ShardFacts
}

export interface ShardFacts {
  shard: Hex
  root: Hex
  bodyOffset: number
  bodyBytes: number
}

const addon = createRequire(import.meta.url)('../../native/index.js') as Addon

export const { Secret, verifySignature, hash, inspectShard, inspectShardHeader } = addon
