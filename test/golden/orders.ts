/** The values behind `forget-v1.bin`, `hold-v1.bin`, `release-v1.bin` and `policy-v1.bin`, by the admin of `membership-v1.bin`. */
import type { OrderBody } from '../../src/keys/orders.js'
import { signOrder } from '../../src/keys/orders.js'
import { type PolicyBody, signPolicy } from '../../src/keys/policy.js'
import { Secret } from '../../src/native.js'
import { fleet } from '../keys/fleet.js'

const seed = Secret.fromWords(`${'abandon '.repeat(23)}art`)
const admin = seed.derive('imager v1 golden admin')
const [term, time] = [3, 1_800_000_000_000]
const appliance = 'c1'.repeat(32)
const [volume, other] = ['d1'.repeat(16), 'd2'.repeat(16)]

export const forget: OrderBody<'forget'> = {
  fleet,
  term,
  time,
  appliance,
  snapshots: ['5a'.repeat(16), '5b'.repeat(16)],
}
export const hold: OrderBody<'hold'> = { fleet, term, time, appliance, snapshots: null }
export const release: OrderBody<'release'> = { fleet, term, time, hold: 'e1'.repeat(32) }
export const policy: PolicyBody = {
  ...{ fleet, term, sequence: 7, time },
  rules: {
    ...{ tolerate: 2, maxAgeMs: 108_000_000 },
    keep: { last: 3, hourly: 0, daily: 14, weekly: 8, monthly: 12, yearly: 3 },
  },
  volumes: [
    { appliance, volume, tolerate: null, maxAgeMs: 0, keep: null },
    { appliance, volume: other, tolerate: 1, maxAgeMs: null, keep: null },
  ],
  quotas: [{ appliance, bytes: 2_000_000_000_000 }],
}

export const orders = (): Record<string, Buffer> => ({
  forget: signOrder('forget', forget, admin),
  hold: signOrder('hold', hold, admin),
  release: signOrder('release', release, admin),
  policy: signPolicy(policy, admin),
})
