import test from 'ava'
import { PeerClient } from '../../src/peers/client.js'
import type { Reply } from '../../src/wire/client.js'
import { encodeMessage } from '../../src/wire/message.js'

const shardId = (index: number) => index.toString(16).padStart(32, '0')

/** A peer whose answers are what a liar would send. */
function liar(...answers: Buffer[]): PeerClient {
  const request = async (): Promise<Reply> => ({ status: 200, headers: {}, body: answers.shift() ?? Buffer.alloc(0) })
  return new PeerClient('00'.repeat(32), 'pc-6', { request })
}

test('fewer bytes than asked for are a lie', async (t) => {
  await t.throwsAsync(liar(Buffer.alloc(9)).fetchBody(shardId(1), [0, 10]), { code: 'HOST_LIED', message: /9 bytes/ })
})

test('an inventory that does not go on is a lie', async (t) => {
  const rows = (...ids: number[]) => ids.map((id) => ({ shard: shardId(id), bytes: 1 }))
  for (const page of [
    { shards: rows(2, 1), next: null },
    { shards: rows(1, 1), next: null },
    { shards: rows(1), next: shardId(0) },
    { shards: [], next: shardId(5) },
  ]) {
    await t.throwsAsync(liar(encodeMessage(page)).fetchInventory(shardId(0)), { code: 'HOST_LIED' })
  }
  await t.throwsAsync(liar(encodeMessage({ shards: [{ shard: '../x', bytes: 1 }], next: null })).fetchInventory(), {
    code: 'PROTOCOL',
  })
})

test('a list of documents that does not fit, or has no end, is a lie', async (t) => {
  const page = (names: string[], next: string | null, bytes = 1) =>
    encodeMessage({ documents: names.map((name) => ({ name, bytes })), next }, Buffer.alloc(names.length))
  const lists = [
    [page([shardId(1)], null, 2)],
    [page([shardId(2), shardId(1)], null)],
    [page([], shardId(1))],
    [page([shardId(1)], shardId(1)), page([shardId(1)], shardId(1))],
  ]
  for (const answers of lists) {
    const read = async () => {
      for await (const document of liar(...answers).fetchDocuments('head')) t.truthy(document)
    }
    await t.throwsAsync(read, { code: 'HOST_LIED' })
  }
})
