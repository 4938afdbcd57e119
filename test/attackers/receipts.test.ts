/** What a writer's twin, or a coordinator that went back, tries with names that a peer holds already (docs/model.md, WRITE_ONCE). */
import test from 'ava'
import { folder, idOf, makeShards, startPeer, WAYS } from '../peers/peer.js'

for (const way of WAYS) {
  test(`appliance: a twin that places its stripe on the same peers in another order is refused, over ${way}`, async (t) => {
    const at = folder(t)
    const body = (value: number) => Buffer.alloc(70_000, value)
    const [held, twin] = [makeShards(9, [body(1), body(2)]), makeShards(9, [body(3), body(4)])]
    const send = async (files: readonly Buffer[], index: number) => {
      // Started anew each time: what is refused is on its disk, not in its memory.
      const peer = await startPeer(t, { folder: at }, way)
      const file = files[index] as Buffer
      const grant = peer.grant(idOf(9, index), file.length, { number: 9, index })
      await peer.client(peer.fleet.appliance).sendShard(idOf(9, index), file, grant)
    }
    await send(held, 0)
    await t.throwsAsync(send(twin, 1), { code: 'HOST_REFUSED', message: /of another stripe of the same name/ })
    await send(held, 1)
  })
}
