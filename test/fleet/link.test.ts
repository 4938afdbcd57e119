import { createServer } from 'node:net'
import test from 'ava'
import { RemoteCatalog } from '../../src/coordinator/client.js'
import { startCoordinator } from '../../src/daemon/coordinator.js'
import { CoordinatorLink, FollowingLink } from '../../src/fleet/link.js'
import { identity, listening } from '../wire/loopback.js'
import { TestFleet } from './fleet.js'

const ask = { body: Buffer.alloc(0), maxBytes: 0 }

test('a coordinator that hangs costs a command one deadline, whatever it asks behind that', async (t) => {
  let dialled = 0
  const address = await listening(
    t,
    createServer(() => void dialled++),
  )
  const link = new CoordinatorLink(identity(), [address], identity().host)
  t.teardown(() => link.close())
  for (let calls = 0; calls < 5; calls++) {
    await t.throwsAsync(link.request('POST', '/v1/hosts', ask), {
      code: 'COORDINATOR_UNREACHABLE',
      message: /within 5 s/,
    })
  }
  t.is(dialled, 1)
})

test('one that refuses is asked each time: it may be back', async (t) => {
  let dialled = 0
  const address = await listening(
    t,
    createServer((socket) => {
      dialled++
      socket.destroy()
    }),
  )
  const link = new CoordinatorLink(identity(), [address], identity().host)
  t.teardown(() => link.close())
  for (let calls = 0; calls < 3; calls++) {
    await t.throwsAsync(link.request('POST', '/v1/hosts', ask), { code: 'COORDINATOR_UNREACHABLE' })
  }
  t.is(dialled, 3)
})

test('a link follows the coordinator to the address that it says itself', async (t) => {
  const fleet = await TestFleet.found(t)
  const coordinator = await fleet.coordinator()
  const appliance = await fleet.add('server', 'appliance')
  const link = new FollowingLink(appliance)
  t.teardown(() => link.close())
  const catalog = new RemoteCatalog(link)
  t.is((await catalog.hosts()).length, 2)
  await coordinator.close()
  const elsewhere = fleet.closing(await startCoordinator(fleet.home, { listen: '127.0.0.1:0', clock: fleet.clock }))
  t.not(elsewhere.address, coordinator.address)
  await t.throwsAsync(catalog.hosts(), { code: 'COORDINATOR_UNREACHABLE' })
  appliance.addresses.learn([[fleet.home.host, [elsewhere.address]]])
  t.is((await catalog.hosts()).length, 2)
})
