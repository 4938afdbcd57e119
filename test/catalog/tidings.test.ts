import test from 'ava'
import { tidingsOf } from '../../src/catalog/tidings.js'
import { runName, shardOf, stripeOf } from '../../src/stripes/names.js'
import { hex, member, offer, openPlain, temporaryFolder } from './harness.js'

test('damage is a line for each host and kind, however many shards it is; what is well again is a correction', (t) => {
  const bad = (host: string, fact: 'missing' | 'corrupt' | 'wrong length') => ({ host, to: 'bad' as const, fact })
  const turned = [
    ...Array.from({ length: 3000 }, () => bad('a', 'missing')),
    bad('a', 'corrupt'),
    bad('b', 'wrong length'),
    { host: 'b', to: 'good' as const, fact: 'present' as const },
    { host: 'b', to: 'good' as const, fact: 'proved' as const },
  ]
  t.deepEqual(
    tidingsOf(turned, (host) => `pc-${host}`, 's'),
    [
      ['alarm', 'a', '3000 shards on pc-a are missing; found by pc-s'],
      ['alarm', 'a', '1 shard on pc-a is corrupt; found by pc-s'],
      ['alarm', 'b', '1 shard on pc-b has the wrong length; found by pc-s'],
      ['correction', 'b', '2 shards on pc-b are as placed again; found by pc-s'],
    ],
  )
  t.deepEqual(
    tidingsOf(turned.slice(-1), (host) => host, ''),
    [['correction', 'b', '1 shard on b is as placed again']],
  )
  t.deepEqual(
    tidingsOf([], (host) => host, ''),
    [],
  )
})

test('what is found is an event, once; a store that lost its shards may have lost its documents', async (t) => {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const catalog = openPlain(folder.path)
  t.teardown(() => catalog.close())
  const [writer, host] = [hex(32), hex(32)]
  const name = runName(writer, hex(8))
  const stripe = stripeOf(catalog.names.number(name), 4)
  const shard = shardOf(name, stripe, 0)
  catalog.members.admit(member(writer, 'appliance', 'server'))
  catalog.members.admit(member(host, 'peer', 'pc-1'))
  const shards = [{ index: 0, host, shard, root: hex(32) }]
  const empty = { records: new Uint8Array(), births: new BigUint64Array() }
  await catalog.importStripes([{ stripe, k: 1, m: 0, packBytes: 100, shards, ...empty }])
  const learn = (fact: 'corrupt' | 'proved') => catalog.learn([{ stripe, shard, fact }], [], writer, false)
  for (const fact of ['proved', 'corrupt', 'corrupt', 'proved', 'proved'] as const) await learn(fact)
  const said = () => catalog.registry.events().map(({ kind, sentence, count }) => [kind, sentence, count])
  const found = [
    ['alarm', '1 shard on pc-1 is corrupt; found by server', 1],
    ['correction', '1 shard on pc-1 is as placed again; found by server', 1],
  ]
  t.deepEqual(said(), found)
  const key = { kind: 'key' as const, name: writer, version: '1', due: 1, refused: null }
  catalog.registry.deliveries.note(host, key)
  catalog.heartbeat(host, offer('disk'))
  catalog.heartbeat(host, { ...offer('disk'), store: { id: hex(16), sequence: 0, shards: hex(16) } })
  t.deepEqual(catalog.registry.deliveries.of(host), [], 'it has another store')
  t.is(said().at(-1)?.[0], 'alarm')
})
