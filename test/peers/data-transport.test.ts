import test from 'ava'
import { identity } from '../wire/loopback.js'
import { conformance } from './conformance.js'
import { makeShard, openTransport, shardId } from './peer.js'
import { go, startRogue } from './rogue.js'

conformance(test, 'data connections')

test('a host that wants a body of another length is sent none of it', async (t) => {
  const file = makeShard(shardId(1), Buffer.alloc(100_000, 1))
  for (const length of [file.length - 1, file.length + 1, 2 ** 40]) {
    const { tls, address, heard, left } = await startRogue(t, (socket) => socket.write(go(length)))
    const { shards, close } = openTransport('data connections', {
      tls: identity(),
      addresses: [address],
      host: tls.host,
    })
    t.teardown(close)
    await t.throwsAsync(shards.put(shardId(1), file, 'AAAA'), { code: 'PROTOCOL', message: /another length/ })
    await left()
    t.true(heard().length < 1000, `${heard().length}`)
  }
})
