/** Schemas of the fields that statements share. Everything has a cap, because statements come from other hosts. */
import * as v from 'valibot'

const hex = (lengthBytes: number) => v.pipe(v.string(), v.regex(new RegExp(`^[0-9a-f]{${lengthBytes * 2}}$`)))

/** Fleet, lease, snapshot, shard, volume and key ids. */
export const Id = hex(16)
/** A run of a snapshot: 64 random bits. */
export const Run = hex(8)
/** The name of a run: its writer's key, and the run. */
export const RunName = hex(40)
/** A host, which is its Ed25519 key; also X25519 keys and hashes. */
export const Key = hex(32)
/** Of a stripe in its run. */
export const StripeNumber = v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(2 ** 24 - 1))
export const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
export const Term = v.pipe(Count, v.minValue(1))
/** Milliseconds since 1970. */
export const Time = Count
export const Base64 = (maxBytes: number) =>
  v.pipe(
    v.string(),
    v.maxLength(Math.ceil(maxBytes / 3) * 4),
    v.regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/),
  )
/** A name that people see: no control or direction characters, which could rewrite a terminal's line. */
export const Name = v.pipe(v.string(), v.minLength(1), v.maxLength(64), v.regex(/^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+$/u))
/** `host:port`, `1.2.3.4:port` or `[::1]:port`. */
export const Address = v.pipe(
  v.string(),
  v.maxLength(255),
  v.regex(/^(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%A-Za-z]+\]):\d{1,5}$/),
)
export const Role = v.picklist(['coordinator', 'peer', 'appliance', 'admin', 'restorer', 'lender'])
export type Role = v.InferOutput<typeof Role>
/** Kept free: nothing here makes one, and a member in one of them may do nothing but belong. */
const KEPT_FREE: readonly Role[] = ['restorer', 'lender']

export function isKeptFree(role: Role): boolean {
  return KEPT_FREE.includes(role)
}

/** Neither a stranger, nor one who only stores, nor of a role of a later version: takes snapshots, reads names. */
export function isServed(role: Role | undefined): boolean {
  return role !== undefined && role !== 'peer' && !isKeptFree(role)
}
