import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { isAlive } from '../../src/base/process-mark.js'
import { endProcesses, startDetached } from '../../src/daemon/process.js'
import { Loop } from '../../src/daemon/running.js'

const FOREVER = 'setInterval(() => {}, 1000)'

function log(t: { teardown(undo: () => void): void }): string {
  const dir = mkdtempSync(join(tmpdir(), 'imager-process-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return join(dir, 'log')
}

test('a process is ended only while id, start time and boot all match', async (t) => {
  const mark = startDetached(['-e', FOREVER], log(t))
  t.true(isAlive(mark))
  t.is(await endProcesses([{ ...mark, started: '1' }], 1000), 0)
  t.is(await endProcesses([{ ...mark, boot: 'another' }], 1000), 0)
  t.true(isAlive(mark))
  t.is(await endProcesses([mark], 5000), 1)
  t.false(isAlive(mark))
  t.is(await endProcesses([mark], 1000), 0)
})

test('who does not end when asked is ended', async (t) => {
  const path = log(t)
  const mark = startDetached(['-e', `process.on('SIGTERM', () => {}); console.log('up'); ${FOREVER}`], path)
  while (!readFileSync(path, 'utf8').includes('up')) await sleep(10)
  t.is(await endProcesses([mark], 200), 1)
})

test('a process that ended but was not collected does not run', async (t) => {
  const child = spawn('sleep', ['0'])
  await once(child, 'exit')
  t.false(isAlive({ pid: child.pid ?? 0, started: '1', boot: '' }))
})

test('a loop survives its task’s errors, runs when woken, and stops', async (t) => {
  let runs = 0
  const errors: unknown[] = []
  const task = async () => {
    runs++
    throw new Error('no')
  }
  const loop = new Loop(3_600_000, task, (error) => errors.push(error))
  await loop.first
  loop.wake()
  while (runs < 2) await sleep(1)
  await loop.close()
  t.is(runs, 2)
  t.is(errors.length, 2)
})
