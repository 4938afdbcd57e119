/** Both ends of a move in one process, cut off at each step. */
import { cpSync, existsSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { ImagerError } from '../../src/base/errors.js'
import { LocalCatalog } from '../../src/catalog/local.js'
import { STANDING_PATH } from '../../src/coordinator/moving.js'
import { replaced } from '../../src/coordinator/replaced.js'
import { isHanded, keepHanded, type Offer, takeOffer, takePlaceOver } from '../../src/fleet/taking.js'
import { createHome, type Home, openHome, prepareIdentity } from '../../src/keys/home.js'
import { serve } from '../../src/wire/server.js'
import { temporaryFolder } from '../catalog/harness.js'
import { openOffice } from './harness.js'

const AT = '127.0.0.1:7499'
const noDamage = async () => {}

/** An office, and a host that stands by to become its coordinator. */
async function stand(t: ExecutionContext) {
  const office = await openOffice(t)
  const folder = temporaryFolder()
  t.teardown(() => folder.remove())
  const secret = prepareIdentity(folder.path)
  const next = office.member('admin', 'next', secret)
  const { config } = office.home
  const membership = office.home.membership().bytes
  const home = createHome({ ...config, state: folder.path, role: 'admin', name: 'next', membership, keys: [] })
  const routes = [{ method: 'POST' as const, path: STANDING_PATH, maxBytes: 0, handle: () => ({}) }]
  const server = await serve({ tls: home.tls, listen: '127.0.0.1:0', routes, admit: () => true })
  t.teardown(() => server.close())
  const none = { freeBytes: 0, usedBytes: 0, capacityBytes: 0, storage: '', store: null }
  office.catalog.heartbeat(home.host, { addresses: [server.address], ...none })
  const itself = office.connect(office.home.secret).catalog
  const parts = { home, coordinator: next.catalog, clock: office.clock, audit: noDamage }
  return { office, home, next: next.catalog, itself, parts }
}

type Stand = Awaited<ReturnType<typeof stand>>

async function offered({ next, itself }: Stand): Promise<Offer> {
  await next.standBy()
  await itself.move('next', true)
  for (let left = 100; left > 0; left--) {
    const { offer } = await next.standBy()
    if (offer) return offer
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error('nothing was offered')
}

const isCoordinator = (t: ExecutionContext, { office }: Stand, home: Home) => {
  const opened = openHome(home.state)
  t.true(opened.coordinates)
  t.is(opened.role, 'coordinator')
  t.is(opened.coordinator.address, AT)
  t.deepEqual(opened.domainKey?.id(), office.domainKey.id())
  t.like(opened.domainEntry, { owner: home.host, term: 1, rotation: office.home.domainEntry?.rotation })
  t.deepEqual(opened.catalogKey?.id(), office.catalogKey.id())
  t.is(opened.ownEntries().length, 4, 'sealed to itself and to the words')
  const catalog = LocalCatalog.openFor(home.state)
  t.is(catalog.members.name(home.host), 'next')
  catalog.close()
  t.false(existsSync(join(home.state, 'taking')))
}

test('before the handover all goes on: the other is missing, does not like what it got, or is offered something else', async (t) => {
  const s = await stand(t)
  const { office, next, itself, parts, home } = s
  await t.throwsAsync(itself.move('next', true), { code: 'NOT_STANDING_BY' })
  t.is((await next.standBy()).offer, null)
  await t.throwsAsync(next.move('next', true), { code: 'NOT_ALLOWED' }, 'the guest does not invite himself')
  await t.throwsAsync(next.handOver(), { code: 'PROTOCOL' })
  const offer = await offered(s)
  await t.throwsAsync(itself.invite('peer'), { code: 'COORDINATOR_MOVING' })
  t.is((await itself.hosts()).length, 2, 'what reads is answered')
  await t.throwsAsync(next.movePart('signatures/7.seg', 0), { code: 'PROTOCOL' })

  await t.throwsAsync(takeOffer({ ...offer, tip: 'ff'.repeat(32) }, parts), { code: 'CORRUPT' })
  const cut = offer.files.map((one) => ({ ...one, bytes: one.bytes + 1 }))
  await t.throwsAsync(takeOffer({ ...offer, files: cut }, parts), { code: 'HOST_LIED' })
  await t.throwsAsync(takeOffer({ ...offer, keys: [] }, parts), { code: 'CORRUPT' })
  const damaged = async () => Promise.reject(new ImagerError('CORRUPT', { what: 'The catalog' }))
  await t.throwsAsync(takeOffer(offer, { ...parts, audit: damaged }), { code: 'CORRUPT' })
  t.false(isHanded(home))
  await next.standBy('the disk is full')
  await t.throwsAsync(itself.move('next', false), { code: 'NOT_MOVED', message: /the disk is full/ })
  t.true(office.home.coordinates)
  await t.notThrowsAsync(itself.invite('peer'))
  t.true(openHome(office.state).coordinates)
})

test('from the handover on the old one signs nothing, started anew or not; the new one needs nobody, wherever it is cut off', async (t) => {
  const s = await stand(t)
  const { office, home, next, itself, parts } = s
  const offer = await offered(s)
  await takeOffer(offer, parts)
  const handed = await next.handOver()
  t.deepEqual(await next.handOver(), handed, 'the answer was lost')
  t.deepEqual((await next.standBy()).handed, handed, 'and so was the question')
  t.false(office.home.coordinates)
  const again = openHome(office.state)
  t.false(again.coordinates)
  t.is(replaced(again).details.name, 'next')
  await t.throwsAsync(itself.invite('peer'), { code: 'COORDINATOR_MOVING' })
  t.is((await itself.move('next', false)).stage, 'handed over')
  await t.throwsAsync(itself.takenUp(office.home.membership().bytes.subarray(1)), { code: 'CORRUPT' })

  await keepHanded(handed, home)
  const [early, middle, late] = ['early', 'middle', 'late'].map((name) => {
    const copy = temporaryFolder()
    t.teardown(() => copy.remove())
    cpSync(home.state, join(copy.path, name), { recursive: true })
    return join(copy.path, name)
  }) as [string, string, string]
  takePlaceOver(openHome(early), AT, AT)
  isCoordinator(t, s, openHome(early))
  // The catalog is in place, and nothing else.
  renameSync(join(middle, 'taking', 'catalog'), join(middle, 'catalog'))
  takePlaceOver(openHome(middle), AT, AT)
  isCoordinator(t, s, openHome(middle))
  // All but the last file.
  cpSync(join(late, 'taking', 'handed.json'), join(late, 'handed.json'))
  const before = openHome(late)
  cpSync(join(late, 'home.json'), join(late, 'home.json.before'))
  takePlaceOver(before, AT, AT)
  renameSync(join(late, 'home.json.before'), join(late, 'home.json'))
  cpSync(join(home.state, 'taking', 'keys'), join(late, 'taking', 'keys'), { recursive: true })
  renameSync(join(late, 'handed.json'), join(late, 'taking', 'handed.json'))
  takePlaceOver(openHome(late), AT, AT)
  isCoordinator(t, s, openHome(late))

  const membership = takePlaceOver(home, AT, AT)
  await next.takenUp(membership)
  t.is((await itself.move(home.host, false)).stage, 'moved')
  t.is(office.home.membership().coordinator, home.host)
  t.is(openHome(office.state).membership().handed, 1)
})
