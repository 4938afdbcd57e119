/** What breaks, and what the person then sees. */
import { type ChildProcess, execFileSync } from 'node:child_process'
import { once } from 'node:events'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import type { LabReport } from '../../src/daemon/lab.js'
import type { CheckReport, Damage } from '../../src/jobs/check.js'
import type { RestoreReport } from '../../src/jobs/restore/disk.js'
import type { SnapshotReport } from '../../src/jobs/snapshot/snapshot.js'
import { lacksMounts, lacksTools, testWhere } from '../machine.js'
import { fuseTest } from '../mount/mounting.js'
import { firstDifference } from './disks.js'
import { flip, freeze, limitFiles, ruin, shardsOf } from './harm.js'
import { imager, lastLine, start, TestLab } from './lab.js'

interface Refusal {
  code: string
  message: string
  remedy: string
}

/** How often a stopped process was asked: nobody takes these connections, so they stay. */
function connectionsTo(address: string): number {
  const port = Number(address.split(':').at(-1)).toString(16).toUpperCase().padStart(4, '0')
  const rows = readFileSync('/proc/net/tcp', 'latin1').trim().split('\n').slice(1)
  const LISTENING = '0A'
  return rows.filter((row) => {
    const [, local, , state] = row.trim().split(/\s+/)
    return local?.endsWith(`:${port}`) && state !== LISTENING
  }).length
}

test.serial(
  'one host more than may be missing: restore refuses before it writes, and says who would suffice',
  async (t) => {
    const { lab, disk, state } = await TestLab.imaged(t, 4, 24)
    for (const peer of lab.lab.peers.slice(0, 3)) await lab.kill(peer.pid)
    const target = lab.path('target.img')
    const refused = await imager('restore', 'latest', '--to', target, '--json', ...state)
    t.is(refused.code, 5, refused.stdout)
    const { code, remedy } = lastLine<Refusal>(refused)
    t.is(code, 'NOT_RESTORABLE')
    t.regex(remedy, /peer-[123]/)
    t.false(existsSync(target))

    const back = lab.startPeer(0)
    t.teardown(() => void back.kill())
    await once(back.stdout as NodeJS.ReadableStream, 'data')
    await lab.restoreLatest(t, disk)
  },
)

test.serial('hosts that are off, and needed, are named before anybody has waited for their deadline', async (t) => {
  const { lab, state } = await TestLab.imaged(t, 4, 24)
  freeze(t, lab.lab.peers.slice(0, 3))
  const restoring = start(['restore', 'latest', '--to', lab.path('target.img'), '--json', ...state])
  t.teardown(() => void restoring.kill('SIGKILL'))
  let stdout = ''
  restoring.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  const told = /No answer yet from peer-1, peer-2, peer-3, without whom .* switch on peer-/
  while (!told.test(stdout)) {
    if (restoring.exitCode !== null || stdout.includes('"error"')) return t.fail(stdout)
    await sleep(20)
  }
  t.pass()
})

test.serial('hosts that fall silent during a restore are waited for', async (t) => {
  const { lab, disk, state } = await TestLab.imaged(t, 3, 300)
  const target = lab.path('target.img')
  const restoring = start(['restore', 'latest', '--to', target, '--json', ...state])
  t.teardown(() => void restoring.kill())
  let stdout = ''
  restoring.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  while (!existsSync(target)) await sleep(1)
  restoring.kill('SIGSTOP')
  for (const peer of lab.lab.peers.slice(0, 2)) await lab.kill(peer.pid)
  restoring.kill('SIGCONT')
  while (!stdout.includes('waiting for any 1 of peer-1, peer-2')) {
    if (restoring.exitCode !== null) return t.fail(stdout)
    await sleep(50)
  }
  const back = lab.startPeer(0)
  t.teardown(() => void back.kill())
  const [code] = (await once(restoring, 'close')) as [number]
  t.is(code, 0, stdout)
  t.is(firstDifference(disk, target), undefined)
})

/** A restore, held still at a moment while something happens to it; its exit code, last line and seconds from then on. */
async function heldRestore(
  t: ExecutionContext,
  argv: readonly string[],
  isThen: (stdout: string) => boolean,
  meanwhile: (pid: number) => void,
) {
  const restoring = start(['restore', 'latest', ...argv, '--json'])
  t.teardown(() => void restoring.kill('SIGKILL'))
  let stdout = ''
  restoring.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  while (!isThen(stdout) && restoring.exitCode === null) await sleep(1)
  restoring.kill('SIGSTOP')
  meanwhile(restoring.pid as number)
  const began = performance.now()
  restoring.kill('SIGCONT')
  const [code] = (await once(restoring, 'close')) as [number]
  const last = lastLine<Refusal & RestoreReport>({ code, stdout, stderr: '' })
  return { code, last, seconds: (performance.now() - began) / 1000 }
}

test.serial('hosts that freeze in the middle of a restore cost seconds, as long as enough others are up', async (t) => {
  const { lab, disk, state } = await TestLab.imaged(t, 4, 300)
  const target = lab.path('target.img')
  const isWriting = (stdout: string) => stdout.includes('progress')
  const { code, last, seconds } = await heldRestore(t, ['--to', target, ...state], isWriting, () => {
    freeze(t, lab.lab.peers.slice(0, 2))
  })
  t.is(code, 0, last.message)
  t.is(firstDifference(disk, target), undefined)
  // The deadline of a transfer is the promise: a restore that waited for it takes longer, however idle the machine is.
  t.true(seconds < 60, `${seconds} s: the deadline of a transfer is 60 s`)
})

test.serial(
  'damage on hosts that are up is told as that and at once, and counts no longer when it is mended',
  async (t) => {
    const { lab, disk, state } = await TestLab.imaged(t, 3, 24)
    const [one, two] = lab.lab.peers as [LabReport['peers'][number], LabReport['peers'][number]]
    for (const peer of [one, two]) ruin(peer)
    const refused = await imager('restore', 'latest', '--to', lab.path('none.img'), '--json', ...state)
    t.is(refused.code, 5, refused.stdout)
    const { code, message, remedy } = lastLine<Refusal>(refused)
    t.is(code, 'NOT_RESTORABLE')
    t.regex(
      message,
      /^2 shards are damaged: [0-9a-f]{8} on peer-[12], [0-9a-f]{8} on peer-[12]\. What is left is not enough/,
    )
    t.regex(remedy, /^No host that comes back is enough, look at the disks of peer-1, peer-2;/)
    t.notRegex(refused.stdout + refused.stderr, /waiting for/, 'nobody comes back whom it could wait for')

    ruin(two)
    await lab.restoreLatest(t, disk)
  },
)

testWhere(lacksTools('prlimit'))('a limit of this computer is told as that, and no host is blamed', async (t) => {
  const { lab, state } = await TestLab.imaged(t, 3, 100)
  const target = lab.path('target.img')
  const { code, last } = await heldRestore(
    t,
    ['--to', target, ...state],
    () => existsSync(target),
    (pid) => limitFiles(pid, 10),
  )
  t.is(code, 1)
  t.is(last.code, 'EXHAUSTED')
  t.regex(last.message, /limit of its own: connecting to 127\.0\.0\.1:\d+: .*[Tt]oo many open files/)
})

testWhere(lacksMounts())('a disk that is full is told with the path of what does not fit', async (t) => {
  const { lab, state } = await TestLab.imaged(t, 3, 24)
  const small = (name: string, options: string) => {
    const path = lab.path(name)
    mkdirSync(path)
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'none', path])
    t.teardown(() => void execFileSync('umount', [path]))
    return path
  }
  const list = lab.path('list')
  writeFileSync(list, '/0/large\n')
  const target = join(small('bytes', 'size=4m'), 'target.img')
  const folder = small('inodes', 'nr_inodes=4')
  for (const [argv, path] of [
    [['--to', target], target],
    [['--files', list, '--to', join(folder, 'out')], join(folder, 'out', '0', 'large')],
  ] as const) {
    const full = await imager('restore', 'latest', ...argv, '--force', '--json', ...state)
    const { code, message } = lastLine<Refusal>(full)
    t.deepEqual([full.code, code], [1, 'SYSTEM'], full.stdout)
    t.true(message.includes(`${path}`), message)
  }
})

test.serial('damaged, cut, emptied and deleted shards are corrected on the way, and found by check', async (t) => {
  const { lab, disk, state } = await TestLab.imaged(t, 4, 24)
  const [one, two] = lab.lab.peers.map((peer) => shardsOf(peer.store)) as [string[], string[]]
  for (const offset of [5000, 70_000, 200_000]) flip(one[0] as string, offset)
  truncateSync(two[0] as string, 6000)
  rmSync(two[1] as string)
  await lab.restoreLatest(t, disk)
  const check = await imager('check', '--read-data', '--json', ...state)
  t.is(check.code, 6, check.stdout)
  const lines = check.stdout.split('\n').filter((line) => line.includes('"status":"damage"'))
  const found = lines.map((line) => JSON.parse(line) as Damage).map(({ host, what }) => `${host} ${what}`)
  t.like(lastLine<CheckReport>(check), { damaged: 3, unrepairable: 0, unreachable: [] })
  t.deepEqual(found.sort(), ['peer-1 corrupt', 'peer-2 missing', 'peer-2 wrong length'])
})

test.serial('a flipped byte anywhere in a data shard is found and corrected', async (t) => {
  const { lab, disk } = await TestLab.imaged(t, 3, 16)
  let corrected = 0
  for (const [index, peer] of lab.lab.peers.entries()) {
    const path = shardsOf(peer.store)[0] as string
    const offset = 4096 + 20_000 * (index + 1)
    flip(path, offset)
    corrected += (await lab.restoreLatest(t, disk, `target-${index}.img`)).corrected
    flip(path, offset)
  }
  t.is(corrected, 2, 'of three shards two hold data')
})

test.serial('shards that are gone or cut are named by a restore that did without them', async (t) => {
  const { lab, disk } = await TestLab.imaged(t, 4, 16)
  const largest = lab.lab.peers.map((peer) => shardsOf(peer.store)[0] as string)
  const named: string[] = []
  for (const [gone, cut] of [
    [0, 1],
    [2, 3],
  ] as const) {
    const kept = `${largest[cut]}.kept`
    renameSync(largest[gone] as string, `${largest[gone]}.away`)
    copyFileSync(largest[cut] as string, kept)
    truncateSync(largest[cut] as string, 4096 + 5)
    const { damaged } = await lab.restoreLatest(t, disk, `target-${gone}.img`)
    const done: Record<string, string> = { [`peer-${gone + 1}`]: 'missing', [`peer-${cut + 1}`]: 'wrong length' }
    for (const { host, what } of damaged) t.true(what === done[host], `${host} ${what}`)
    named.push(...damaged.map(({ host }) => host))
    renameSync(`${largest[gone]}.away`, largest[gone] as string)
    renameSync(kept, largest[cut] as string)
  }
  t.true(new Set(named).size >= 2, `two of them hold data; named: ${named.join()}`)
})

/** Resolves once it has said so many lines. */
function linesOf(child: ChildProcess, count: number): Promise<void> {
  return new Promise((resolve) => {
    let text = ''
    child.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      if (text.split('\n').length > count) resolve()
    })
  })
}

test.serial('a snapshot killed at any moment lists nothing, and the next run uses what arrived', async (t) => {
  const lab = await TestLab.up(t, 3)
  const state = ['--state', lab.lab.appliance.state]
  const disk = lab.makeDisk('disk.img', 200)
  const listed = async () => {
    const { stdout } = await imager('snapshots', '--json', ...state)
    return (JSON.parse(stdout) as { snapshots: { state: string }[] }).snapshots
  }
  let before = 0
  let cutShort = 0
  for (const [signal, lines] of [
    ['SIGKILL', 1],
    ['SIGINT', 2],
    ['SIGKILL', 3],
  ] as const) {
    const child = start(['snapshot', disk, '--json', ...state])
    const ended = once(child, 'close') as Promise<[number | null, string | null]>
    await Promise.race([ended, linesOf(child, lines)])
    child.kill(signal)
    const [code, killedBy] = await ended
    // Before the handler stands, the signal itself ends the process: a shell calls that 130, too.
    if (code !== 0 && signal === 'SIGINT') t.true(code === 130 || killedBy === 'SIGINT', `${code}`)
    // On a busy machine the signal may come too late: what was finished by then is listed, and whole.
    const fresh = (await listed()).slice(before)
    t.true(fresh.length <= 1 && fresh.every((one) => one.state === 'protected'), JSON.stringify(fresh))
    if (code === 0) t.is(fresh.length, 1)
    before += fresh.length
    cutShort += fresh.length === 0 ? 1 : 0
  }
  t.true(cutShort > 0, 'all of them were faster than their signals')
  const done = await imager('snapshot', disk, '--json', ...state)
  t.is(done.code, 0, done.stdout)
  const report = lastLine<SnapshotReport>(done)
  t.log(`${report.newBytes} of ${report.readBytes} bytes were still to be sent`)
  t.true(report.newBytes < report.readBytes)
  const target = lab.path('target.img')
  const restored = await imager('restore', report.snapshot, '--to', target, ...state)
  t.is(restored.code, 0, restored.stderr)
  t.is(firstDifference(disk, target), undefined)
  const check = await imager('check', '--read-data', ...state)
  t.is(check.code, 0, check.stdout + check.stderr)
})

test.serial('a host that dies in mid-snapshot costs shards, not the snapshot', async (t) => {
  const lab = await TestLab.up(t, 4)
  const state = ['--state', lab.lab.appliance.state]
  const disk = lab.makeDisk('disk.img', 200)
  const child = start(['snapshot', disk, '--json', ...state])
  let stdout = ''
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  const ended = once(child, 'close') as Promise<[number]>
  const victim = lab.lab.peers[1] as LabReport['peers'][number]
  while (shardsOf(victim.store).length === 0 && child.exitCode === null) await sleep(5)
  await lab.kill(victim.pid)
  const [code] = await ended
  t.true(code === 4 || code === 0, stdout)
  const report = lastLine<SnapshotReport>({ code, stdout, stderr: '' })
  t.true(report.survives >= 1)
  await lab.restoreLatest(t, disk)
})

test.serial('sources and options that cannot be are refused with their own codes', async (t) => {
  const lab = await TestLab.up(t, 2)
  const state = ['--state', lab.lab.appliance.state]
  const disk = lab.makeDisk('disk.img', 8)
  const cases: [string[], number, RegExp][] = [
    [['snapshot', lab.path('none.img')], 1, /SOURCE_MISSING/],
    [['snapshot', lab.folder], 1, /SOURCE_UNREADABLE/],
    [['snapshot', disk, '--scheme', '0+2'], 2, /USAGE/],
    [['snapshot', disk, '--scheme', '40+2'], 2, /USAGE/],
    [['snapshot', disk, '--tolerate', '2'], 1, /TOO_FEW_HOSTS/],
    [['snapshot', disk, '--frobnicate'], 2, /USAGE/],
    [['show', 'latest'], 10, /NO_SUCH_SNAPSHOT/],
    [['restore', 'latest', '--to', lab.path('x.img')], 10, /NO_SUCH_SNAPSHOT/],
  ]
  for (const [argv, code, text] of cases) {
    const outcome = await imager(...argv, '--json', ...state)
    t.is(outcome.code, code, `${argv.join(' ')}: ${outcome.stdout}`)
    t.regex(outcome.stdout, text)
  }
  t.is((await imager('snapshot', disk, '--state', lab.path('nothing'))).code, 10)
})

test.serial('a host that hangs costs one deadline, not one for each of its shards', async (t) => {
  const { lab, disk, state } = await TestLab.imaged(t, 4, 100)
  const { pid, address, store } = lab.lab.peers[0] as LabReport['peers'][number]
  process.kill(pid, 'SIGSTOP')
  t.teardown(() => process.kill(pid, 'SIGCONT'))
  const before = connectionsTo(address)
  const target = lab.path('target.img')
  const done = await imager('restore', 'latest', '--to', target, '--json', ...state)
  const asked = connectionsTo(address) - before
  t.is(done.code, 0, done.stdout)
  t.deepEqual(lastLine<RestoreReport>(done).missing, ['peer-1'])
  t.is(firstDifference(disk, target), undefined)
  t.log(`${asked} connections for ${shardsOf(store).length} shards`)
  t.true(asked > 0 && asked < shardsOf(store).length)
})

fuseTest('a mount reads on where hosts hang, refuse and give damaged records', async (t) => {
  const { lab, disk, state } = await TestLab.imaged(t, 4, 48)
  const mountpoint = lab.mountpoint(t)
  const compare = async (what: string) => {
    t.is((await imager('mount', 'latest', mountpoint, ...state)).code, 0)
    t.is(firstDifference(disk, join(mountpoint, 'disk.img')), undefined, what)
    await imager('unmount', mountpoint)
  }
  const [one, two] = lab.lab.peers as [LabReport['peers'][number], LabReport['peers'][number]]
  for (const path of shardsOf(one.store)) flip(path, 4096 + 10_000)
  const [refused] = shardsOf(two.store) as [string]
  renameSync(refused, `${refused}.away`)
  await compare('one damaged, one refuses')
  renameSync(`${refused}.away`, refused)
  process.kill(two.pid, 'SIGSTOP')
  t.teardown(() => process.kill(two.pid, 'SIGCONT'))
  const before = connectionsTo(two.address)
  await compare('one damaged, one hangs')
  const asked = connectionsTo(two.address) - before
  t.log(`${asked} connections to the one that hangs`)
  t.true(asked > 0 && asked < 12)
})
