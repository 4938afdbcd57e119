/** What is lost is made anew by the peers among themselves, without a command, and no data passes the coordinator. */
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import type { StatusReport } from '../../src/fleet/status.js'
import type { SnapshotReport } from '../../src/jobs/snapshot/snapshot.js'
import { imager, lastLine, TestLab } from './lab.js'
import { codesOf, silence, started, status } from './told.js'

const PATIENCE_MS = 60_000

const shardsOf = (store: string) =>
  readdirSync(store, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.shard'))
    .map((name) => join(store, name))
const bytesIn = (store: string) => shardsOf(store).reduce((sum, path) => sum + statSync(path).size, 0)
const holdersOf = ({ lab }: TestLab) => lab.peers.filter(({ store }) => shardsOf(store).length > 0)

/** Until nothing is wrong any more: nobody types anything. */
async function untilSafe(t: ExecutionContext, lab: TestLab): Promise<StatusReport> {
  const end = Date.now() + PATIENCE_MS
  let seen = await status(lab)
  while (codesOf(seen).length > 0 && Date.now() < end) {
    await sleep(500)
    seen = await status(lab)
  }
  t.deepEqual(codesOf(seen), [])
  return seen
}

/** Read and written by the process so far, sockets and files. */
function passed(pid: number): number {
  const io = readFileSync(`/proc/${pid}/io`, 'utf8')
  return [/rchar: (\d+)/, /wchar: (\d+)/].reduce((sum, what) => sum + Number(what.exec(io)?.[1]), 0)
}

test.serial(
  'a run while a PC is off ends with 4; when it is back its part is made, and no data passes the coordinator',
  async (t) => {
    const lab = await TestLab.up(t, 4)
    const disk = lab.makeDisk('disk.img', 96)
    const [, , , off] = lab.lab.peers as [object, object, object, TestLab['lab']['peers'][number]]
    await lab.kill(off.pid)
    silence(lab, ['peer-4'])
    const weak = await imager('snapshot', disk, '--json', '--state', lab.lab.appliance.state)
    t.is(weak.code, 4, weak.stdout + weak.stderr)
    t.like(lastLine<SnapshotReport>(weak), { survives: 1, target: 2, state: 'sealed', scheme: '2+2' })
    t.deepEqual(codesOf(await status(lab)), ['BELOW_TARGET'])
    const before = passed(lab.lab.coordinator.pid)
    const back = lab.startPeer(3)
    t.teardown(() => void back.kill('SIGKILL'))
    await started(back)
    t.like((await untilSafe(t, lab)).volumes[0], { state: 'protected', survives: 2, target: 2 })
    const [byCoordinator, made] = [passed(lab.lab.coordinator.pid) - before, bytesIn(off.store)]
    t.log(`the coordinator read and wrote ${byCoordinator} bytes, ${made} were made`)
    t.true(made > 16e6 && byCoordinator < made / 4)
    for (const { pid } of lab.lab.peers.slice(0, 2)) await lab.kill(pid)
    await lab.restoreLatest(t, disk)
  },
)

test.serial('a damaged part, and those of a PC that was removed, are made anew where they belong', async (t) => {
  const { lab, disk, state } = await TestLab.imaged(t, 6, 24)
  const [one, two, three, four] = holdersOf(lab)
  const [path = ''] = shardsOf(one?.store ?? '')
  const sound = readFileSync(path)
  const damaged = Buffer.from(sound)
  damaged[5000] = (damaged[5000] as number) ^ 1
  writeFileSync(path, damaged)
  const found = await imager('check', '--read-data', '--json', ...state)
  t.is(found.code, 6, found.stdout)
  await untilSafe(t, lab)
  t.deepEqual(readFileSync(path), sound)
  t.is((await imager('check', '--read-data', '--json', ...state)).code, 0)

  await lab.kill(two?.pid as number)
  const gone = lab.lab.peers.indexOf(two as (typeof lab.lab.peers)[number]) + 1
  const removed = await imager('remove', `peer-${gone}`, '--json', '--state', lab.lab.coordinator.state)
  t.is(removed.code, 0, removed.stdout + removed.stderr)
  t.like((await untilSafe(t, lab)).volumes[0], { state: 'protected', survives: 2, target: 2 })
  for (const peer of [three, four]) await lab.kill(peer?.pid as number)
  await lab.restoreLatest(t, disk)
})
