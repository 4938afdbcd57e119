import { createServer } from 'node:net'
import test from 'ava'
import { meetHost } from '../../src/wire/meet.js'
import { freePort } from '../free-port.js'
import { identity, loopback } from './loopback.js'

test('the key that answers is told, also to a stranger, and nothing was asked', async (t) => {
  const { server, member, address, handled } = await loopback(t)
  t.is(await meetHost(member, address), server.host)
  t.is(await meetHost(identity(), address), server.host)
  t.deepEqual(handled, [])
})

test('nobody there, or somebody who speaks otherwise, is unreachable', async (t) => {
  await t.throwsAsync(meetHost(identity(), `127.0.0.1:${await freePort()}`), { code: 'HOST_UNREACHABLE' })
  const rude = createServer((socket) => socket.end('220 smtp\r\n'))
  await new Promise<void>((done) => rude.listen(0, '127.0.0.1', done))
  t.teardown(() => rude.close())
  const { port } = rude.address() as { port: number }
  await t.throwsAsync(meetHost(identity(), `127.0.0.1:${port}`), { code: 'HOST_UNREACHABLE' })
})
