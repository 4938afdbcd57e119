import test from 'ava'
import { type Grant, type GrantUse, signGrant, verifyGrant } from '../../src/keys/grant.js'
import { Secret } from '../../src/native.js'
import { fleet, hostOf, makeFleet, otherFleet, shard } from './fleet.js'

const known = makeFleet()
const grant: Grant = {
  fleet,
  term: 1,
  operation: 'put',
  shard,
  lengthBytes: 4096,
  host: hostOf(known.peer),
  bearer: hostOf(known.appliance),
  expires: 2000,
}
const use: GrantUse = {
  membership: known.membership,
  fleet,
  host: grant.host,
  bearer: grant.bearer,
  shard,
  lengthBytes: 4096,
  now: 1000,
}

test('the grant fits the use it was made for', (t) => {
  t.deepEqual(verifyGrant(signGrant(grant, known.coordinator), use), grant)
})

const misfits: [string, Partial<Grant>, Partial<GrantUse>][] = [
  ['fleet', { fleet: otherFleet }, {}],
  ['term', { term: 2 }, {}],
  ['host', {}, { host: hostOf(known.coordinator) }],
  ['bearer', {}, { bearer: hostOf(known.coordinator) }],
  ['shard', {}, { shard: '00'.repeat(16) }],
  ['lengthBytes', {}, { lengthBytes: 4097 }],
]
for (const [field, change, other] of misfits) {
  test(`a grant whose ${field} does not fit is refused by name`, (t) => {
    const bytes = signGrant({ ...grant, ...change }, known.coordinator)
    const error = t.throws(() => verifyGrant(bytes, { ...use, ...other }), { code: 'NOT_ALLOWED' }) as unknown
    t.like(error, { details: { field } })
  })
}

test('a grant that ran out names both clocks, and what to type where one is wrong', (t) => {
  const error = t.throws(() => verifyGrant(signGrant(grant, known.coordinator), { ...use, now: 3_602_000 }), {
    code: 'GRANT_EXPIRED',
    message: /does not fit: expires.*1970-01-01T00:00:02.000Z.*1970-01-01T01:00:02.000Z.*timedatectl set-ntp true/,
  }) as unknown
  t.like(error, { details: { field: 'expires' } })
  t.throws(() => verifyGrant(signGrant(grant, known.coordinator), { ...use, now: 2000 }), { code: 'GRANT_EXPIRED' })
})

test('only the coordinator of the membership grants', (t) => {
  for (const signer of [known.appliance, known.root, Secret.random()]) {
    const error = t.throws(() => verifyGrant(signGrant(grant, signer), use), { code: 'NOT_ALLOWED' }) as unknown
    t.like(error, { details: { field: 'signer' } })
  }
})

test('another operation, or a shard larger than there are, is refused', (t) => {
  const remove = signGrant({ ...grant, operation: 'delete' } as unknown as Grant, known.coordinator)
  t.throws(() => verifyGrant(remove, use), { code: 'CORRUPT', message: /operation/ })
  const huge = signGrant({ ...grant, lengthBytes: 2 ** 40 }, known.coordinator)
  t.throws(() => verifyGrant(huge, { ...use, lengthBytes: 2 ** 40 }), { code: 'CORRUPT' })
})
