/**
 * The same as `test/sim/rollbacks.ts` with real processes and the commands that a person types: folders are copied by `cp` while
 * the daemons run and a snapshot is taken, and put back while they are off. Two hosts at most, so that all must restore.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, cpSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Exit } from '../../src/base/errors.js'
import { MiB } from '../../src/base/units.js'
import { generator } from '../catalog/flips.js'
import { freePort } from '../free-port.js'
import { problems, typeRemedy } from './coordinator.js'
import { firstDifference } from './disks.js'
import { type Ground, imager, lastLine, type Outcome, start, TestLab } from './lab.js'

const PEERS = 4
const HOSTS = ['coordinator', 'appliance', 'peers/peer-1', 'peers/peer-2', 'peers/peer-3', 'peers/peer-4']
const DISK_BYTES = MiB
const CHANGED_BYTES = 50_000
const SOON_MS = 60_000

interface Kept {
  readonly id: string
  readonly disk: string
}

export interface RealOutcome {
  readonly seed: number
  readonly back: Record<string, number>
  readonly recovers: boolean
  restored: number
  /** The line that was typed because a copy was torn. */
  typed: number
  readonly failures: string[]
}

export class RealMonth {
  readonly #kept: Kept[] = []
  #moments = 0

  private constructor(
    private readonly lab: TestLab,
    private readonly disk: string,
  ) {}

  /** `days` snapshots, in the middle of each of which all folders are copied. */
  static async record(t: Ground, seed: number, days: number): Promise<RealMonth> {
    const lab = await TestLab.up(t, PEERS)
    const month = new RealMonth(lab, lab.path('disk.img'))
    writeFileSync(month.disk, randomBytes(DISK_BYTES))
    const random = generator(seed)
    for (let day = 0; day < days; day++) {
      month.#change(random)
      const running = imager('snapshot', month.disk, '--state', lab.lab.appliance.state, '--json')
      await sleep(200 + random() * 800)
      const copying = month.#copy(`moment-${month.#moments++}`)
      const outcome = await running
      await copying
      t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
      month.#keep(outcome)
    }
    await month.#down()
    await month.#copy('end')
    return month
  }

  #keep(outcome: Outcome): void {
    const { snapshot } = lastLine<{ snapshot: string }>(outcome)
    const disk = this.lab.path(`${snapshot}.was`)
    cpSync(this.disk, disk)
    this.#kept.push({ id: snapshot, disk })
  }

  /** No file system: there nothing tells a run what it need not read. */
  #change(random: () => number): void {
    const bytes = Buffer.from(Array.from({ length: CHANGED_BYTES }, () => Math.floor(random() * 256)))
    const file = openSync(this.disk, 'r+')
    writeSync(file, bytes, 0, bytes.length, Math.floor(random() * (DISK_BYTES - CHANGED_BYTES)))
    closeSync(file)
  }

  async #copy(name: string): Promise<void> {
    execFileSync('cp', ['-a', this.lab.path('lab'), this.lab.path(name)])
  }

  async #down(): Promise<void> {
    const outcome = await imager('lab', 'down', this.lab.path('lab'))
    if (outcome.code !== 0) throw new Error(outcome.stdout + outcome.stderr)
  }

  async try(seed: number): Promise<RealOutcome> {
    const random = generator(seed)
    const pick = (count: number) => Math.floor(random() * count)
    const first = random() < 0.6 ? 'coordinator' : (HOSTS[pick(HOSTS.length)] as string)
    const hosts = new Set([first, ...(random() < 0.6 ? [HOSTS[pick(HOSTS.length)] as string] : [])])
    const back = Object.fromEntries([...hosts].map((host) => [host, pick(this.#moments)]))
    const outcome: RealOutcome = { seed, back, recovers: random() < 0.3, restored: 0, typed: 0, failures: [] }
    const dir = this.lab.path('lab')
    rmSync(dir, { recursive: true })
    execFileSync('cp', ['-a', this.lab.path('end'), dir])
    for (const [host, moment] of Object.entries(back)) {
      rmSync(join(dir, host), { recursive: true })
      execFileSync('cp', ['-a', this.lab.path(`moment-${moment}/${host}`), join(dir, host)])
    }
    const length = this.#kept.length
    try {
      await this.#goOn(outcome, random)
    } finally {
      await this.#down()
      rmSync(this.lab.path('spare'), { recursive: true, force: true })
      this.#kept.length = length
    }
    return outcome
  }

  async #goOn(outcome: RealOutcome, random: () => number): Promise<void> {
    const up = await imager('lab', 'up', this.lab.path('lab'), '--peers', String(PEERS), '--json')
    if (up.code !== 0) return void outcome.failures.push(`the fleet does not start: ${up.stdout}${up.stderr}`)
    const now = lastLine<TestLab['lab']>(up)
    const successor = outcome.recovers ? await this.#recover(now, outcome) : undefined
    try {
      this.#change(random)
      const stored = await this.#persist(['snapshot', this.disk], outcome)
      if (stored.code === 0 || isSealed(stored, outcome)) this.#keep(stored)
      else outcome.failures.push(`no snapshot afterwards: ${stored.stdout}${stored.stderr}`)
      for (const { id, disk } of this.#kept) await this.#restore(id, disk, outcome)
    } finally {
      successor?.kill('SIGKILL')
    }
  }

  async #recover(now: TestLab['lab'], outcome: RealOutcome) {
    await this.lab.kill(now.coordinator.pid)
    const state = this.lab.path('spare')
    const [peer] = now.peers
    const at = ['--listen', `127.0.0.1:${await freePort()}`, '--name', 'spare', '--state', state]
    const words = ['--words-file', now.wordsFile, '--peer', peer?.address ?? '']
    const done = await imager('recover', ...words, ...at, '--json')
    if (done.code !== 0) outcome.failures.push(`recover: ${done.stdout}${done.stderr}`)
    return start(['coordinator', '--state', state])
  }

  async #restore(id: string, disk: string, outcome: RealOutcome): Promise<void> {
    const target = this.lab.path('target.img')
    rmSync(target, { force: true })
    const done = await this.#persist(['restore', id, '--to', target, '--force'], outcome)
    if (done.code !== 0) outcome.failures.push(`${id.slice(0, 8)}: ${done.stdout}${done.stderr}`)
    else if (firstDifference(disk, target) !== undefined) outcome.failures.push(`${id.slice(0, 8)}: ANOTHER BYTE`)
    else outcome.restored++
  }

  /** As a person does it: again after a while, and what is said to be typed is typed, once. */
  async #persist(command: string[], outcome: RealOutcome): Promise<Outcome> {
    for (const end = Date.now() + SOON_MS; ; await sleep(500)) {
      const done = await imager(...command, '--state', this.lab.lab.appliance.state, '--json')
      if (done.code === 0 || isSealed(done, outcome) || Date.now() > end) return done
      if (outcome.typed > 0) continue
      const said = [done.stdout + done.stderr, ...(await problems(this.lab)).map(({ remedy }) => remedy)]
      const line = said.find((text) => /`imager recover [^`]+`/.test(text) && !/Switch on all peers/.test(text))
      if (line === undefined) continue
      outcome.typed++
      const typed = await typeRemedy(this.lab, line)
      if (typed.code !== 0) outcome.failures.push(`typed ${line}: ${typed.stdout}${typed.stderr}`)
    }
  }
}

/** A peer that has less than was placed there gets nothing new until `check`: with three others less is reached, and said. */
function isSealed({ code }: Outcome, { back }: RealOutcome): boolean {
  return code === Exit.belowTarget && Object.keys(back).some((host) => host.startsWith('peers/'))
}
