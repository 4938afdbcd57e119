import test from 'ava'
import { type Grant, type GrantUse, signGrant, verifyGrant } from '../../src/keys/grant.js'
import { Secret, shardId } from '../../src/native.js'
import { runName } from '../../src/stripes/names.js'
import { fleet, hostOf, makeFleet, otherFleet } from './fleet.js'

const known = makeFleet()
const named = { writer: hostOf(known.appliance), run: '0123456789abcdef', number: 7, index: 2 }
const shard = shardId(runName(named.writer, named.run), named.number, named.index)
const grant: Grant = {
  fleet,
  term: 1,
  operation: 'put',
  lease: '1e'.repeat(16),
  ...named,
  lengthBytes: 4096,
  host: hostOf(known.peer),
  bearer: hostOf(known.appliance),
}
const use: GrantUse = {
  membership: known.membership,
  fleet,
  host: grant.host,
  bearer: grant.bearer,
  shard,
  lengthBytes: 4096,
}

test('the grant fits the use it was made for', (t) => {
  t.deepEqual(verifyGrant(signGrant(grant, known.coordinator), use), grant)
})

test('a stripe may be sent for the run of another server', (t) => {
  const bearer = hostOf(known.peer)
  const beneficiary = { host: hostOf(known.appliance), lease: '2e'.repeat(16) }
  const forAnother = { ...grant, bearer, beneficiary }
  t.deepEqual(verifyGrant(signGrant(forAnother, known.coordinator), { ...use, bearer }), forAnother)
  const vague = signGrant({ ...forAnother, beneficiary: { host: beneficiary.host } } as Grant, known.coordinator)
  t.throws(() => verifyGrant(vague, { ...use, bearer }), { code: 'CORRUPT', message: /beneficiary/ })
})

const misfits: [string, Partial<Grant>, Partial<GrantUse>][] = [
  ['fleet', { fleet: otherFleet }, {}],
  ['term', { term: 2 }, {}],
  ['host', {}, { host: hostOf(known.coordinator) }],
  ['bearer', {}, { bearer: hostOf(known.coordinator) }],
  ['shard', {}, { shard: '00'.repeat(16) }],
  ['shard', { number: 8 }, {}],
  ['shard', { index: 3 }, {}],
  ['shard', { run: '00'.repeat(8) }, {}],
  ['shard', { writer: hostOf(known.peer) }, {}],
  ['lengthBytes', {}, { lengthBytes: 4097 }],
  ['beneficiary', { beneficiary: { host: hostOf(known.peer), lease: '2e'.repeat(16) } }, {}],
  ['beneficiary', { beneficiary: { host: hostOf(Secret.random()), lease: '2e'.repeat(16) } }, {}],
  ['beneficiary', { beneficiary: { host: grant.bearer, lease: '2e'.repeat(16) } }, {}],
]
for (const [index, [field, change, other]] of misfits.entries()) {
  test(`a grant whose ${field} does not fit is refused by name (${index})`, (t) => {
    const bytes = signGrant({ ...grant, ...change }, known.coordinator)
    const error = t.throws(() => verifyGrant(bytes, { ...use, ...other }), { code: 'NOT_ALLOWED' }) as unknown
    t.like(error, { details: { field } })
  })
}

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
