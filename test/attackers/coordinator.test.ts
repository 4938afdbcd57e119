/**
 * A coordinator in foreign hands answers what it likes: bytes that are no answer, and answers that are no truth. Beside it stand
 * its peers and its server, real processes, which go on asking it. At the end the words bring everything back without it.
 */
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { createServer as createPlainServer } from 'node:net'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import test, { type ExecutionContext } from 'ava'
import Database from 'better-sqlite3'
import type { CommitRequest, FoundSnapshot, HostRow, SnapshotRow, StripeRow } from '../../src/catalog/types.js'
import type { RemoteCatalog } from '../../src/coordinator/client.js'
import type { RecoverReport } from '../../src/jobs/recover/recover.js'
import type { SnapshotReport } from '../../src/jobs/snapshot/snapshot.js'
import { encodeCosigned, openCheckpoint, signCheckpoint, signCosignature } from '../../src/keys/checkpoint.js'
import { type Grant, signGrant } from '../../src/keys/grant.js'
import { openHome } from '../../src/keys/home.js'
import { Secret, shardId } from '../../src/native.js'
import { runName } from '../../src/stripes/names.js'
import { encodeMessage } from '../../src/wire/message.js'
import { summary } from '../catalog/harness.js'
import { firstDifference } from '../e2e/disks.js'
import { imager, lastLine, type Outcome, TestLab } from '../e2e/lab.js'
import { freePort } from '../free-port.js'
import { hostOf } from '../keys/fleet.js'
import { type AttackName, attacking } from './attacks.js'
import { coordinatorOf, Hands, joinAs, outcomeOf, peerOf } from './hands.js'
import { type Lies, type Office, openOffice, serveBytes } from './office.js'

type Answers = (socket: Pick<TLSSocket, 'write' | 'end'>) => void

/** What is no answer, by what it does with a connection. Those of `SLOW` last as long as who asks lets them. */
const BYTES = {
  'answers-noise': (socket) => socket.write(randomBytes(4096)),
  'answers-huge': (socket) => socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${2 ** 53}\r\n\r\nx`),
  'answers-endless': (socket) => socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n'),
  'answers-elsewhere': (socket) => {
    socket.write('HTTP/1.1 302 Found\r\nlocation: https://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n')
  },
  'answers-cut': (socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 4096\r\n\r\nhalf'),
  'answers-junk': (socket) => socket.write(framed(randomBytes(64))),
  'answers-other': (socket) => socket.write(framed(encodeMessage({ safe: true, snapshots: [{}] }))),
} as const satisfies Partial<Record<AttackName, Answers>>

const SLOW = {
  'answers-never': () => {},
  'answers-slowly': (socket) => {
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 4096\r\n\r\n')
    setInterval(() => socket.write('x'), 1000).unref()
  },
} as const satisfies Partial<Record<AttackName, Answers>>

function framed(body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n`), body])
}

const ID = 'ab'.repeat(16)
const KEY = 'ab'.repeat(32)

/** Every call that an appliance or a peer makes of it. */
function calls(catalog: RemoteCatalog): Record<string, () => Promise<unknown>> {
  const ids = Buffer.alloc(32)
  const births = new BigUint64Array(1)
  const stripe = catalog.names.number(runName(KEY, '00'.repeat(8))) * 2 ** 24
  const place = { stripe, k: 1, m: 1, packBytes: 4096 }
  const request = { appliance: KEY, volume: ID, source: '', label: '' }
  const finish = { head: Buffer.alloc(8), references: Buffer.alloc(8), asked: false, summary: summary() }
  const shards = [{ index: 0, host: KEY, root: KEY }]
  return {
    self: () => catalog.self(),
    condition: () => catalog.condition(),
    hosts: () => catalog.hosts(),
    begin: () => catalog.begin(request),
    lookup: () => catalog.lookup(ID, ids, 1),
    place: () => catalog.place(ID, { ...place, lengthBytes: 4096, shards: [{ index: 0, host: KEY }] }),
    commit: () => catalog.commit(ID, { ...place, shards, records: Buffer.alloc(0) } as unknown as CommitRequest),
    finish: () => catalog.finish(ID, finish),
    abandon: () => catalog.abandon(ID, 'X'),
    runs: () => catalog.runs(),
    snapshots: () => catalog.snapshots(),
    snapshot: () => catalog.snapshot('latest'),
    locate: () => catalog.locate(ids, births),
    records: () => catalog.records([stripe]),
    stripes: () => catalog.stripes([stripe]),
    snapshotStripes: () => catalog.snapshotStripes('latest'),
    learn: () => catalog.learn([], []),
    policies: () => catalog.policies(),
    checkpoint: () => catalog.checkpoint(),
    membership: () => catalog.membership(),
    heartbeat: () => catalog.heartbeat({ freeBytes: 1, usedBytes: 0, capacityBytes: 1, storage: '', store: null }),
    keys: () => catalog.keepKeys([Buffer.alloc(8)]),
  }
}

/** What became of each call, all at once. */
async function askAll(t: ExecutionContext, lab: TestLab, name: string, answer: Answers) {
  const office = { home: openHome(lab.lab.coordinator.state) }
  const target = { ...coordinatorOf(lab), address: `127.0.0.1:${await freePort()}` }
  const server = await serveBytes(office, target.address, answer)
  const hands = new Hands(t, openHome(lab.lab.appliance.state).secret)
  const asked = Object.keys(calls(hands.catalog(target)))
  const began = performance.now()
  const codes = await Promise.all(
    asked.map((call) => outcomeOf(calls(hands.catalog(target))[call]?.() as Promise<unknown>)),
  )
  const seconds = (performance.now() - began) / 1000
  for (const [at, code] of codes.entries()) t.not(code, 'taken', `${name}: ${asked[at]}`)
  t.true(
    codes.every((code) =>
      ['PROTOCOL', 'COORDINATOR_UNREACHABLE', 'HOST_LIED', 'CORRUPT', 'HOST_REFUSED'].includes(code),
    ),
    `${name}: ${codes.join()}`,
  )
  t.true(seconds < 40, `${name}: ${seconds} s`)
  await server.close()
  return seconds
}

class Fleet {
  office!: Office
  readonly #state: string

  constructor(
    readonly t: ExecutionContext,
    readonly lab: TestLab,
  ) {
    this.#state = lab.lab.appliance.state
  }

  run(...argv: string[]): Promise<Outcome> {
    return imager(...argv, '--state', this.#state, '--json')
  }

  /** As long as these lies are told. */
  async while<T>(lies: Lies, work: () => Promise<T>): Promise<T> {
    this.office.lies = lies
    try {
      return await work()
    } finally {
      this.office.lies = {}
    }
  }

  /** Restores; true where the disk came back, false where it was refused. There is no third way. */
  async restores(name: string, disk: string): Promise<boolean> {
    const target = this.lab.path(`${randomBytes(4).toString('hex')}.img`)
    const { code, stdout, stderr } = await this.run('restore', name, '--to', target)
    if (code !== 0) return false
    this.t.is(firstDifference(disk, target), undefined, stdout + stderr)
    return true
  }

  async restoresAll(snapshots: readonly (readonly [id: string, disk: string])[]): Promise<void> {
    for (const [id, disk] of snapshots) this.t.true(await this.restores(id, disk), id)
  }
}

const codeOf = (outcome: Outcome): string => lastLine<{ code?: string }>(outcome).code ?? ''

test('a coordinator in foreign hands answers what it likes: no wrong byte, no false word of safety, and the words do without it', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 4)
  const { coordinator, appliance, peers } = lab.lab
  const fleet = new Fleet(t, lab)
  const other = await joinAs(lab, 'appliance', 'other')
  const disks = ['first', 'second', 'third'].map((name) => lab.makeDisk(`${name}.img`, 8)) as [string, string, string]
  const foreign = await imager('snapshot', disks[2], '--state', other, '--json')
  t.is(foreign.code, 0, foreign.stdout + foreign.stderr)
  const victim = openHome(appliance.state)
  const past = { membership: victim.membership().bytes, checkpoint: Buffer.alloc(0) }
  const first = await lab.snapshot(t, disks[0])
  past.checkpoint = readFileSync(join(appliance.state, 'checkpoint.bin'))
  const second = await lab.snapshot(t, disks[1])
  const both = [
    [first, disks[0]],
    [second, disks[1]],
  ] as const
  await lab.kill(coordinator.pid)

  // What is no answer: each call ends, and is refused.
  const slow = Promise.all(Object.entries(SLOW).map(([name, answer]) => askAll(t, lab, name, answer)))
  for (const [name, answer] of Object.entries(BYTES)) {
    await askAll(t, lab, name, answer)
    tried(name as AttackName)
  }

  fleet.office = await openOffice(t, lab)
  const { catalog, home } = fleet.office
  await fleet.restoresAll(both)

  // Whose list it is, and what is on it.
  const isSecond = ({ id }: { id: string }) => id === second
  const hides: Lies = {
    snapshots: async (honest) => ((await honest()) as SnapshotRow[]).filter((row) => !isSecond(row)),
    snapshot: async () => catalog.snapshot(victim.host + first),
  }
  await fleet.while(hides, async () => {
    const listed = await fleet.run('snapshots')
    t.deepEqual(lastLine<{ hidden: string[] }>(listed).hidden, [second])
    const status = await fleet.run('status')
    t.is(status.code, 8)
    t.regex(status.stdout, new RegExp(`"HIDDEN","sentence":"[^"]*${second.slice(0, 8)}`))
    t.is(codeOf(await fleet.run('restore', second, '--to', lab.path('none.img'))), 'HOST_LIED')
  })
  t.deepEqual(lastLine<{ hidden: string[] }>(await fleet.run('snapshots')).hidden, [])
  tried('list-hides', 'list-swaps')
  const foreignId = lastLine<SnapshotReport>(foreign).snapshot
  const foreignRow = await catalog.snapshot(openHome(other).host + foreignId)
  const invents = (row: FoundSnapshot): Lies => ({
    snapshots: async (honest) => [...((await honest()) as SnapshotRow[]), row],
    snapshot: async () => row,
    snapshotStripes: () => catalog.snapshotStripes(openHome(other).host + foreignId),
  })
  const invented: [FoundSnapshot, RegExp][] = [
    [{ ...foreignRow, appliance: victim.host, takenBy: undefined } as unknown as FoundSnapshot, /FORGED|CORRUPT/],
    [{ ...foreignRow, ...(await catalog.snapshot(victim.host + first)), id: foreignId }, /FORGED/],
    [{ ...foreignRow, head: randomBytes(500) }, /KEYS_LOCKED|FORGED|CORRUPT|UNSUPPORTED/],
  ]
  for (const [row, code] of invented) {
    await fleet.while(invents(row), async () => {
      t.regex(codeOf(await fleet.run('restore', foreignId, '--to', lab.path('none.img'))), code)
    })
  }
  tried('list-invents')

  // Checkpoints: none, an old one, and one of its own beside the chain.
  const tip = openCheckpoint(catalog.chain.tip()?.bytes as Buffer, home.fleet, home.rootKey)
  const { bytes: _, hash: previous, signer: _signer, handed: _handed, ...said } = tip
  const beside = (change: Partial<typeof said>, ...by: (typeof home.secret)[]) => {
    const bytes = signCheckpoint({ ...said, previous, sequence: said.sequence + 50, ...change }, home.secret)
    const opened = openCheckpoint(bytes, home.fleet, home.rootKey)
    return encodeCosigned({ checkpoint: bytes, cosignatures: by.map((one) => signCosignature(opened, 1, one)) })
  }
  const strangers = [Secret.random(), Secret.random(), Secret.random()]
  for (const [name, shown] of [
    ['checkpoint-none', Buffer.alloc(0)],
    ['checkpoint-stale', past.checkpoint],
    ['checkpoint-beside', beside({}, ...strangers)],
    ['checkpoint-other-members', beside({ membership: '77'.repeat(32) }, home.secret, ...strangers)],
  ] as const) {
    await fleet.while({ cosigned: () => shown }, async () => {
      const status = await fleet.run('status')
      t.is(status.code, 8, name)
      t.regex(status.stdout, /"ROLLED_BACK"/, name)
      t.is(codeOf(await fleet.run('snapshot', disks[0])), 'ROLLED_BACK', name)
    })
    tried(name)
  }
  // The membership of before is no news.
  const server = openHome(appliance.state)
  t.false(server.saveMembership(past.membership))
  tried('members-stale')

  // A run that is told lies from its first call to its last.
  const third = disks[2]
  for (const begin of [
    async (honest: (...given: never[]) => unknown, request: never) => ({
      ...((await honest(request)) as object),
      run: '11'.repeat(8),
    }),
    async (honest: (...given: never[]) => unknown, request: never) => ({
      ...((await honest(request)) as object),
      lease: '11'.repeat(16),
    }),
  ]) {
    t.is(codeOf(await fleet.while({ begin }, () => fleet.run('snapshot', third))), 'HOST_LIED')
  }
  const reuses: Lies = {
    begin: async (honest, request) => ({ ...((await honest(request)) as object), snapshot: first }),
    finish: async () => ({ survives: 1, receipted: 1, target: 1, cosigned: true, state: 'protected' }),
  }
  const reused = await fleet.while(reuses, () => fleet.run('snapshot', third))
  t.is(codeOf(reused), 'NOT_PLACED', reused.stdout)
  tried('begin-other-run', 'begin-old-name')
  const acknowledges: Lies = {
    commit: async () => {},
    finish: async () => ({ survives: 3, receipted: 3, target: 1, cosigned: true, state: 'protected' }),
    cosigned: () => randomBytes(99),
  }
  const false_ = await fleet.while(
    { finish: acknowledges.finish as never, cosigned: acknowledges.cosigned as never },
    () => fleet.run('snapshot', third),
  )
  t.is(false_.code, 1, 'what it shows as signed is none')
  const keptNot = await fleet.while({ ...acknowledges, cosigned: (honest) => honest() }, () =>
    fleet.run('snapshot', third),
  )
  t.is(keptNot.code, 4, keptNot.stdout + keptNot.stderr)
  t.like(lastLine<SnapshotReport>(keptNot), { state: 'sealed', cosigned: false })
  t.regex(lastLine<SnapshotReport>(keptNot).notes.join(), /they do not say so themselves/)
  tried('finish-false', 'commit-unkept')
  const nowhere: Lies = {
    ...acknowledges,
    cosigned: (honest) => honest(),
    lookup: async (_honest, _lease, ids: Uint8Array) => {
      const run = catalog.names.number(randomBytes(40))
      return BigUint64Array.from({ length: ids.length / 32 }, (_, at) => (BigInt(run * 2 ** 24) << 16n) | BigInt(at))
    },
  }
  const empty = await fleet.while(nowhere, () => fleet.run('snapshot', third))
  t.true([1, 4].includes(empty.code), empty.stdout + empty.stderr)
  tried('lookup-nowhere')

  // Hits that are others: what they hold is something else, and no such byte comes back.
  const [row] = await catalog.stripes(await catalog.snapshotStripes(victim.host + first))
  const elsewhere: Lies = {
    lookup: async (_honest, _lease, ids: Uint8Array) =>
      BigUint64Array.from({ length: ids.length / 32 }, (_, at) => (BigInt(row?.stripe ?? 0) << 16n) | BigInt(at % 8)),
  }
  const swapped = await fleet.while(elsewhere, () => fleet.run('snapshot', lab.makeDisk('swapped.img', 8)))
  const swappedId = (lastLine<Partial<SnapshotReport>>(swapped).snapshot ?? '').slice(0, 32)
  if (swappedId !== '') await fleet.restores(swappedId, lab.path('swapped.img'))
  await fleet.restoresAll(both)
  tried('lookup-other')

  // Leases that it ends, and places that nobody may use.
  const ends: Lies = {
    commit: async (honest, lease, request) => {
      await catalog.abandon(lease, 'NO')
      return honest(lease, request)
    },
  }
  t.is(codeOf(await fleet.while(ends, () => fleet.run('snapshot', lab.makeDisk('ended.img', 8)))), 'LEASE_ENDED')
  tried('lease-released')
  await strangersAsHosts(t, fleet)
  tried('hosts-strangers')
  await grantsOfItsOwn(t, fleet)
  tried('grant-for-nobody', 'grant-for-other', 'grant-in-foreign-name')

  // Where things are, and how long.
  const places: [AttackName, Lies][] = [
    ['places-swapped', { stripes: async (honest, numbers) => ((await honest(numbers)) as StripeRow[]).map(turned) }],
    [
      'places-strangers',
      {
        stripes: async (honest, numbers) => {
          const rows = (await honest(numbers)) as StripeRow[]
          return rows.map((one) => ({ ...one, shards: one.shards.map((shard) => ({ ...shard, host: KEY })) }))
        },
      },
    ],
    ['places-none', { stripes: async () => [] }],
    ['records-other', { records: async (honest, numbers) => ((await honest(numbers)) as Uint32Array[]).map(reversed) }],
  ]
  for (const [name, lies] of places) {
    const came = await fleet.while(lies, () => fleet.restores(first, disks[0]))
    t.log(`${name}: ${came ? 'restored' : 'refused'}`)
    tried(name)
  }
  await fleet.restoresAll(both)

  // It forgets a stripe after it acknowledged it: the list of its witnesses has the snapshot, and so have the peers.
  const lost = lab.makeDisk('lost.img', 8)
  const forgotten = await lab.snapshot(t, lost)
  const own = await catalog.snapshotStripes(victim.host + forgotten)
  const forgets: Lies = {
    stripes: async (honest, numbers: readonly number[]) => honest(numbers.filter((one) => !own.includes(one)) as never),
    snapshotStripes: async () => [],
  }
  t.false(await fleet.while(forgets, () => fleet.restores(forgotten, lost)))
  await fleet.office.close()
  const db = new Database(join(coordinator.state, 'catalog', 'catalog.db'))
  db.exec('DELETE FROM record; DELETE FROM shard')
  db.close()

  // Without it: the words, and the peers.
  const given = ['--words-file', lab.lab.wordsFile, '--peer', peers[0]?.address ?? '', '--name', 'spare']
  const at = ['--listen', `127.0.0.1:${await freePort()}`, '--state', lab.path('new'), '--json']
  const recovered = await imager('recover', ...given, ...at)
  t.true([0, 4].includes(recovered.code), recovered.stdout + recovered.stderr)
  const ids = lastLine<RecoverReport>(recovered).snapshots.map(({ id }) => id)
  for (const [id, disk] of [...both, [forgotten, lost], [foreignId, disks[2]]] as const) {
    t.true(ids.includes(id), id)
    const target = lab.path(`${id}.img`)
    const restored = await imager('restore', id, '--to', target, '--state', lab.path('new'), '--json')
    t.is(restored.code, 0, restored.stdout + restored.stderr)
    t.is(firstDifference(disk, target), undefined)
  }
  tried('commit-forgotten')
  const [never, drip] = await slow
  tried('answers-never', 'answers-slowly')
  t.log(`one that never answers holds a call up ${never?.toFixed(1)} s, one byte a second ${drip?.toFixed(1)} s`)
  t.false(existsSync(lab.path('none.img')), 'nothing was written of what was refused')
})

/** Its shards one host further. */
function turned(row: StripeRow): StripeRow {
  const { shards } = row
  return {
    ...row,
    shards: shards.map((shard, at) => ({ ...shard, host: shards[(at + 1) % shards.length]?.host ?? KEY })),
  }
}

const reversed = (lengths: Uint32Array): Uint32Array => lengths.toReversed()

/** A list of hosts with one that nobody signed in, and with its address for all others. */
async function strangersAsHosts(t: ExecutionContext, fleet: Fleet): Promise<void> {
  let heard = 0
  const stranger = createPlainServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', () => {
      heard++
      socket.destroy()
    })
  })
  const port = await freePort()
  stranger.listen(port, '127.0.0.1')
  t.teardown(() => stranger.close())
  const address = `127.0.0.1:${port}`
  const lies: Lies = {
    hosts: async (honest) => {
      const rows = (await honest()) as HostRow[]
      const [peer] = rows.filter(({ role }) => role === 'peer') as [HostRow]
      const said = rows.map((row) => ({ ...row, addresses: [address] }))
      return [...said, { ...peer, host: KEY, name: 'stranger', addresses: [address], freeBytes: 1e15 }]
    },
  }
  const disk = fleet.lab.makeDisk('strangers.img', 8)
  const run = await fleet.while(lies, () => fleet.run('snapshot', disk))
  t.true([0, 4].includes(run.code), run.stdout + run.stderr)
  const { snapshot } = lastLine<SnapshotReport>(run)
  const layouts = await fleet.office.catalog.stripes(await fleet.office.catalog.snapshotStripes(snapshot))
  t.false(layouts.some(({ shards }) => shards.some(({ host }) => host === KEY)))
  const status = await fleet.while(lies, () => fleet.run('status'))
  t.regex(status.stdout, /"STRANGER"/)
  t.true(await fleet.restores(snapshot, disk))
  t.log(`${heard} connections were turned to the stranger, each ended before anything was sent`)
}

/** Signed by the coordinator's own key, and brought to a peer. */
async function grantsOfItsOwn(t: ExecutionContext, { lab, office }: Fleet): Promise<void> {
  const { home } = office
  const victim = openHome(lab.lab.appliance.state)
  const [target, pc] = [peerOf(lab, 0), openHome(lab.lab.peers[1]?.state ?? '')]
  const nobody = Secret.random()
  const folder = join(lab.lab.peers[1]?.store ?? '', 'shards')
  const name = readdirSync(folder, { recursive: true, encoding: 'utf8' }).find((one) => one.endsWith('.shard')) ?? ''
  const file = readFileSync(join(folder, name))
  t.is(file.length, statSync(join(folder, name)).size)
  const leave = (bearer: string): Grant => ({
    ...{ fleet: home.fleet, term: 1, operation: 'put', lease: ID, writer: victim.host, run: '22'.repeat(8), number: 0 },
    ...{ index: 0, lengthBytes: file.length, host: target.host, bearer },
  })
  const shard = shardId(runName(victim.host, '22'.repeat(8)), 0, 0)
  const put = (secret: typeof home.secret, bearer: string) =>
    outcomeOf(
      new Hands(t, secret)
        .peer(target)
        .sendShard(shard, file, signGrant(leave(bearer), home.secret).toString('base64')),
    )
  t.is(await put(nobody, hostOf(nobody)), 'NOT_ALLOWED', 'one that is no member')
  t.is(await put(victim.secret, pc.host), 'NOT_ALLOWED', 'one that another bears')
  t.is(await put(home.secret, home.host), 'FORGED', "in its own hands, under the server's name")
}
