/** File systems that are frozen, thawed whatever happens, and never those that are needed. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { systemClock } from '../../src/base/clock.js'
import { MiB } from '../../src/base/units.js'
import { Freeze, isReadOnly, whyNotFrozen, writableMounts } from '../../src/disk/freeze.js'
import { fileSystemsUnder, mountOf, readMounts } from '../../src/disk/mounts.js'
import { inspectSource, type SourceFacts } from '../../src/disk/source.js'
import { openView } from '../../src/disk/view.js'
import { lacksFileSystem, lacksTools, testWhere } from '../machine.js'

/** In a container whose layers cannot be seen nothing may be frozen. */
const lacksRoots = fileSystemsUnder('/', readMounts()) ? undefined : 'nobody can tell what / lies on'
const lacksFreezing = lacksFileSystem('ext4') ?? lacksTools('mkfs.ext4', 'fsfreeze') ?? lacksRoots
const test = testWhere(lacksFreezing)

function mounted(t: ExecutionContext): { point: string; facts: SourceFacts } {
  const folder = mkdtempSync(join(tmpdir(), 'imager freeze '))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return mountIn(t, folder)
}

function mountIn(t: ExecutionContext, folder: string): { point: string; facts: SourceFacts } {
  const [image, point] = [join(folder, 'image'), join(folder, 'point')]
  closeSync(openSync(image, 'w'))
  truncateSync(image, 32 * MiB)
  execFileSync('mkfs.ext4', ['-q', image], { stdio: 'pipe' })
  mkdirSync(point)
  execFileSync('mount', ['-o', 'loop', image, point], { stdio: 'pipe' })
  // Whoever was just killed may hold it for a moment more.
  t.teardown(() => execFileSync('umount', ['--lazy', point]))
  return { point, facts: inspectSource(image) }
}

/** A limit that no test waits for. */
const NEVER_MS = 3_600_000

/** Resolves when a write came through. The thread that waits is none of ours, so nothing else waits with it. */
async function write(point: string): Promise<'written'> {
  const file = await open(join(point, 'written'), 'w')
  await file.write('while it was frozen?')
  await file.sync()
  await file.close()
  return 'written'
}

const FREEZER = fileURLToPath(new URL('../../src/disk/freeze.js', import.meta.url))

/** Another process that freezes what is mounted from an image, and does nothing more. */
async function freezeElsewhere(t: ExecutionContext, facts: SourceFacts, limitMs: number): Promise<ChildProcess> {
  const program = `
    const { Freeze } = await import(${JSON.stringify(FREEZER)})
    await Freeze.begin(${JSON.stringify(writableMounts(facts))}, ${limitMs})
    console.log('frozen')
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  return child
}

test('who writes to a frozen file system waits until it is thawed', async (t) => {
  const disk = mounted(t)
  t.is(whyNotFrozen(disk.facts, []), undefined)
  t.deepEqual(
    disk.facts.mounts.map(({ point, start }) => ({ point, start })),
    [{ point: disk.point, start: 0 }],
  )
  const freeze = await Freeze.begin(writableMounts(disk.facts), NEVER_MS)
  const writing = write(disk.point)
  // Unfrozen it takes some milliseconds; a slow machine makes this see less, not fail.
  t.is(await Promise.race([writing, sleep(500, 'waits')]), 'waits')
  t.true(await freeze.end())
  t.is(await writing, 'written')
  const refused = [...writableMounts(disk.facts), { ...disk.facts.mounts[0]!, point: '/proc' }]
  await t.throwsAsync(Freeze.begin(refused, NEVER_MS), {
    message: /\/proc cannot be frozen/,
  })
  t.is(await write(disk.point), 'written', 'what was frozen before a refusal is thawed')
})

test('the file system of an imager that was killed is thawed', async (t) => {
  const disk = mounted(t)
  const child = await freezeElsewhere(t, disk.facts, NEVER_MS)
  const writing = write(disk.point)
  child.kill('SIGKILL')
  t.is(await writing, 'written')
})

test('the file system of an imager that hangs is thawed after the time limit, and the view is not claimed', async (t) => {
  const disk = mounted(t)
  const child = await freezeElsewhere(t, disk.facts, 1000)
  child.kill('SIGSTOP')
  t.is(await write(disk.point), 'written')
  const late = await Freeze.begin(writableMounts(disk.facts), 1000)
  await write(disk.point)
  t.false(await late.end())
})

/** Longer than a test may take. */
const QUIET = { choice: 'auto', quietMs: 900_000, giveUpMs: 950_000 } as const

test('where every file system is read-only nobody waits for a quiet window, and a change is noticed', async (t) => {
  const disk = mounted(t)
  const remount = (...options: string[]) => execFileSync('mount', ['-o', options.join(','), disk.point])
  const again = () => inspectSource(disk.facts.path)
  t.false(isReadOnly(disk.facts))
  remount('remount', 'bind', 'ro')
  t.false(isReadOnly(again()), 'one mount is read-only, the file system is not')
  remount('remount', 'ro')
  const facts = again()
  t.true(isReadOnly(facts))
  t.false(isReadOnly({ ...facts, mounts: [...facts.mounts, ...disk.facts.mounts] }), 'another one is not')
  t.false(isReadOnly({ ...facts, mounts: facts.mounts.map((mount) => ({ ...mount, type: 'fuseblk' })) }))
  t.false(isReadOnly({ ...facts, uses: [...facts.uses, 'swap'] }))

  const parts = { clock: systemClock, signal: new AbortController().signal, needed: [] }
  const view = await openView(facts, QUIET, parts)
  t.is(view.how, `mounted read-only (${disk.point})`)
  t.deepEqual(await view.hold(() => Promise.resolve('read')), { value: 'read', held: true })
  t.false(view.moved())
  await view.confirm()
  remount('remount', 'rw')
  await t.throwsAsync(view.confirm(), { code: 'SOURCE_CHANGED' })
})

const lacksSwap = existsSync('/proc/swaps') ? undefined : 'no swap in this kernel'
testWhere(lacksFreezing, lacksSwap)('what imager or the system needs is never frozen', async (t) => {
  const facts = { path: '/dev/x', kind: 'device', title: '', uses: ['/'], logicalVolume: false } as const
  // Whatever they are here, as if they were of a kind that may be frozen.
  for (const device of fileSystemsUnder('/', readMounts()) ?? []) {
    const mount = { point: '/', device, type: 'ext4', source: '', readOnly: false, options: [], start: 0 }
    t.is(whyNotFrozen({ ...facts, mounts: [mount] }, []), '/ is needed for /')
  }

  const disk = mounted(t)
  mkdirSync(join(disk.point, 'state'))
  t.regex(whyNotFrozen(disk.facts, [join(disk.point, 'state', 'not yet there')]) ?? '', /needed for imager's .*state/)

  const daemon = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)', 'main.js', 'peer', '--store', 'state'], {
    cwd: disk.point,
  })
  await once(daemon, 'spawn')
  t.regex(whyNotFrozen(disk.facts, []) ?? '', /needed for an imager daemon of this host/)
  daemon.kill('SIGKILL')
  await once(daemon, 'exit')

  const output = openSync(join(disk.point, 'output'), 'w')
  const ask = `const { whyNotFrozen } = await import(${JSON.stringify(FREEZER)})
    console.error(whyNotFrozen(${JSON.stringify(disk.facts)}, []))`
  const asked = spawn(process.execPath, ['--input-type=module', '-e', ask], { stdio: ['ignore', output, 'pipe'] })
  const [answer] = (await once(asked.stderr!, 'data')) as [Buffer]
  closeSync(output)
  t.regex(answer.toString(), /needed for the output of this command/)

  // A file system on an image that lies on another one needs both.
  const inner = mountIn(t, disk.point)
  t.true(fileSystemsUnder(inner.point, readMounts())?.has(disk.facts.mounts[0]!.device))
  t.regex(whyNotFrozen(disk.facts, [inner.point]) ?? '', /needed for imager's/)
  writeFileSync(join(inner.point, 'swap'), Buffer.alloc(MiB))
  execFileSync('mkswap', [join(inner.point, 'swap')], { stdio: 'pipe' })
  execFileSync('swapon', [join(inner.point, 'swap')], { stdio: 'pipe' })
  const why = whyNotFrozen(inner.facts, [])
  execFileSync('swapoff', [join(inner.point, 'swap')])
  t.regex(why ?? '', /needed for a swap file/)
})

/** What `whyNotFrozen` says where `folder` is the root: mountinfo does not show what a plain folder lies on. */
function askInChroot(folder: string, facts: SourceFacts): string {
  mkdirSync(folder)
  const program = `const { whyNotFrozen } = await import(${JSON.stringify(FREEZER)})
    console.log(whyNotFrozen(${JSON.stringify(facts)}, []))`
  const script = `set -e
    for path in /*; do
      if [ -L "$path" ]; then cp -P "$path" .; elif [ -d "$path" ]; then mkdir ".$path" && mount --rbind "$path" ".$path"; fi
    done
    exec chroot . "$@"`
  const words = ['-m', 'sh', '-c', script, 'sh', process.execPath, '--input-type=module', '-e', program]
  return execFileSync('unshare', words, { cwd: folder, encoding: 'utf8', stdio: 'pipe' }).trim()
}

/** Nothing can be unshared there, and all other tests here run in a chroot already. */
const lacksRootMount = mountOf('/', readMounts()) ? undefined : '/ is not in mountinfo'
const chrootTest = testWhere(lacksFreezing, lacksRootMount, lacksTools('unshare', 'chroot'))
chrootTest('in a chroot that mountinfo does not show nothing is frozen that may be needed', (t) => {
  const disk = mounted(t)
  t.is(askInChroot(join(disk.point, 'root'), disk.facts), `${disk.point} is needed for /`)
  // Of a file system without a device of its own only mountinfo knows where it lies.
  const memory = mkdtempSync(join(tmpdir(), 'imager freeze '))
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', memory])
  t.teardown(() => {
    execFileSync('umount', [memory])
    rmSync(memory, { recursive: true })
  })
  const why = 'the file systems that are needed for / cannot all be seen from here'
  t.is(askInChroot(join(memory, 'root'), disk.facts), why)
})
