/** Ends of a mount: asked for, while it is busy, while it hangs, and after its process was killed. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, open, readFile, rmdir, symlink, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { unmountPath } from '../../src/mount/unmount.js'
import { MemorySnapshot } from './memory.js'
import { isMounted, mounted, mountpoint, run, fuseTest as test } from './mounting.js'

const SERVE = fileURLToPath(new URL('./serve.js', import.meta.url))

/** A mount in a process of its own. */
async function served(t: ExecutionContext, how = 'serve') {
  const path = await mountpoint(t)
  const child = spawn(process.execPath, [SERVE, path, how], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(async () => {
    child.kill('SIGKILL')
    await unmountPath(path).catch(() => undefined)
  })
  await once(child.stdout, 'data')
  return { path, child, exit: once(child, 'exit') }
}

/** Against a hang, not to measure anything. */
function soon<T>(promise: Promise<T>, what: string, timeoutMs = 60_000): Promise<T> {
  const late = new Promise<never>((_, reject) => {
    setTimeout(() => reject(new Error(`${what} took more than ${timeoutMs} ms`)), timeoutMs).unref()
  })
  return Promise.race([promise, late])
}

test('unmounting from outside ends the session and its process', async (t) => {
  const { path, exit } = await served(t)
  await unmountPath(path)
  t.false(await isMounted(path))
  t.deepEqual(await soon(exit, 'the exit'), [0, null])
})

test('umount by hand does the same', async (t) => {
  const { path, exit } = await served(t)
  await run('umount', [path])
  t.deepEqual(await soon(exit, 'the exit'), [0, null])
})

test('a signal unmounts, also with a read that hangs', async (t) => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const { path, child, exit } = await served(t, 'hang')
    const reading = t.throwsAsync(readFile(join(path, 'files/1/file')))
    await once(child.stdout, 'data')
    child.kill(signal)
    t.deepEqual(await soon(exit, 'the exit'), [0, null])
    await reading
    t.false(await isMounted(path))
  }
})

test('an open file outlives the name, and the process lives for it', async (t) => {
  const { path, exit, child } = await served(t)
  const file = await open(join(path, 'files/1/file'))
  await unmountPath(path)
  t.false(await isMounted(path))
  t.is((await file.read(Buffer.alloc(10), 0, 10, 500_000)).buffer.toString(), 'x'.repeat(10))
  t.is(child.exitCode, null)
  await file.close()
  t.deepEqual(await soon(exit, 'the exit'), [0, null])
})

test('kill -9: readers get an error at once, and the dead mount can be removed', async (t) => {
  const { path, child, exit } = await served(t, 'hang')
  const reading = t.throwsAsync(readFile(join(path, 'files/1/file')))
  await once(child.stdout, 'data')
  child.kill('SIGKILL')
  await soon(exit, 'the exit')
  await soon(reading, 'the error')
  await t.throwsAsync(readFile(join(path, 'files/1/file')), { code: 'ENOTCONN' })
  t.true(await isMounted(path))
  await t.throwsAsync(mounted(t, new MemorySnapshot(), {}, path), { message: /imager unmount/ })
  await unmountPath(path)
  t.false(await isMounted(path))
  const again = await mounted(t, new MemorySnapshot(), {}, path)
  await again.close()
})

test('a hung read: unmount returns at once, the reader gets EIO by its deadline', async (t) => {
  const snapshot = new MemorySnapshot()
  snapshot.file(snapshot.root, 'f', Buffer.alloc(4096))
  let aborted = 0
  const asked = new Promise<void>((resolve) => {
    snapshot.fault = (_offset, _length, signal) => {
      resolve()
      signal?.addEventListener('abort', () => aborted++)
      return new Promise(() => undefined)
    }
  })
  const lines: string[] = []
  const mount = await mounted(t, snapshot, { deadlineMs: 3000, write: (line) => lines.push(line) })
  const reading = t.throwsAsync(readFile(join(mount.mountpoint, 'files/1/f')), { code: 'EIO' })
  await asked
  await unmountPath(mount.mountpoint)
  t.is(aborted, 0, 'the reader still waits')
  t.false(await isMounted(mount.mountpoint))
  await soon(reading, 'EIO')
  await soon(mount.unmounted, 'the end')
  t.true(aborted >= 1)
  t.regex(lines.join(''), /no answer in 3 s/)
})

test('many hung reads do not take the mount down with them', async (t) => {
  const snapshot = new MemorySnapshot()
  const numbers = Array.from({ length: 100 }, (_, index) =>
    snapshot.file(snapshot.root, `f${index}`, Buffer.alloc(4096)),
  )
  snapshot.fault = () => new Promise(() => undefined)
  const mount = await mounted(t, snapshot, { deadlineMs: 1000, write: () => undefined })
  const names = numbers.map((_, index) => join(mount.mountpoint, `files/1/f${index}`))
  const { stderr } = await run('sh', ['-c', 'for f in "$@"; do cat "$f" & done; wait', 'sh', ...names])
  t.is(stderr.match(/Input\/output error/g)?.length, 100)
  snapshot.fault = undefined
  t.is((await readFile(names[0] as string)).length, 4096)
})

test('close: those who wait get an error now, open files are cut off', async (t) => {
  const snapshot = new MemorySnapshot()
  snapshot.file(snapshot.root, 'f', Buffer.alloc(4096))
  const asked = new Promise<void>((resolve) => {
    snapshot.fault = () => {
      resolve()
      return new Promise(() => undefined)
    }
  })
  const mount = await mounted(t, snapshot, { write: () => undefined })
  const file = await open(join(mount.mountpoint, 'files/1/f'))
  const reading = t.throwsAsync(file.read(Buffer.alloc(10), 0, 10, 0))
  await asked
  await soon(mount.close(), 'close')
  await soon(reading, 'the error')
  await soon(mount.unmounted, 'the end')
  t.false(await isMounted(mount.mountpoint))
  await file.close()
  await mount.close()
})

test('close after the name went to another mount leaves that one alone', async (t) => {
  const first = await mounted(t, new MemorySnapshot())
  const file = await open(join(first.mountpoint, 'disk.img'))
  await unmountPath(first.mountpoint)
  const second = await mounted(t, new MemorySnapshot(), {}, first.mountpoint)
  await soon(first.close(), 'close')
  t.true(await isMounted(second.mountpoint))
  t.is((await readFile(join(second.mountpoint, 'disk.img'))).length, 16 * 1024 * 1024)
  await file.close()
  await soon(first.unmounted, 'the end of the first')
  t.true(await isMounted(second.mountpoint), 'the end of the first takes nothing away')
})

test('only imager mounts are unmounted, by any name they have', async (t) => {
  for (const path of ['/proc', '/', '/tmp', '/nowhere/at/all']) {
    await t.throwsAsync(unmountPath(path), { code: 'NOT_MOUNTED' })
  }
  const parent = await mountpoint(t)
  const path = join(parent, 'line\nend "quoted" $(x)')
  await mkdir(path)
  await symlink(path, `${parent}-link`)
  t.teardown(() => unlink(`${parent}-link`))
  const one = await mounted(t, new MemorySnapshot(), {}, path)
  await unmountPath(`${parent}-link/`)
  await soon(one.unmounted, 'the end')
  const two = await mounted(t, new MemorySnapshot(), {}, path)
  await unmountPath(join(parent, '.', 'line\nend "quoted" $(x)', '/'))
  await soon(two.unmounted, 'the end')
  await rmdir(path)
})

test('mounted and unmounted fifty times leaves nothing open', async (t) => {
  const path = await mountpoint(t)
  const devices = async () =>
    (await run('sh', ['-c', `ls -l /proc/${process.pid}/fd | grep -c /dev/fuse || true`])).stdout
  const before = await devices()
  for (let round = 0; round < 50; round++) {
    const mount = await mounted(t, new MemorySnapshot(65_536), {}, path)
    await readFile(join(path, 'disk.img'))
    await mount.close()
    await mount.unmounted
  }
  t.is(await devices(), before)
})
