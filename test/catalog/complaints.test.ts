import test from 'ava'
import type { Hex } from '../../src/base/ids.js'
import { COMPLAINT_SHOWN_MS, COMPLAINTS_AN_APPLIANCE } from '../../src/base/limits.js'
import type { LocalCatalog } from '../../src/catalog/local.js'
import {
  addPeers,
  held,
  hex,
  idOf,
  member,
  nextStripe,
  openPlain,
  placement,
  recordsOf,
  TurnedClock,
  temporaryFolder,
} from './harness.js'

interface Server {
  readonly host: Hex
  readonly lease: Hex
  readonly run: Hex
}

async function server(catalog: LocalCatalog, name: string): Promise<Server> {
  const host = hex(32)
  catalog.members.admit(member(host, 'appliance', name))
  return { host, ...(await catalog.begin({ appliance: host, volume: hex(16), source: name, label: '' })) }
}

async function stripeOf(catalog: LocalCatalog, peers: Hex[], by: Server, block: string, m = 1): Promise<number> {
  const stripe = nextStripe(catalog, by.host, by)
  const request = placement(2, m, peers, stripe)
  await catalog.place(by.lease, request)
  const { k, packBytes } = request
  await catalog.commit(by.lease, { stripe, k, m, packBytes, records: recordsOf(idOf(block)), shards: held(request) })
  return stripe
}

test('one appliance strikes a stripe for itself, a second one or who looks after the fleet for all; who left says nothing', async (t) => {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const clock = new TurnedClock()
  const catalog = openPlain(folder.path, clock)
  t.teardown(() => catalog.close())
  const peers = addPeers(catalog, 5)
  const [writer, first, second, third] = [
    await server(catalog, 'writer'),
    await server(catalog, 'first'),
    await server(catalog, 'second'),
    await server(catalog, 'third'),
  ]
  const stripe = await stripeOf(catalog, peers, writer, 'block')
  const offered = async ({ lease }: Server, block = 'block') => (await catalog.lookup(lease, idOf(block), 1))[0] !== 0n
  const sentences = () =>
    catalog.registry.events(0, 100).flatMap(({ kind, sentence }) => (kind === 'alarm' ? [sentence] : []))
  t.deepEqual(await catalog.condition(), [])

  await catalog.complain([stripe, stripe, 999], first.host, false)
  await catalog.complain([stripe], first.host, false)
  t.false(await offered(first))
  t.true((await offered(second)) && (await offered(third)) && (await offered(writer)))
  t.deepEqual(sentences(), ['first found that 1 stripe that writer stored does not hold what it said'])
  const [condition, ...more] = await catalog.condition()
  t.is(condition?.code, 'FALSE_RECORDS')
  t.regex(condition?.remedy ?? '', /`imager remove writer`/)
  t.is(more.length, 0)

  await catalog.complain([stripe], second.host, false)
  t.false((await offered(third)) || (await offered(writer)))
  t.regex(sentences().at(-1) ?? '', /1 stripe that writer stored: nobody refers to what is in it any more/)
  const [both] = await catalog.condition()
  t.regex(both?.sentence ?? '', /^first, second found/)
  catalog.removeHost(second.host, hex(32), true)
  t.true(await offered(third), 'one of the two is gone')

  const other = await stripeOf(catalog, peers, writer, 'other')
  await catalog.complain([other])
  t.false(await offered(third, 'other'), 'who looks after the fleet needs no second')
  clock.time += COMPLAINT_SHOWN_MS
  t.deepEqual(await catalog.condition(), [], 'status does not say it for ever')
  t.false(await offered(third, 'other'), 'it is struck for ever')
})

test('an appliance strikes so many and no more, and is offered its own first', async (t) => {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const catalog = openPlain(folder.path)
  t.teardown(() => catalog.close())
  const peers = addPeers(catalog, 5)
  const [own, liar] = [await server(catalog, 'own'), await server(catalog, 'liar')]
  const mine = await stripeOf(catalog, peers, own, 'block')
  const safer = await stripeOf(catalog, peers, liar, 'block', 3)
  const found = async ({ lease }: Server) =>
    Number(((await catalog.lookup(lease, idOf('block'), 1))[0] as bigint) >> 16n)
  t.is(await found(own), mine)
  t.is(await found(liar), safer)
  t.is(await found(await server(catalog, 'other')), safer, 'others are offered the safest')
  const many: number[] = []
  for (let at = 0; at < COMPLAINTS_AN_APPLIANCE + 1; at++) many.push(await stripeOf(catalog, peers, own, `block ${at}`))
  await catalog.complain(many, liar.host, false)
  const struck = await Promise.all(
    many.map(async (_, at) => (await catalog.lookup(liar.lease, idOf(`block ${at}`), 1))[0] === 0n),
  )
  t.is(struck.filter(Boolean).length, COMPLAINTS_AN_APPLIANCE)
  t.is(await found(own), mine)
})
