/** The coordinator moves to another machine while it lives; whoever was away follows, and the old folder signs nothing any more. */
import { type ChildProcess, execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import type { SnapshotRow } from '../../src/catalog/types.js'
import { openHome } from '../../src/keys/home.js'
import { imager, lastLine, type Outcome, start, TestLab } from './lab.js'

const code = (outcome: Outcome) => lastLine<{ code: string }>(outcome).code
const ok = (t: ExecutionContext, outcome: Outcome) => t.is(outcome.code, 0, outcome.stdout + outcome.stderr)

/** A coordinator's daemon, whatever it says first. */
async function run(t: ExecutionContext, ...argv: string[]): Promise<{ child: ChildProcess; said(): string }> {
  const child = start(['coordinator', ...argv, '--json'])
  t.teardown(() => child.kill('SIGKILL'))
  let said = ''
  child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })
  lines.on('line', (line) => (said += `${line}\n`))
  await Promise.race([once(lines, 'line'), once(child, 'exit')])
  return { child, said: () => said }
}

async function until(t: ExecutionContext, what: string, is: () => boolean | Promise<boolean>): Promise<void> {
  for (let left = 100; left > 0; left--) {
    if (await is()) return
    await sleep(100)
  }
  t.fail(`not within 10 s: ${what}`)
}

test('the coordinator moves to a host that stands by; backups go on, its old machine burns, an old copy of it is told', async (t) => {
  const lab = await TestLab.up(t, 4)
  const { coordinator, appliance, peers } = lab.lab
  const disk = lab.makeDisk('disk.img', 12)
  const first = await lab.snapshot(t, disk)
  const office = ['--state', coordinator.state]
  const next = lab.path('next')

  // Who is no admin's machine, and who does not stand by, is told what to do; nothing changes.
  const invited = await imager('invite', '--role', 'admin', ...office, '--json')
  ok(t, invited)
  writeFileSync(lab.path('token'), lastLine<{ token: string }>(invited).token, { mode: 0o600 })
  ok(t, await imager('join', '--token-file', lab.path('token'), '--name', 'next', '--state', next, '--json'))
  t.is(code(await imager('coordinator', 'move', 'peer-1', ...office, '--json')), 'USAGE')
  t.is(code(await imager('coordinator', 'move', 'nobody', ...office, '--json')), 'NO_SUCH_HOST')
  t.is(code(await imager('coordinator', 'move', 'next', ...office, '--json')), 'NOT_STANDING_BY')
  const standing = await run(t, '--state', next, '--listen', '127.0.0.1:0')
  t.regex(standing.said(), /standing by/)
  t.is(code(await imager('coordinator', 'move', 'next', '--state', next, '--json')), 'NOT_ALLOWED', 'not by the guest')
  cpSync(coordinator.state, lab.path('old'), { recursive: true })

  const moved = await imager('coordinator', 'move', 'next', ...office, '--json')
  ok(t, moved)
  t.like(lastLine(moved), { coordinator: 'next' })
  await until(t, 'the new one is ready', () => /"ready"/.test(standing.said()))
  const now = openHome(next).membership()
  t.is(now.coordinator, openHome(next).host)
  t.is(now.handed, 1)
  const gone = await imager('coordinator', 'move', 'next', ...office, '--json')
  t.is(code(gone), 'REPLACED')
  t.regex(gone.stdout, /was replaced: next at 127/)
  t.is(code(await imager('invite', ...office, '--json')), 'REPLACED')

  const told = await imager('status', '--json', '--state', appliance.state)
  ok(t, told)
  const status = lastLine<{ coordinator: string; problems: object[] }>(told)
  t.deepEqual(status.problems, [])
  t.is(status.coordinator, openHome(next).coordinator.address)
  const second = await lab.snapshot(t, disk)
  const listed = await imager('snapshots', '--json', '--state', appliance.state)
  ok(t, listed)
  const rows = lastLine<{ snapshots: SnapshotRow[] }>(listed).snapshots
  t.deepEqual(
    rows.map(({ id, parent, state }) => ({ id, parent, state })),
    [
      { id: first, parent: null, state: 'protected' },
      { id: second, parent: first, state: 'protected' },
    ],
  )
  await lab.restoreLatest(t, disk, 'one.img')
  t.regex((await imager('events', '--state', next)).stdout, /The coordinator moved from coordinator to next/)
  // The new one lets hosts in, as the old one did.
  const again = await imager('invite', '--state', next, '--json')
  ok(t, again)
  writeFileSync(lab.path('token'), lastLine<{ token: string }>(again).token, { mode: 0o600 })
  ok(t, await imager('join', '--token-file', lab.path('token'), '--state', lab.path('pc'), '--listen', '127.0.0.1:0'))

  // The old machine is gone.
  await lab.kill(coordinator.pid)
  await until(t, 'all peers obey the new one', () =>
    peers.every(({ state }) => openHome(state).membership().coordinator === now.coordinator),
  )
  const third = await lab.snapshot(t, disk)
  await lab.restoreLatest(t, disk, 'two.img')

  // And comes back as it was before the move.
  execFileSync('rm', ['-rf', coordinator.state])
  cpSync(lab.path('old'), coordinator.state, { recursive: true })
  const back = await run(t, ...office)
  // Names are not for it any more.
  await until(t, 'it is told', () => back.said().includes(`was replaced: ${now.coordinator.slice(0, 8)} at 127.`))
  const refused = await imager('snapshots', ...office, '--json')
  t.is(code(refused), 'REPLACED')
  await until(t, 'the new one tells of it', async () => {
    const { problems } = lastLine<{ problems: { code: string }[] }>(
      await imager('status', '--json', '--state', appliance.state),
    )
    return problems.some((one) => one.code === 'REPLACED_BACK')
  })
  back.child.kill('SIGKILL')
  const last = lastLine<{ snapshots: SnapshotRow[] }>(await imager('snapshots', '--json', '--state', next)).snapshots
  t.deepEqual(
    last.map(({ id }) => id),
    [first, second, third],
  )
})
