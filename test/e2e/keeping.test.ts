/**
 * What is known of what the peers keep: proof is taken away, and the word that stood on it goes; then what `status` says is
 * typed as it stands, until the light is green again.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { openDatabase } from '../../src/catalog/schema.js'
import type { VolumePolicy } from '../../src/catalog/types.js'
import type { CheckReport, Damage } from '../../src/jobs/check.js'
import type { SnapshotReport } from '../../src/jobs/snapshot/snapshot.js'
import { StoreSequence } from '../../src/peers/sequence.js'
import { lacksFileSystem, testWhere } from '../machine.js'
import { imager, lastLine, TestLab } from './lab.js'
import { codesOf, silence, started, status, typeRemedy, until } from './told.js'

/** Ends a peer, and starts it with what `change` made of its store. */
async function restartPeer(t: ExecutionContext, lab: TestLab, index: number, change: (store: string) => void) {
  const { pid, store } = lab.lab.peers[index] as TestLab['lab']['peers'][number]
  await lab.kill(pid)
  change(store)
  const child = lab.startPeer(index)
  t.teardown(() => void child.kill('SIGKILL'))
  await started(child)
  return child
}

const shardsOf = (store: string) =>
  readdirSync(store, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.shard'))
    .map((name) => join(store, name))

/** The peers that hold shards: of six, one is spare. */
const holders = (lab: TestLab) =>
  lab.lab.peers.flatMap(({ store }, index) => (shardsOf(store).length > 0 ? [index] : []))

test.serial(
  'three of six stores are empty: not safe; what is said is typed, and everything restores again',
  async (t) => {
    const { lab, disk, state } = await TestLab.imaged(t, 6, 24)
    t.deepEqual(codesOf(await status(lab)), [])
    const empty = (store: string) => {
      rmSync(store, { recursive: true })
      mkdirSync(store)
    }
    const [one, two, three, other] = holders(lab) as [number, number, number, number]
    for (const index of [one, two, three]) await restartPeer(t, lab, index, empty)
    // Each says that its store is another one, is listed, and what it lacks is known to be missing.
    const seen = await until(lab, ['LOST'])
    t.deepEqual(codesOf(seen), ['LOST'])
    t.like(seen.volumes[0], { state: 'incomplete', survives: -1 })
    const events = (await imager('events', '--state', lab.lab.coordinator.state)).stdout
    t.is(events.match(/peer-\d is not believed: its store is another one than before/g)?.length, 3, events)
    t.is(events.match(/shards? on peer-\d (is|are) missing/g)?.length, 3, events)
    const well = await imager('status', '--json', '--state', lab.lab.peers[other]?.state as string)
    t.is(well.code, 0, well.stdout)
    t.false(well.stdout.includes('snapshot'), 'a PC hears of nobody else')
    t.is((await imager('restore', 'latest', '--to', lab.path('no.img'), ...state)).code, 5)
    t.is(await typeRemedy(lab, seen), 'snapshot 0')
    t.deepEqual(codesOf(await until(lab, [])), [])
    await lab.restoreLatest(t, disk)
  },
)

test.serial('a store that was away comes back whole: nothing has to be typed', async (t) => {
  const { lab } = await TestLab.imaged(t, 3, 16)
  const aside = lab.path('aside')
  const child = await restartPeer(t, lab, 0, (store) => {
    renameSync(store, aside)
    mkdirSync(store)
  })
  t.deepEqual(codesOf(await until(lab, ['BELOW_TARGET'])), ['BELOW_TARGET'])
  await lab.kill(child.pid as number)
  const { store } = lab.lab.peers[0] as TestLab['lab']['peers'][number]
  rmSync(store, { recursive: true })
  renameSync(aside, store)
  const back = lab.startPeer(0)
  t.teardown(() => void back.kill('SIGKILL'))
  await started(back)
  t.deepEqual(codesOf(await until(lab, [])), [])
})

test.serial(
  'shards that vanish under running peers are missed within a heartbeat, or by who reads them first',
  async (t) => {
    const { lab, disk, state } = await TestLab.imaged(t, 3, 16)
    const vanish = () => {
      for (const { store } of lab.lab.peers.slice(0, 2)) for (const path of shardsOf(store)) rmSync(path)
    }
    vanish()
    t.is((await imager('restore', 'latest', '--to', lab.path('no.img'), ...state)).code, 5)
    t.true(codesOf(await status(lab)).includes('LOST'), 'who tried has told it')
    t.is((await imager('snapshot', disk, ...state)).code, 0)
    t.deepEqual(codesOf(await until(lab, [])), [])
    await lab.restoreLatest(t, disk)
    vanish()
    const seen = await until(lab, ['LOST'])
    t.deepEqual(codesOf(seen), ['LOST'])
    t.is(await typeRemedy(lab, seen), 'snapshot 0')
    t.deepEqual(codesOf(await until(lab, [])), [])
  },
)

test.serial('damage beyond repair is found, remembered, and stored anew by the next run', async (t) => {
  const { lab, disk, state } = await TestLab.imaged(t, 3, 16)
  const [one, two] = lab.lab.peers.map(({ store }) => shardsOf(store)) as [string[], string[]]
  for (const path of [...one, ...two]) writeFileSync(path, Buffer.alloc(9000, 7), { flag: 'r+' })
  t.deepEqual(codesOf(await status(lab)), [], 'nobody has looked')
  const check = await imager('check', '--read-data', '--json', ...state)
  t.is(check.code, 5, check.stdout)
  const report = lastLine<CheckReport>(check)
  t.is(report.damaged, one.length + two.length)
  t.true(report.unrepairable > 0)
  t.true(report.snapshots.every((snapshot) => !snapshot.restorable))
  const known = await status(lab)
  t.deepEqual(codesOf(known), ['LOST'])
  t.is((await imager('snapshot', disk, ...state)).code, 0)
  t.deepEqual(codesOf(await status(lab)), [])
  await lab.restoreLatest(t, disk)
  const again = await imager('check', '--read-data', ...state)
  t.is(again.code, 5, 'the older snapshot stays lost')
  t.regex(again.stdout, /\n1 of 2 snapshots cannot be restored; `imager status/)
})

test.serial(
  'a store that was put back a week, and took new data since, is found out by what it lacks alone',
  async (t) => {
    const { lab } = await TestLab.imaged(t, 3, 16)
    const { store } = lab.lab.peers[0] as TestLab['lab']['peers'][number]
    const [week, later] = [lab.path('week'), lab.path('later')]
    const child = await restartPeer(t, lab, 0, () => execFileSync('cp', ['-a', store, week]))
    await lab.snapshot(t, lab.makeDisk('other.img', 16))
    const before = new Set(shardsOf(week).map((path) => path.slice(-38)))
    const lost = shardsOf(store).filter((path) => !before.has(path.slice(-38)))
    t.true(lost.length > 0)
    await lab.kill(child.pid as number)
    renameSync(store, later)
    renameSync(week, store)
    // As if it had taken as much as it lost: neither its bytes nor its sequence are lower.
    for (let raised = 0; raised <= lost.length; raised++) await raiseSequence(store)
    const back = lab.startPeer(0)
    t.teardown(() => void back.kill('SIGKILL'))
    await started(back)
    t.deepEqual(codesOf(await until(lab, ['BELOW_TARGET'])), ['BELOW_TARGET'])
    const events = (await imager('events', '--state', lab.lab.coordinator.state)).stdout
    t.regex(events, new RegExp(`${lost.length} shards? on peer-1 (is|are) missing`), 'and no others')
  },
)

async function raiseSequence(store: string): Promise<void> {
  await (await StoreSequence.open(store)).raise()
}

test.serial('what a restore meets damaged is known from then on', async (t) => {
  // Three stripes, each turned by one: every peer holds data of one at least, and parity is not asked for.
  const { lab, disk } = await TestLab.imaged(t, 3, 64)
  const shards = join(lab.lab.peers[0]?.store ?? '', 'shards')
  const aside = lab.path('aside')
  renameSync(shards, aside)
  execFileSync('cp', ['-a', aside, shards])
  for (const path of shardsOf(shards)) rmSync(path)
  t.true((await lab.restoreLatest(t, disk)).corrected > 0)
  t.deepEqual(codesOf(await status(lab)), ['BELOW_TARGET'])
  rmSync(shards, { recursive: true })
  renameSync(aside, shards)
  t.deepEqual(codesOf(await status(lab)), ['BELOW_TARGET'], 'nobody has looked')
  t.is((await imager('check', '--state', lab.lab.appliance.state)).code, 0)
  // And the peer has signed it again.
  t.deepEqual(codesOf(await until(lab, [])), [])
})

test.serial('all that was read and is right is verified, until a byte is found wrong', async (t) => {
  const { lab, state } = await TestLab.imaged(t, 3, 16)
  t.is((await imager('check', ...state)).code, 0)
  t.is((await status(lab)).volumes[0]?.state, 'protected', 'that it is there proves no byte')
  t.is((await imager('check', '--read-data', ...state)).code, 0)
  t.is((await status(lab)).volumes[0]?.state, 'verified')
  const [path] = shardsOf(lab.lab.peers[0]?.store ?? '') as [string]
  const wrong = Buffer.alloc(9000, 7)
  writeFileSync(path, wrong, { flag: 'r+' })
  const found = await imager('check', '--read-data', ...state)
  t.is(found.code, 6)
  t.regex(
    found.stdout,
    /peer-1: shard \w+ of stripe [0-9a-f/]+ is corrupt\n.*\nEvery snapshot can be restored; 1 shard damaged/,
  )
  const weaker = await status(lab)
  t.like(weaker.volumes[0], { state: 'sealed', survives: 0 })
  t.deepEqual(codesOf(weaker), ['BELOW_TARGET'])
  t.is(await typeRemedy(lab, weaker), 'snapshot 0')
  t.deepEqual(codesOf(await status(lab)), [])
})

test.serial('peers that are off do not lower the target unseen; a dead one is not "restorable"', async (t) => {
  const lab = await TestLab.up(t, 6)
  const disk = lab.makeDisk('disk.img', 16)
  const state = ['--state', lab.lab.appliance.state]
  for (const { pid } of lab.lab.peers.slice(0, 3)) await lab.kill(pid)
  const weak = await imager('snapshot', disk, '--json', ...state)
  t.is(weak.code, 4, weak.stdout + weak.stderr)
  t.like(lastLine<SnapshotReport>(weak), { survives: 1, target: 2, state: 'sealed', scheme: '2+2' })
  const unmet = await imager('check', '--json', ...state)
  t.is(unmet.code, 0, 'the three that hold it answer')
  for (const index of [0, 1, 2]) {
    const child = lab.startPeer(index)
    t.teardown(() => void child.kill('SIGKILL'))
    await started(child)
  }
  t.like((await until(lab, [])).volumes[0], { state: 'protected', survives: 2, target: 2 })
  // Six, of which two hang: four answer, and it would be 2+2. The target stays, and is reached.
  const settled = await imager(
    'policy',
    'set',
    disk,
    '--tolerate',
    '1',
    '--max-age',
    'never',
    '--json',
    ...['--state', lab.lab.coordinator.state],
  )
  t.is(settled.code, 0, settled.stdout)
  const shown = lastLine<{ volumes: VolumePolicy[] }>(await imager('policy', 'show', '--json', ...state))
  t.like(shown.volumes[0], { source: disk, tolerate: 1, target: 1, maxAgeMs: 0 })
  t.is((await imager('policy', 'set', disk, '--tolerate', '1', ...state)).code, 12, 'an appliance decides nothing')
  for (const { pid } of lab.lab.peers.slice(3)) await lab.kill(pid)
  const dead = await imager('check', '--json', ...state)
  t.is(dead.code, 5)
  t.deepEqual(lastLine<CheckReport>(dead).unreachable, ['peer-4', 'peer-5', 'peer-6'])
})

test.serial('a PC is gone for good: it is removed, and the target falls only because a person says so', async (t) => {
  const { lab, disk, state } = await TestLab.imaged(t, 5, 16)
  t.like((await status(lab)).volumes[0], { survives: 3, target: 3, state: 'protected' })
  const office = ['--state', lab.lab.coordinator.state]
  await lab.kill(lab.lab.peers[4]?.pid as number)
  t.is((await imager('remove', 'peer-5', ...state)).code, 12, 'an appliance removes nobody')
  const removed = await imager('remove', 'peer-5', '--json', ...office)
  t.is(removed.code, 0, removed.stdout)
  t.like(lastLine<object>(removed), { status: 'done', host: 'peer-5', snapshotsBelowTarget: 1 })
  const seen = await status(lab)
  t.deepEqual(codesOf(seen), ['BELOW_TARGET'])
  t.is(await typeRemedy(lab, seen), 'policy 0')
  const settled = await status(lab)
  t.deepEqual(codesOf(settled), [])
  t.like(settled.volumes[0], { survives: 2, target: 2 })
  await lab.restoreLatest(t, disk)
})

test.serial(
  'PCs that are gone for good: what status says is typed, line by line, until all is safe again',
  async (t) => {
    const { lab, disk } = await TestLab.imaged(t, 4, 16)
    for (const { pid } of lab.lab.peers.slice(2)) await lab.kill(pid)
    silence(lab, ['peer-3', 'peer-4'])
    const first = await status(lab)
    t.deepEqual(codesOf(first), ['NO_MARGIN'])
    t.like(first.volumes[0], { state: 'protected', survives: 2, now: { survives: 0, suffice: [] } })
    const typed: string[] = []
    for (let report = first; !report.safe && typed.length < 6; report = await status(lab)) {
      typed.push(await typeRemedy(lab, report))
    }
    t.deepEqual(typed, ['remove 0', 'remove 0', 'policy 0', 'snapshot 0'])
    t.deepEqual(codesOf(await status(lab)), [])
    await lab.restoreLatest(t, disk)
  },
)

test.serial('what cannot be restored now names who suffices; they are switched on, and it can', async (t) => {
  const { lab, disk } = await TestLab.imaged(t, 3, 16)
  for (const { pid } of lab.lab.peers.slice(1)) await lab.kill(pid)
  silence(lab, ['peer-2', 'peer-3'])
  const seen = await status(lab)
  t.deepEqual(codesOf(seen), ['NOT_NOW'])
  const [, name] = /^Switch on (peer-[23])\./.exec(seen.problems[0]?.remedy ?? '') ?? []
  const back = lab.startPeer(Number(name?.slice(-1)) - 1)
  t.teardown(() => void back.kill('SIGKILL'))
  await started(back)
  t.deepEqual(codesOf(await until(lab, ['NO_MARGIN'])), ['NO_MARGIN'])
  await lab.restoreLatest(t, disk)
})

test.serial(
  'a backup that is old, and a run that came to nothing, are said; what is typed makes the light green',
  async (t) => {
    const { lab, disk } = await TestLab.imaged(t, 3, 16)
    // With the checksums that this version writes: SQL typed by hand is damage.
    const db = openDatabase(join(lab.lab.coordinator.state, 'catalog', 'catalog.db'))
    db.prepare('UPDATE snapshot SET arrived = arrived - ?').run(400 * 86_400_000)
    db.close()
    const old = await status(lab)
    t.deepEqual(codesOf(old), ['OLD'])
    t.regex(old.problems[0]?.sentence ?? '', /is 400 days old, 8 days are expected at most/)
    t.is(await typeRemedy(lab, old), 'snapshot 0')
    t.deepEqual(codesOf(await status(lab)), [])
    for (const { pid } of lab.lab.peers.slice(1)) await lab.kill(pid)
    t.is((await imager('snapshot', disk, '--state', lab.lab.appliance.state)).code, 1)
    const failed = await status(lab)
    t.deepEqual(codesOf(failed), ['RUN_FAILED'])
    for (const index of [1, 2]) {
      const child = lab.startPeer(index)
      t.teardown(() => void child.kill('SIGKILL'))
      await started(child)
    }
    t.is(await typeRemedy(lab, failed), 'snapshot 0')
    t.deepEqual(codesOf(await status(lab)), [])
  },
)

testWhere(lacksFileSystem('ext4'))('a bad sector costs its shard, which is named, and not the peer', async (t) => {
  const { lab, state } = await TestLab.imaged(t, 3, 16)
  const image = lab.path('bad-disk.img')
  truncateSync(writeEmpty(image), 64 * 2 ** 20)
  execFileSync('mkfs.ext4', ['-q', image], { stdio: 'pipe' })
  const { store } = lab.lab.peers[0] as TestLab['lab']['peers'][number]
  const aside = lab.path('aside')
  await restartPeer(t, lab, 0, () => {
    renameSync(store, aside)
    mkdirSync(store)
    execFileSync('mount', ['-o', 'loop', image, store])
    execFileSync('cp', ['-a', `${aside}/.`, store])
    // Behind the end of its backing file a loop device answers with EIO. Mounted anew, nothing of it is in the kernel's cache.
    const last = lastOnDisk(shardsOf(store))
    execFileSync('umount', [store])
    execFileSync('mount', ['-o', 'loop', image, store])
    truncateSync(image, last.from)
    t.log(`cut at ${last.from}, in ${last.path.slice(-12)}`)
  })
  t.teardown(() => execFileSync('umount', ['--lazy', store]))
  const check = await imager('check', '--read-data', '--json', ...state)
  t.is(check.code, 6, check.stdout)
  const lines = check.stdout.split('\n').filter((line) => line.includes('"status":"damage"'))
  t.deepEqual(
    lines.map((line) => JSON.parse(line) as Damage).map(({ host, what }) => `${host} ${what}`),
    ['peer-1 corrupt'],
  )
  t.deepEqual(lastLine<CheckReport>(check).unreachable, [])
})

function writeEmpty(path: string): string {
  writeFileSync(path, '')
  return path
}

/** Of these files, the one whose data lies last on its disk, and where that begins, in bytes. */
function lastOnDisk(paths: readonly string[]): { path: string; from: number } {
  execFileSync('sync')
  const places = paths.map((path) => {
    const rows = execFileSync('filefrag', ['-v', path], { encoding: 'utf8' }).matchAll(
      /^\s*\d+:\s+\d+\.\.\s*\d+:\s+(\d+)\.\./gm,
    )
    return { path, from: Math.max(...[...rows].map(([, block]) => Number(block) * blockBytes(path))) }
  })
  return places.reduce((a, b) => (b.from > a.from ? b : a))
}

function blockBytes(path: string): number {
  return statSync(path).blksize
}
