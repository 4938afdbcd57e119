/**
 * `node build/bench/recover.js`: how long after a disaster the first listing and the first restored byte are there. A lab of six peers
 * holds 100 snapshots of a small disk, 64 KiB of which change in between; then coordinator and appliance are gone, and two of the peers.
 *
 *   BENCH_SNAPSHOTS=N   how many snapshots (default 100)
 *   BENCH_MIB=N         size of the disk (default 8)
 */

import { randomBytes } from 'node:crypto'
import { closeSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { KiB, MiB } from '../src/base/units.js'
import type { LabReport } from '../src/daemon/lab.js'
import type { RecoverReport } from '../src/jobs/recover/recover.js'
import { firstDifference } from '../test/e2e/disks.js'
import { freePort } from '../test/free-port.js'
import { table } from './arithmetic.js'
import { lastLine, PEERS } from './lab.js'
import { beside, measure, type Run, start } from './measure.js'

const SNAPSHOTS = Number(process.env.BENCH_SNAPSHOTS ?? 100)
const DISK_BYTES = Number(process.env.BENCH_MIB ?? 8) * MiB
const CHANGE_BYTES = 64 * KiB
const DEAD = 2
const IMAGER = [process.execPath, 'build/bin/imager.cjs']

const tell = (text: string) => process.stderr.write(`${text}\n`)

async function main(): Promise<void> {
  const work = mkdtempSync(join(tmpdir(), 'imager-recover-'))
  const folder = join(work, 'lab')
  try {
    const up = await imager('lab', 'up', folder, '--peers', String(PEERS))
    await measureIn(work, JSON.parse(lastLine(up.stdout)) as LabReport)
  } finally {
    await imager('lab', 'down', folder)
    rmSync(work, { recursive: true, force: true })
  }
}

async function measureIn(work: string, lab: LabReport): Promise<void> {
  const disk = join(work, 'disk.img')
  await fill(disk, lab.appliance.state)
  const [dead, alive] = [lab.peers.slice(0, DEAD), lab.peers.slice(DEAD)]
  for (const { pid } of [lab.coordinator, ...dead]) process.kill(pid, 'SIGKILL')
  for (const { state } of [lab.coordinator, lab.appliance]) rmSync(state, { recursive: true })
  const pids = alive.map(({ pid }) => pid)
  const state = join(work, 'new')
  const target = join(work, 'restored.img')

  const given = [
    '--words-file',
    lab.wordsFile,
    '--peer',
    alive[0]!.address,
    '--listen',
    `127.0.0.1:${await freePort()}`,
  ]
  const [recovered, recoveredBeside] = await beside(pids, () =>
    imager('recover', ...given, '--name', 'spare', '--state', state),
  )
  const report = JSON.parse(lastLine(recovered.stdout)) as RecoverReport
  const whole = report.snapshots.filter((one) => one.state !== 'incomplete').length
  if (whole !== SNAPSHOTS) throw new Error(`${whole} of ${SNAPSHOTS} snapshots came back`)

  const [{ run, firstByte }, restoredBeside] = await beside(pids, () => restore(target, state))
  const differs = firstDifference(disk, target)
  if (differs !== undefined) throw new Error(`what came back differs at ${differs}`)

  const row = (what: string, seconds: number, { cpuSeconds }: Run, peers: { cpuSeconds: number }) => {
    return [what, seconds.toFixed(1), cpuSeconds.toFixed(1), peers.cpuSeconds.toFixed(1)]
  }
  const heading = [`${SNAPSHOTS} snapshots`, 's since the start', 'CPU, s', 'CPU of peers, s']
  const rows = [
    row('listing', recovered.seconds, recovered, recoveredBeside),
    row('first byte', recovered.seconds + firstByte, run, restoredBeside),
    row('disk restored', recovered.seconds + run.seconds, run, restoredBeside),
  ]
  process.stdout.write(`${table([heading, ...rows])}\n`)
}

async function fill(disk: string, state: string): Promise<void> {
  writeFileSync(disk, randomBytes(DISK_BYTES))
  for (let number = 1; number <= SNAPSHOTS; number++) {
    await imager('snapshot', disk, '--full-read', '--state', state)
    if (number % 10 === 0) tell(`${number} of ${SNAPSHOTS} snapshots`)
    if (number < SNAPSHOTS) change(disk, number)
  }
}

function change(disk: string, number: number): void {
  const file = openSync(disk, 'r+')
  try {
    writeSync(file, randomBytes(CHANGE_BYTES), 0, CHANGE_BYTES, (number * CHANGE_BYTES) % DISK_BYTES)
  } finally {
    closeSync(file)
  }
}

/** Seconds until the target has a byte of the disk, and the whole run. The file is sparse until then. */
async function restore(target: string, state: string): Promise<{ run: Run; firstByte: number }> {
  const argv = [...IMAGER, 'restore', 'latest', '--to', target, '--state', state, '--json']
  const started = start({ argv })
  const began = await started.began
  let isOver = false
  const done = started.done.finally(() => {
    isOver = true
  })
  while (!isOver && !((statSync(target, { throwIfNoEntry: false })?.blocks ?? 0) > 0)) await sleep(5)
  const firstByte = Number(process.hrtime.bigint()) / 1e9 - began
  return { run: await done, firstByte }
}

function imager(...args: string[]): Promise<Run> {
  return measure({ argv: [...IMAGER, ...args, '--json'] })
}

await main()
