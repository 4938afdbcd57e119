/**
 * A PC in foreign hands, with the identity that joined: it serves, takes, lists and asks what it likes. Where a test lets it answer,
 * it listens at the address of the PC's own daemon, which has ended.
 */
import { randomBytes } from 'node:crypto'
import test from 'ava'
import { CALL_NAMES } from '../../src/coordinator/calls.js'
import type { RecoverReport } from '../../src/jobs/recover/recover.js'
import type { SnapshotReport } from '../../src/jobs/snapshot/snapshot.js'
import { signAddress } from '../../src/keys/address.js'
import { headName } from '../../src/keys/head.js'
import { openHome } from '../../src/keys/home.js'
import { encodeMessage } from '../../src/wire/message.js'
import { type Answer, type Request, type Route, serve } from '../../src/wire/server.js'
import { firstDifference } from '../e2e/disks.js'
import { imager, lastLine, TestLab } from '../e2e/lab.js'
import { freePort } from '../free-port.js'
import { type AttackName, attacking } from './attacks.js'
import { coordinatorOf, Hands, outcomeOf, peerOf, withFleet } from './hands.js'

type Serves = (request: Request) => Answer | Promise<Answer>

const never = () => new Promise<never>(() => {})
const noise = (length: number) => ({ body: randomBytes(length) })
const lengthOf = ({ range }: Request) => (range ? range[1] - range[0] : 4096)

test('a PC in foreign hands serves, takes and lists what it likes: every byte that is restored is right, and it learns nothing', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 4)
  const { appliance, peers } = lab.lab
  const disk = lab.makeDisk('disk.img', 8)
  const snapshot = await lab.snapshot(t, disk)
  const [own, other] = [peerOf(lab, 0), peerOf(lab, 1)]
  const home = openHome(peers[0]?.state ?? '')
  const hands = new Hands(t, home.secret)
  const office = coordinatorOf(lab)
  const victim = openHome(appliance.state)

  // What it may ask others.
  const files = await withFleet(appliance.state, async (fleet) => {
    const { shards } = await fleet.peers.get(own.host).fetchInventory()
    return Promise.all(
      shards.map(async ({ shard }) => [shard, (await fleet.peers.get(own.host).fetchBody(shard)).take()] as const),
    )
  })
  const held = new Map(files)
  const paths = ['/v1/shards', '/v1/documents/head', '/v1/documents/key', `/v1/checkpoints/${home.fleet}/heads`]
  const name = headName({ appliance: victim.host, snapshot })
  for (const path of [...paths, `/v1/documents/bitmap/${name}`, `/v1/shards/${files[0]?.[0]}`]) {
    t.is(await outcomeOf(hands.connect(other).request('GET', path, { maxBytes: 4096 })), 'NOT_ALLOWED', path)
  }
  const may = ['heartbeat', 'membership', 'self', 'join', 'show']
  for (const call of CALL_NAMES.filter((one) => !may.includes(one))) {
    const asked = hands.connect(office).request('POST', `/v1/${call}`, { body: encodeMessage({}), maxBytes: 4096 })
    t.is(await outcomeOf(asked), 'NOT_ALLOWED', call)
  }
  const away = { fleet: home.fleet, host: other.host, sequence: Date.now(), addresses: [own.address] }
  const moved = signAddress(away, home.secret)
  t.is(await outcomeOf(hands.peer(other).sendDocument('address', other.host, moved)), 'FORGED')
  const space = { freeBytes: 1, usedBytes: 0, capacityBytes: 1, storage: '', store: null }
  t.is(await outcomeOf(hands.catalog(office).heartbeat(space, moved)), 'FORGED')
  tried('peer-reads', 'peer-calls', 'peer-address')

  // What it answers.
  let serves: Serves = never
  let lists: Serves = never
  const route = (method: Route['method'], path: string, handle: Serves, maxBytes = 16 << 20): Route => ({
    ...{ method, path, maxBytes, handle },
  })
  const taken = async (request: Request) => {
    await request.body()
    return { status: 201 }
  }
  const room = { freeBytes: 1e12, usedBytes: 0, capacityBytes: 1e12, storage: 'ab'.repeat(8) }
  await lab.kill(peers[0]?.pid ?? 0)
  const rogue = await serve({
    tls: home.tls,
    listen: own.address,
    admit: () => true,
    routes: [
      route('GET', '/v1/shards/:shard', (request) => serves(request)),
      route('PUT', '/v1/shards/:shard', taken),
      route('GET', '/v1/state', () => ({ body: encodeMessage(room) })),
      route('GET', '/v1/shards', (request) => lists(request)),
      route('GET', '/v1/documents/:kind', (request) => lists(request)),
      route('GET', '/v1/documents/:kind/:name', (request) => lists(request)),
      route('PUT', '/v1/documents/:kind/:name', taken),
      route('PUT', '/v1/addresses', taken),
    ],
  })
  t.teardown(() => rogue.close())
  const part = ({ params, range }: Request, from = params.shard ?? '') => {
    const file = held.get(from) ?? Buffer.alloc(4096)
    return range ? file.subarray(...range) : file
  }
  const others = [...held.keys()]
  const lies: [attack: AttackName, serves: Serves][] = [
    [
      'serves-other',
      (request) => ({
        body: part(
          request,
          others.find((one) => one !== request.params.shard),
        ),
      }),
    ],
    ['serves-flipped', (request) => ({ body: Uint8Array.from(part(request)).map((byte) => byte ^ 1) })],
    ['serves-noise', (request) => noise(lengthOf(request))],
    ['serves-short', (request) => ({ body: part(request).subarray(1) })],
    ['serves-long', (request) => noise(lengthOf(request) + 1)],
    ['serves-elsewhere', () => ({ status: 302, headers: { location: `https://${other.address}/` } })],
    ['serves-nothing', never],
  ]
  for (const [attack, lie] of lies) {
    serves = lie
    await lab.restoreLatest(t, disk, `${attack}.img`)
    tried(attack)
  }

  // What it took it never stored: without its receipt it is not counted, and named.
  const next = lab.makeDisk('next.img', 8)
  const run = await imager('snapshot', next, '--state', lab.lab.appliance.state, '--json')
  t.is(run.code, 4, run.stdout + run.stderr)
  const { state, notes } = lastLine<SnapshotReport>(run)
  t.is(state, 'sealed')
  t.regex(notes.join(), /peer-1 could not take shards: .*no receipt/)
  serves = () => ({ status: 404, body: Buffer.from('{"code":"SHARD_MISSING","details":{}}') })
  await lab.restoreLatest(t, next, 'next.out')
  tried('takes-nothing')

  // Lists without end, out of order, and of nobody, while the fleet is recovered from the words.
  const endless = encodeMessage({ shards: [{ shard: 'ff'.repeat(16), bytes: 1 }], next: '00'.repeat(16) })
  const documents = { documents: [{ name: 'ab'.repeat(16), bytes: 4 }], next: 'ab'.repeat(16) }
  const answers: Record<string, Buffer> = { undefined: endless }
  lists = ({ params }) => ({
    body: answers[String(params.kind)] ?? encodeMessage(documents, randomBytes(4)),
  })
  await lab.burn()
  const given = ['--words-file', lab.lab.wordsFile, '--peer', other.address, '--state', lab.path('new')]
  const outcome = await imager('recover', ...given, '--listen', `127.0.0.1:${await freePort()}`, '--json')
  t.true([0, 4].includes(outcome.code), outcome.stdout + outcome.stderr)
  const report = lastLine<RecoverReport>(outcome)
  t.is(report.snapshots.length, 2)
  t.false(report.peers.reached.includes(peers[0]?.name ?? ''), 'it is not counted among those that answered')
  tried('lists-endless')
  for (const [id, image] of [
    [snapshot, disk],
    [report.snapshots.find((one) => one.id !== snapshot)?.id ?? '', next],
  ] as const) {
    const target = lab.path(`${id}.img`)
    const restored = await imager('restore', id, '--to', target, '--state', lab.path('new'), '--json')
    t.is(restored.code, 0, restored.stdout + restored.stderr)
    t.is(firstDifference(image, target), undefined)
  }
})
