import test from 'ava'
import { ImagerError } from '../../src/base/errors.js'
import { KEYS_A_DAY, TOKEN_LIFETIME_MS } from '../../src/base/limits.js'
import { isHeldWidely } from '../../src/catalog/deliveries.js'
import { runName, stripeOf } from '../../src/stripes/names.js'
import { hex, member, openPlain, TurnedClock, temporaryFolder } from './harness.js'

function open(t: { teardown(fn: () => void): void }) {
  const folder = temporaryFolder()
  const clock = new TurnedClock()
  const catalog = openPlain(folder.path, clock)
  t.teardown(() => {
    catalog.close()
    folder.remove()
  })
  return { catalog, registry: catalog.registry, clock }
}

test('a token is spent together with what it admits, or not at all', (t) => {
  const { catalog, registry, clock } = open(t)
  const [token, host] = [hex(16), hex(32)]
  registry.addToken(token, Buffer.alloc(32, 1), 'peer', registry.tokenExpiry())
  const fails = () => {
    catalog.members.admit(member(host, 'peer', 'pc'))
    throw new ImagerError('IO', { what: 'the disk is full' })
  }
  t.throws(() => registry.redeem(token, host, fails), { code: 'IO' })
  t.is(catalog.members.role(host), undefined)
  t.is(registry.token(token)?.spentBy, null)
  registry.redeem(token, host, () => catalog.members.admit(member(host, 'peer', 'pc')))
  t.is(catalog.members.role(host), 'peer')
  t.throws(() => registry.redeem(token, hex(32), () => t.fail()), { code: 'WRONG_KEY' })
  t.throws(() => registry.redeem(hex(16), host, () => t.fail()), { code: 'WRONG_KEY' })
  clock.time += TOKEN_LIFETIME_MS
  t.truthy(registry.token(token))
  clock.time += 1
  t.is(registry.token(token), undefined)
  t.throws(() => registry.redeem(token, host, () => t.fail()), { code: 'WRONG_KEY' })
})

test('of the key entries of one name the first stays', (t) => {
  const { registry } = open(t)
  t.true(registry.keepKey('a', Buffer.from('first')))
  t.false(registry.keepKey('a', Buffer.from('other')))
  t.is(registry.document('key', 'a')?.bytes.toString(), 'first')
  t.is(registry.documents('key').length, 1)
})

test('events are told from a number on, and their table does not grow without end', (t) => {
  const { catalog, registry } = open(t)
  catalog.write(() => {
    for (let i = 1; i <= 10_050; i++) registry.record('refusal', hex(32), `${i}`)
  })
  const events = registry.events(10_040)
  t.deepEqual(
    events.map((event) => event.sentence),
    ['10041', '10042', '10043', '10044', '10045', '10046', '10047', '10048', '10049', '10050'],
  )
  t.is(registry.events(0, 20_000).length, 10_000)
})

test('who is no longer a member keeps the shards that are on record', async (t) => {
  const { catalog } = open(t)
  const [gone, stays] = [hex(32), hex(32)]
  for (const host of [gone, stays]) catalog.members.admit(member(host, 'peer', host.slice(0, 4)))
  const stripe = stripeOf(catalog.names.number(runName(hex(32), hex(8))), 4)
  await catalog.importStripes([
    {
      stripe,
      k: 1,
      m: 1,
      packBytes: 100,
      shards: [gone, stays].map((host, index) => ({ index, host, shard: hex(16), root: hex(32) })),
      records: new Uint8Array(),
      births: new BigUint64Array(),
    },
  ])
  catalog.members.admitOnly([member(stays, 'peer', 'stays')])
  t.is(catalog.members.role(gone), undefined)
  t.deepEqual(
    (await catalog.hosts()).map((row) => row.name),
    ['stays'],
  )
  t.is((await catalog.stripes([stripe]))[0]?.shards[0]?.host, gone)
})

test('a storm of refusals is a line a cause and minute, counted, and pushes nobody else out', (t) => {
  const { catalog, registry, clock } = open(t)
  const host = hex(32)
  registry.record('join', host, 'pc-1 joined as peer')
  catalog.write(() => {
    for (let i = 0; i < 20_000; i++) registry.record('refusal', hex(32), `Refused a stranger: ${i % 3}`)
  })
  t.deepEqual(
    registry.events().map(({ kind, count }) => [kind, count]),
    [['join', 1], ...[6667, 6667, 6666].map((count) => ['refusal', count])],
  )
  clock.time += 60_000
  registry.record('refusal', hex(32), 'Refused a stranger: 0')
  t.is(registry.events().at(-1)?.count, 1, 'a minute later it is said again')
  catalog.write(() => {
    for (let i = 0; i < 20_000; i++) registry.record('refusal', hex(32), `Refused a stranger: cause ${i}`)
  })
  registry.record('rename', host, 'pc-1 is pc-2')
  t.deepEqual(
    registry.events(0, 50_000).flatMap(({ kind }) => (kind === 'refusal' ? [] : [kind])),
    ['join', 'rename'],
  )
})

test('a key is held when it is on two peers and on most of those that are there', (t) => {
  const peer = (host: string, more = {}) => ({ host, role: 'peer' as const, away: false, suspect: '', ...more })
  const five = ['a', 'b', 'c', 'd', 'e'].map((host) => peer(host))
  const held = (holders: string[], peers = five) => isHeldWidely(new Set(holders), peers)
  t.deepEqual([held(['a', 'b']), held(['a', 'b', 'c'])], [false, true])
  t.false(held(['a'], five.slice(0, 1)), 'one peer is never enough')
  t.true(held(['a', 'b'], [...five.slice(0, 3), peer('d', { away: true }), peer('e', { suspect: 'empty' })]))
  t.false(held(['a', 'd', 'e'], [...five.slice(0, 3), peer('d', { away: true }), peer('e', { suspect: 'empty' })]))
  t.false(held(['x', 'y', 'z']), 'who left the fleet does not count')
})

test("a host's keys are held where each of them is", (t) => {
  const { registry, clock } = open(t)
  const owner = hex(32)
  const peers = [hex(32), hex(32)].map((host) => ({ host, role: 'peer' as const, away: false, suspect: '' }))
  const hosts = peers.map(({ host }) => host)
  t.false(registry.keysHeld(owner, peers), 'there is none')
  const [first, second] = [`${owner}${hex(32)}`, `${owner}${hex(32)}`]
  registry.keepKey(first, Buffer.from('entry'))
  const version = String(clock.now())
  const note = (name: string, refused: string | null, of = version) => {
    const delivery = { kind: 'key' as const, name, version: of, due: 1, refused }
    for (const { host } of peers) registry.deliveries.note(host, delivery)
  }
  note(first, 'its signer may not')
  t.false(registry.keysHeld(owner, peers))
  note(first, null, '7')
  t.false(registry.keysHeld(owner, peers), 'that was another')
  note(first, null)
  t.true(registry.keysHeld(owner, peers))
  t.false(registry.keysHeld(hex(32), peers), "another's")
  registry.keepKey(second, Buffer.from('entry'))
  t.false(registry.keysHeld(owner, peers))
  note(second, null)
  registry.deliveries.forget(peers[0]?.host ?? '')
  t.deepEqual([...registry.keyHolders(owner, hosts)], [hosts[1]])
})

test('of a host in wrong hands the coordinator takes four new keys a day, and what it had of others stays', (t) => {
  const { registry, clock } = open(t)
  const [owner, other] = [hex(32), hex(32)]
  const take = (of: string, key: number, use = 0) => {
    const name = `${of}${key.toString(16).padStart(32, '0')}${use.toString(16).padStart(32, '0')}`
    return registry.takeKey(name, Buffer.from(name))
  }
  for (let key = 0; key < KEYS_A_DAY; key++) t.true(take(owner, key))
  t.throws(() => take(owner, 9), { code: 'TOO_MANY_KEYS', message: /The coordinator.*4 new ones within a day/ })
  t.true(take(owner, 0, 1), 'the same key for another reader')
  t.false(take(owner, 0), 'the first stays')
  t.true(take(other, 9))
  clock.time += 86_400_000
  t.true(take(owner, 9))
})
