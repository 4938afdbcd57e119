import test from 'ava'
import { decide, policyInForce, settlePolicy, takePolicies, takePolicy } from '../../src/coordinator/policy.js'
import { type Admin, appoint } from '../../src/keys/admins.js'
import { makeDismissal } from '../../src/keys/enroller.js'
import { openPolicy, signPolicy } from '../../src/keys/policy.js'
import { Secret } from '../../src/native.js'
import { hex } from '../catalog/harness.js'
import { FLEET, keyOf, type Office, openOffice, sealingOf } from './harness.js'

const partsOf = ({ home, catalog, clock }: Office) => ({ home, catalog, clock })

test('what is decided is signed once; what peers have kept comes back, and rows follow it', async (t) => {
  const office = await openOffice(t)
  const parts = partsOf(office)
  t.is(settlePolicy(parts), undefined, 'nobody decided anything')
  const { catalog } = office.connect(office.home.secret)
  const [appliance, volume] = [hex(32), hex(16)]
  await catalog.setPolicy(null, { maxAgeMs: 5 })
  await catalog.setPolicy({ appliance, volume }, { tolerate: 2 })
  t.is(settlePolicy(parts), undefined, 'it is signed already')
  const now = policyInForce(parts)
  t.like(now, { sequence: 2, isAdmins: false, signer: office.home.host })
  t.deepEqual(now?.volumes, [{ appliance, volume, tolerate: 2, maxAgeMs: null, keep: null }])
  t.deepEqual(await catalog.policy(), now?.bytes)
  t.is(office.documents.filter(({ kind }) => kind === 'policy').length, 2)

  // Its former self signed three more.
  const { bytes: _, hash: _hash, signer: _signer, isAdmins: _admins, ...body } = now as NonNullable<typeof now>
  const rules = { tolerate: 1, maxAgeMs: 7, keep: { last: 3, hourly: 0, daily: 7, weekly: 0, monthly: 0, yearly: 0 } }
  const newest = signPolicy({ ...body, sequence: 5, rules, volumes: [] }, office.home.secret)
  takePolicies(parts, [Buffer.from('junk'), signPolicy({ ...body, sequence: 9 }, Secret.random()), newest])
  t.deepEqual(office.catalog.decisions.decided(), { rules: { tolerate: 1, maxAgeMs: 7 }, volumes: [] })
  t.false(takePolicy(parts, now?.bytes as Buffer), 'an older one')
  await catalog.setPolicy(null, { maxAgeMs: null })
  t.like(
    policyInForce(parts),
    { sequence: 6, rules: { ...rules, maxAgeMs: null } },
    'what this version does not use stays',
  )
})

test("an admin's word counts before the coordinator's, and is not changed without it", async (t) => {
  const office = await openOffice(t)
  const parts = partsOf(office)
  const anna = Secret.random()
  const { catalog } = office.member('peer', 'pc-1')
  const delegation = appoint(keyOf(anna), { fleet: FLEET, term: 1 }, office.root)
  await catalog.appoint({ name: 'Anna', sealing: sealingOf(anna) }, delegation)
  const { catalog: own } = office.connect(office.home.secret)
  await own.setPolicy(null, { tolerate: 3 })
  const last = policyInForce(parts)
  const decided = decide(last, null, { maxAgeMs: 8 })
  const rules = { ...decided.rules, keep: null }
  const body = { fleet: FLEET, term: 1, sequence: 1, time: 2, rules, volumes: [], quotas: [] }
  const said = signPolicy(body, anna)
  await catalog.say('policy', said)
  await t.throwsAsync(catalog.say('policy', said), { code: 'HOST_REFUSED' })
  t.like(policyInForce(parts), { sequence: 1, isAdmins: true })
  t.deepEqual(office.catalog.decisions.decided().rules, { tolerate: 3, maxAgeMs: 8 })
  await t.throwsAsync(own.setPolicy(null, { tolerate: 1 }), { code: 'NOT_ADMIN', message: /word of Anna/ })
  await office.catalog.setPolicy(null, { tolerate: 1 })
  t.is(settlePolicy(parts), undefined)
  t.is(office.catalog.decisions.decided().rules.tolerate, 3, 'what somebody wrote past it is taken back')
  await t.throwsAsync(catalog.say('policy', signPolicy(body, Secret.random())), { code: 'FORGED' })
  const members = office.home.membership()
  t.notThrows(() => openPolicy(said, members, office.home.rootKey))

  // Who is no admin any more has signed nothing: what is decided is the coordinator's word, until somebody changes it.
  await catalog.dismiss(makeDismissal(members, members.admins[0] as Admin, office.root))
  t.like(settlePolicy(parts), { isAdmins: false, sequence: 2, rules: { tolerate: 3, maxAgeMs: 8 } })
  await t.throwsAsync(catalog.say('policy', signPolicy({ ...body, sequence: 9 }, anna)), { code: 'FORGED' })
  await own.setPolicy(null, { tolerate: 1 })
  t.is(office.catalog.decisions.decided().rules.tolerate, 1)
})
