/** What a process that may open nothing more says of its calls. */
import { closeSync, openSync } from 'node:fs'
import { createServer } from 'node:net'
import type { ExecutionContext } from 'ava'
import { tlsIdentity } from '../../src/keys/certificate.js'
import { DataClient } from '../../src/native.js'
import { Connection } from '../../src/wire/client.js'
import { DataLink } from '../../src/wire/data-client.js'
import { limitFiles } from '../e2e/harm.js'
import { lacksTools, testWhere } from '../machine.js'
import { startPeer } from '../peers/peer.js'
import { listening } from './loopback.js'

/** Runs a task while this process has no descriptor left. */
async function without<T>(task: () => Promise<T>): Promise<T> {
  const held: number[] = []
  try {
    for (;;) held.push(openSync('/dev/null', 'r'))
  } catch {
    // That was the last one.
  }
  try {
    return await task()
  } finally {
    for (const descriptor of held) closeSync(descriptor)
  }
}

const exhausted = (t: ExecutionContext, call: () => Promise<unknown>) =>
  without(() =>
    t.throwsAsync(call, { code: 'EXHAUSTED', message: /limit of its own: connecting to .*EMFILE|[Tt]oo many/ }),
  )

testWhere(lacksTools('prlimit'))('a process without descriptors blames no host, whichever way it calls', async (t) => {
  const peer = await startPeer(t)
  const address = await listening(t, createServer())
  const named = address.replace('127.0.0.1', 'localhost')
  const tls = tlsIdentity(peer.fleet.appliance)
  const client = new DataClient(tls.key, tls.cert)
  t.teardown(() => client.close())
  limitFiles(process.pid, 200)
  for (const one of [address, named]) {
    const parts = { addresses: [one], host: peer.host, name: 'pc-1' }
    const connection = new Connection({ tls, ...parts })
    await exhausted(t, () => connection.request('GET', '/v1/state', { maxBytes: 10 }))
    await exhausted(t, () => new DataLink({ client, ...parts }).fetch('00'.repeat(16), [0, 10]))
    connection.close()
  }
  const nowhere = new Connection({ tls, addresses: ['no-such-name.invalid:1'], host: peer.host, name: 'pc-1' })
  await t.throwsAsync(nowhere.request('GET', '/v1/state', { maxBytes: 10 }), { code: 'HOST_UNREACHABLE' })
})
