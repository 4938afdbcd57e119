/** A real peer over real sockets: what it proves, to whom, and how little it can be made to read. */
import { randomBytes } from 'node:crypto'
import { rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import {
  PROVE_BYTES,
  PROVE_BYTES_PER_SECOND,
  PROVE_RANGES,
  PROVE_SEEK_BYTES,
  PROVES_AT_ONCE,
  PROVES_PER_HOST,
  SHARD_FILE_BYTES,
} from '../../src/base/limits.js'
import { Secret } from '../../src/native.js'
import { decodeProofs, encodeProve, PROVE_ANSWER_BYTES, Prover } from '../../src/peers/prove.js'
import { encodeMessage } from '../../src/wire/message.js'
import { folder, makeShard, shardId, startPeer } from './peer.js'

const nonce = () => randomBytes(32)

/** Keyed BLAKE3, by the addon's own keys. */
function digester(t: ExecutionContext, key: Buffer): (bytes: Uint8Array) => Buffer {
  const path = join(folder(t), 'key')
  writeFileSync(path, key, { mode: 0o600 })
  const secret = Secret.load(path)
  return (bytes) => secret.tag(bytes)
}

test('a range is proved by a digest that its nonce keys, and what cannot be proved keeps nothing else from it', async (t) => {
  const peer = await startPeer(t)
  const appliance = peer.client(peer.fleet.appliance)
  const [shard, cut, lost, absent] = [1, 2, 3, 4].map(shardId) as [string, string, string, string]
  const files = new Map<string, Buffer>()
  for (const one of [shard, cut, lost]) {
    files.set(one, makeShard(one, randomBytes(200_000)))
    await peer.send(one, files.get(one) as Buffer)
  }
  truncateSync(peer.store.shardPath(cut), 100_000)
  rmSync(peer.store.shardPath(lost))
  const key = nonce()
  const digest = digester(t, key)
  const [file, end] = [files.get(shard) as Buffer, 204_096]
  const proofs = await appliance.prove(key, [
    { shard, start: 0, end },
    { shard: absent, start: 0, end: 1 },
    { shard: cut, start: 99_000, end: 100_001 },
    { shard: cut, start: 99_000, end: 100_000 },
    { shard: lost, start: 0, end: 1 },
    { shard, start: 5_000, end: 5_001 },
    { shard, start: end - 1, end: end + 1 },
  ])
  t.deepEqual(proofs, [
    digest(file),
    'no such shard',
    'no such range',
    digest((files.get(cut) as Buffer).subarray(99_000, 100_000)),
    'no such shard',
    digest(file.subarray(5_000, 5_001)),
    'no such range',
  ])
  const again = await appliance.prove(nonce(), [{ shard, start: 0, end }])
  t.notDeepEqual(again[0], proofs[0], 'an answer is of no use a second time')
  writeFileSync(peer.store.shardPath(shard), Buffer.from(file).fill(1, 9_000, 9_001))
  t.notDeepEqual((await appliance.prove(key, [{ shard, start: 0, end }]))[0], proofs[0], 'of the file as it is now')
})

test('who may fetch may ask, and nobody else', async (t) => {
  const peer = await startPeer(t)
  const { appliance, coordinator, root } = peer.fleet
  const shard = shardId(1)
  await peer.send(shard, makeShard(shard, Buffer.alloc(1_000, 1)))
  const ask = (who: typeof appliance) => peer.client(who).prove(nonce(), [{ shard, start: 0, end: 10 }])
  for (const who of [appliance, coordinator, root]) t.true(Buffer.isBuffer((await ask(who))[0]))
  await t.throwsAsync(ask(Secret.random()), { code: 'NOT_ALLOWED' })
  await t.throwsAsync(ask(peer.fleet.peer), { code: 'NOT_ALLOWED', message: /may not read/ })
})

test('a question that is none, or asks for more than one may, is refused before anything is read', async (t) => {
  const peer = await startPeer(t)
  const connection = peer.client(peer.fleet.appliance).connection
  const send = (body: Buffer) => connection.request('POST', '/v1/prove', { body, maxBytes: PROVE_ANSWER_BYTES })
  const range = (start: number, end: number) => ({ shard: shardId(1), start, end })
  const of = (...ranges: ReturnType<typeof range>[]) => encodeProve(nonce(), ranges)
  const whole = range(0, SHARD_FILE_BYTES)
  const refused: [what: string, body: Buffer][] = [
    ['nothing', of()],
    ['an empty range', of(range(1, 1))],
    ['a range backwards', of(range(2, 1))],
    ['a range behind every shard', of(range(0, SHARD_FILE_BYTES + 1))],
    ['a range of 4 GiB', of(range(0, 2 ** 32 - 1))],
    ['half a range', encodeMessage({ nonce: 'ab'.repeat(32) }, Buffer.alloc(23))],
    ['no nonce', encodeMessage({}, Buffer.alloc(24))],
    ['a short nonce', encodeMessage({ nonce: 'ab' }, Buffer.alloc(24))],
    [
      'more bytes than one may',
      of(...Array.from({ length: Math.ceil(PROVE_BYTES / SHARD_FILE_BYTES) + 1 }, () => whole)),
    ],
    ['no message', randomBytes(100)],
  ]
  for (const [what, body] of refused) await t.throwsAsync(send(body), { code: 'PROTOCOL' }, what)
  const most = Array.from({ length: PROVE_RANGES }, () => range(0, 1))
  t.is(decodeProofs((await send(of(...most))).body, PROVE_RANGES)?.length, PROVE_RANGES)
  await t.throwsAsync(send(of(...most, range(0, 1))), { code: 'PROTOCOL' })
  t.is(decodeProofs((await send(of(whole))).body, 2), undefined, 'an answer to another question')
})

test('one caller reads so much in a second, and asks so much at once, whatever others do', async (t) => {
  const { store } = await startPeer(t)
  const waited: number[] = []
  let wake = () => {}
  const asleep = new Promise<void>((resolve) => {
    wake = resolve
  })
  const sleep = async (ms: number) => {
    waited.push(ms)
    await asleep
  }
  const prover = new Prover({ store, clock: { now: () => 0 }, sleep })
  const question = encodeProve(nonce(), [{ shard: shardId(1), start: 0, end: PROVE_SEEK_BYTES }])
  const asking = Array.from({ length: PROVES_PER_HOST }, () => prover.answer('aa', question))
  const error = await t.throwsAsync(prover.answer('aa', question), { code: 'HOST_REFUSED' })
  t.regex(error?.message ?? '', new RegExp(`more than ${PROVES_PER_HOST} proofs at once`))
  const each = ((2 * PROVE_SEEK_BYTES) / PROVE_BYTES_PER_SECOND) * 1000
  t.deepEqual(
    waited,
    Array.from({ length: PROVES_PER_HOST }, (_, nth) => (nth + 1) * each),
    'each waits for those before',
  )
  const other = prover.answer('bb', question)
  t.is(waited.at(-1), each, 'another caller waits for himself alone')
  wake()
  await Promise.all([...asking, other])
  await prover.answer('aa', question)
  t.true(PROVES_AT_ONCE < PROVES_PER_HOST)
})
