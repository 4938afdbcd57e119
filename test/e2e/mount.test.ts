/** A mount while hosts come and go: right bytes or an error, never zeros. */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { MiB } from '../../src/base/units.js'
import { lacksFuse, lacksTools, testWhere } from '../machine.js'
import { fuseTest } from '../mount/mounting.js'
import { firstDifference } from './disks.js'
import { freeze, limitFiles, ruin } from './harm.js'
import { imager, lastLine, TestLab } from './lab.js'

fuseTest('with too few hosts reads fail with EIO; with enough again they are right', async (t) => {
  const { lab, disk, state } = await TestLab.imaged(t, 4, 48)
  const mountpoint = lab.mountpoint(t)
  t.is((await imager('mount', 'latest', mountpoint, ...state)).code, 0)
  const image = `${mountpoint}/disk.img`
  t.is(readFileSync(image).subarray(0, MiB).compare(readFileSync(disk).subarray(0, MiB)), 0)
  await imager('unmount', mountpoint)

  for (const peer of lab.lab.peers.slice(0, 2)) await lab.kill(peer.pid)
  t.is((await imager('mount', 'latest', mountpoint, ...state)).code, 0)
  t.is(firstDifference(disk, image), undefined, 'with two of four')
  await imager('unmount', mountpoint)

  t.is((await imager('mount', 'latest', mountpoint, ...state)).code, 0)
  await lab.kill(lab.lab.peers[2]?.pid as number)
  const file = openSync(image, 'r')
  const error = t.throws(() => {
    for (let at = 0; at < 48 * MiB; at += MiB) readSync(file, Buffer.alloc(MiB), 0, MiB, at)
  }) as NodeJS.ErrnoException
  closeSync(file)
  t.is(error.code, 'EIO')
  const back = lab.startPeer(2)
  t.teardown(() => void back.kill())
  await once(back.stdout as NodeJS.ReadableStream, 'data')
  // The pool does not ask a host that just failed for some seconds.
  const same = () => spawnSync('cmp', [disk, image]).status === 0
  for (let tries = 0; tries < 60 && !same(); tries++) await sleep(1000)
  t.is(firstDifference(disk, image), undefined)
})

/** Reads a file to its end, as another process; its exit code. */
async function readAll(path: string): Promise<number> {
  const [code] = (await once(spawn('cat', [path], { stdio: 'ignore' }), 'close')) as [number]
  return code
}

/** It waits for something: a reader with nowhere to write to, for its file. */
function waits(pid: number): boolean {
  const [state] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1) ?? ''
  return state === 'S' || state === 'D'
}

fuseTest(
  'where more hosts hang than may be missing, a read is answered, and an unmount does not wait for it',
  async (t) => {
    const { lab, disk, state } = await TestLab.imaged(t, 4, 48)
    const mountpoint = lab.mountpoint(t)
    const image = `${mountpoint}/disk.img`
    t.is((await imager('mount', 'latest', mountpoint, ...state)).code, 0)
    const thaw = freeze(t, lab.lab.peers.slice(0, 3))
    const file = openSync(image, 'r')
    const child = spawn('cat', { stdio: [file, 'ignore', 'ignore'] })
    closeSync(file)
    const answer = once(child, 'close') as Promise<[number]>
    await once(child, 'spawn')
    for (let tries = 0; tries < 1000 && !waits(child.pid as number); tries++) await sleep(5)
    t.is((await imager('unmount', mountpoint)).code, 0)
    t.is(child.exitCode, null, 'the read hangs still')
    t.deepEqual(await answer, [1, null], 'EIO, while they hang')
    t.regex(
      readFileSync(join(lab.lab.appliance.state, 'mount.log'), 'utf8'),
      /3 hosts do not answer: peer-1, peer-2, peer-3\./,
    )

    thaw()
    t.is((await imager('mount', 'latest', mountpoint, ...state)).code, 0)
    t.is(firstDifference(disk, image), undefined)
  },
)

fuseTest('a mount that met too much damage reads on when it is mended', async (t) => {
  const { lab, disk, state } = await TestLab.imaged(t, 3, 24)
  const mountpoint = lab.mountpoint(t)
  t.is((await imager('mount', 'latest', mountpoint, ...state)).code, 0)
  const harmed = lab.lab.peers.slice(0, 2)
  for (const peer of harmed) ruin(peer)
  t.is(await readAll(`${mountpoint}/disk.img`), 1)
  t.is(await readAll(`${mountpoint}/disk.img`), 1)
  t.regex(readFileSync(join(lab.lab.appliance.state, 'mount.log'), 'utf8'), /2 shards are damaged: /)
  for (const peer of harmed) ruin(peer)
  t.is(firstDifference(disk, `${mountpoint}/disk.img`), undefined)
})

testWhere(lacksFuse(), lacksTools('prlimit'))(
  'a mount says that it may open no more files, and reads on when it may',
  async (t) => {
    const { lab, disk, state } = await TestLab.imaged(t, 3, 24)
    const mountpoint = lab.mountpoint(t)
    const { pid } = lastLine<{ pid: number }>(await imager('mount', 'latest', mountpoint, '--json', ...state))
    limitFiles(pid, 10)
    t.is(await readAll(`${mountpoint}/disk.img`), 1)
    const log = readFileSync(join(lab.lab.appliance.state, 'mount.log'), 'utf8')
    t.regex(log, /limit of its own: .*[Tt]oo many open files/)
    t.notRegex(log, /does? not answer/)
    limitFiles(pid, 1024)
    t.is(firstDifference(disk, `${mountpoint}/disk.img`), undefined)
  },
)

fuseTest(
  'a folder so large that its names fill several pages is listed whole, and each name leads to its file',
  async (t) => {
    const lab = await TestLab.up(t, 3)
    const state = ['--state', lab.lab.appliance.state]
    const source = lab.path('large')
    const long = 'x'.repeat(230)
    mkdirSync(join(source, 'many'), { recursive: true })
    const names = Array.from(
      { length: 6000 },
      (_, index) => `${String((index * 7919) % 6000).padStart(4, '0')} ${long}`,
    )
    for (const name of names)
      writeFileSync(join(source, 'many', name), name.slice(0, 4).repeat(Number(name.slice(3, 4))))
    const disk = lab.path('disk.img')
    execFileSync('mkfs.ext4', ['-q', '-N', '8000', '-d', source, disk, '96M'], { stdio: 'pipe' })
    await lab.snapshot(t, disk)
    const mountpoint = lab.mountpoint(t)
    const remount = async () => {
      await imager('unmount', mountpoint)
      t.is((await imager('mount', 'latest', mountpoint, ...state)).code, 0)
    }
    const listed = (folder: string) =>
      execFileSync('find', [folder, '-mindepth', '1', '-printf', '%P %y %m %U %G %n %s\\n'], {
        encoding: 'utf8',
        maxBuffer: 16 * MiB,
      })
        .split('\n')
        .sort()

    await remount()
    const many = join(mountpoint, 'files', '0', 'many')
    const [shown, there] = [listed(many), listed(join(source, 'many'))]
    t.is(shown.length, there.length)
    t.deepEqual(shown.filter((line, at) => line !== there[at]).slice(0, 3), [])
    await remount()
    for (const index of [0, 1, 17, 2999, 4321, 5999]) {
      const name = names[index] as string
      t.is(statSync(join(many, name)).size, statSync(join(source, 'many', name)).size)
      t.is(readFileSync(join(many, name), 'utf8'), readFileSync(join(source, 'many', name), 'utf8'))
      t.false(existsSync(join(many, `${name}y`)))
    }
  },
)
