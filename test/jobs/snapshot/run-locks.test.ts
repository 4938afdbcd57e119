import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { ImagerError } from '../../../src/base/errors.js'
import { formatTime } from '../../../src/base/units.js'
import { RunLocks } from '../../../src/jobs/snapshot/run-locks.js'
import type { Home } from '../../../src/keys/home.js'

function desk(t: ExecutionContext) {
  const state = mkdtempSync(join(tmpdir(), 'imager-locks-'))
  t.teardown(() => rmSync(state, { recursive: true, force: true }))
  const said: string[] = []
  const abort = new AbortController()
  const locks = (wait = false) => {
    const parts = {
      home: { state } as Home,
      clock: { now: () => Date.UTC(2026, 10, 21, 7, 5) },
      report: ({ phase }: { phase: string }) => void said.push(phase),
      signal: abort.signal,
    }
    const made = new RunLocks({ source: '/dev/sdb', wait }, parts)
    t.teardown(() => made.close())
    return made
  }
  return { state, said, abort, locks }
}

test('the second is told which process the first is, and since when', async (t) => {
  const { state, locks } = desk(t)
  const first = locks()
  await first.hold('disk')
  await first.hold('disk')
  const since = formatTime(Date.UTC(2026, 10, 21, 7, 5), 'seconds').replace('+', '\\+')
  const busy = { code: 'BUSY', message: new RegExp(`/dev/sdb .*process ${process.pid}, since ${since}`) }
  await t.throwsAsync(locks().hold('disk'), busy)
  t.false(locks().tryHold('disk'))
  t.true(locks().tryHold('another disk'))
  for (const name of readdirSync(join(state, 'runs')))
    t.is(statSync(join(state, 'runs', name)).mode & 0o777, 0o600, name)
  first.close()
  t.true(locks().tryHold('disk'))
})

test('who waits begins when the other has ended, or ends at Ctrl-C', async (t) => {
  const { said, abort, locks } = desk(t)
  const first = locks()
  await first.hold('disk')
  const waiting = locks(true)
  const held = waiting.hold('disk')
  while (said.length === 0) await sleep(1)
  t.regex(said[0] ?? '', new RegExp(`process ${process.pid}`))
  first.close()
  await held
  const third = locks(true).hold('disk')
  abort.abort(new ImagerError('INTERRUPTED'))
  await t.throwsAsync(third, { code: 'INTERRUPTED' })
})

test('a name that is left of a run that was killed, or is nonsense, is not given for the holder', async (t) => {
  const { state, locks } = desk(t)
  await locks().hold('disk')
  const path = join(state, 'runs', 'disk.json')
  const mark = JSON.parse(readFileSync(path, 'utf8')) as { started: string }
  for (const text of ['', '{"pid":"x"}', JSON.stringify({ ...mark, started: `${mark.started}0` })]) {
    writeFileSync(path, text)
    await t.throwsAsync(locks().hold('disk'), { code: 'BUSY', message: /this very moment/ })
  }
})

test('a lock that is another file is not taken, and named', async (t) => {
  const { state, locks } = desk(t)
  t.true(locks().tryHold('other'))
  const path = join(state, 'runs', 'disk.lock')
  writeFileSync(path, 'something else'.repeat(100))
  await t.throwsAsync(locks().hold('disk'), { code: 'SYSTEM', message: new RegExp(`${path}: file is not a database`) })
})
