/**
 * Hosts put back to copies of their folders that were made while everything ran, as a VM's snapshot is. A month of a fleet is
 * recorded once; each seed takes the end of it, puts hosts back, turns clocks, lets the fleet go on, and asks for everything.
 *
 * What is expected follows from docs/threat-model.md. A snapshot is *behind* a host that was put back to before it.
 *
 * | behind | expected |
 * |---|---|
 * | at most m peers, whoever else | listed and restored, also after a recovery with the words |
 * | more than m peers, and the coordinator or a witness knows of it | restored, or `restore` fails with its code, or `status` is not safe |
 * | all hosts that could know of it | it exists nowhere; not listed, or one of the above |
 * | taken afterwards | as the rows above: restored where at most m peers were put back, else restored or said |
 *
 * Never, in any row: another byte than was stored.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ImagerError } from '../../src/base/errors.js'
import { witnessesOf } from '../../src/keys/checkpoint.js'
import { openHome } from '../../src/keys/home.js'
import { generator } from '../catalog/flips.js'
import { freePort } from '../free-port.js'
import { APPLIANCES, HOSTS, type Host, PEERS, persist, Site, writeDisk } from './site.js'

const DAY_MS = 24 * 3_600_000
const YEAR_MS = 365 * DAY_MS
const DISK_BYTES = 256 * 1024
const CHANGED_BYTES = 24 * 1024

type Appliance = (typeof APPLIANCES)[number]

interface Acknowledged {
  readonly id: string
  readonly appliance: Appliance
  readonly digest: string
}

export interface Month {
  readonly folder: string
  readonly words: string
  /** In their order. */
  readonly snapshots: readonly Acknowledged[]
  /** Of each copy: how many of them had been acknowledged when it was made. */
  readonly moments: readonly number[]
  /** Peers that may be missing. */
  readonly m: number
  readonly witnesses: ReadonlySet<string>
}

class Disks {
  readonly #bytes = new Map<Appliance, Buffer>()

  constructor(
    private readonly folder: string,
    private readonly random: () => number,
  ) {
    for (const appliance of APPLIANCES) this.#bytes.set(appliance, this.#noise(DISK_BYTES))
  }

  #noise(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => Math.floor(this.random() * 256)))
  }

  /** The same path for ever: it is the same disk. */
  change(appliance: Appliance): { path: string; digest: string } {
    const bytes = this.#bytes.get(appliance) as Buffer
    bytes.set(this.#noise(CHANGED_BYTES), Math.floor(this.random() * (DISK_BYTES - CHANGED_BYTES)))
    const path = join(this.folder, `${appliance}.img`)
    return { path, digest: writeDisk(path, bytes) }
  }
}

/** A run each day, of one appliance after the other. In `folder`: `end`, and for each day a copy made in the middle of its run. */
export async function recordMonth(folder: string, seed: number, days: number): Promise<Month> {
  const random = generator(seed)
  mkdirSync(folder, { recursive: true })
  const disks = new Disks(folder, random)
  const { site, words } = await Site.found(join(folder, 'end'))
  const snapshots: Acknowledged[] = []
  const moments: number[] = []
  let m = Number.POSITIVE_INFINITY
  try {
    for (let day = 0; day < days; day++) {
      await site.later(DAY_MS)
      const appliance = APPLIANCES[day % APPLIANCES.length] as Appliance
      const { path, digest } = disks.change(appliance)
      let [heard, isCopied] = [0, false]
      const due = 1 + Math.floor(random() * 4)
      const copy = () => {
        if (isCopied || ++heard < due) return
        isCopied = true
        copyApart(site.folder, join(folder, `moment-${moments.length}`))
        moments.push(snapshots.length)
      }
      const report = await site.snapshot(appliance, path, copy)
      heard = due
      copy()
      if (report.state !== 'protected') throw new Error(`the month begins badly: ${JSON.stringify(report)}`)
      snapshots.push({ id: report.snapshot, appliance, digest })
      m = Math.min(m, Number(report.scheme.split('+')[1]))
    }
  } finally {
    await site.stop()
  }
  const witnesses = new Set(witnessesOf(openHome(site.state('coordinator')).membership()).map(({ name }) => name))
  return { folder, words, snapshots, moments, m, witnesses }
}

/** By another process: who reads and closes a database's file in its own process drops the locks that SQLite holds on it. */
function copyApart(from: string, to: string): void {
  execFileSync('cp', ['-a', from, to])
}

interface Draw {
  /** Which copy of it each host is put back to. */
  readonly back: ReadonlyMap<Host, number>
  readonly withoutLog: boolean
  readonly recovers: boolean
  /** Years by which clocks are off. */
  readonly years: ReadonlyMap<Host, number>
}

export function draw(seed: number, moments: number): Draw {
  const random = generator(seed)
  const pick = (count: number) => Math.floor(random() * count)
  const shuffled = [...HOSTS].map((host) => [random(), host] as const).sort(([a], [b]) => a - b)
  const count = [1, 2, 2, HOSTS.length][pick(4)] as number
  const together = random() < 0.5
  const moment = pick(moments)
  const hosts = shuffled.slice(0, count).map(([, host]) => host)
  // The coordinator is the one whose memory matters most.
  if (count < HOSTS.length && random() < 0.5 && !hosts.includes('coordinator')) hosts[0] = 'coordinator'
  const back = new Map(hosts.map((host) => [host, together ? moment : pick(moments)]))
  const years = new Map(HOSTS.flatMap((host) => (random() < 0.3 ? [[host, pick(21) - 10] as const] : [])))
  return { back, withoutLog: random() < 0.3, recovers: random() < 0.3, years }
}

export interface Outcome {
  readonly seed: number
  readonly back: Record<string, number>
  readonly recovers: boolean
  readonly withoutLog: boolean
  readonly clocks: Record<string, number>
  restored: number
  /** Beyond the promise: refused, named by `status`, or nowhere any more. */
  said: number
  gone: number
  after: number
  readonly failures: string[]
}

export async function tryRollback(month: Month, seed: number, days: number): Promise<Outcome> {
  const drawn = draw(seed, month.moments.length)
  const { back, recovers, withoutLog, years } = drawn
  const facts = { back: Object.fromEntries(back), recovers, withoutLog, clocks: Object.fromEntries(years) }
  const outcome: Outcome = { seed, ...facts, restored: 0, said: 0, gone: 0, after: 0, failures: [] }
  const folder = join(month.folder, `seed-${seed}`)
  cpSync(join(month.folder, 'end'), folder, { recursive: true })
  for (const [host, moment] of back) putBack(month, folder, host, moment, withoutLog)
  const site = new Site(folder)
  for (const [host, off] of years) (site.clocks.get(host) as { skewMs: number }).skewMs = off * YEAR_MS
  try {
    await goOn(site, month, drawn, outcome, days)
  } catch (error) {
    outcome.failures.push(`it does not go on: ${tell(error)}`)
  } finally {
    await site.stop()
    rmSync(folder, { recursive: true, force: true })
  }
  return outcome
}

function putBack({ folder: from }: Month, folder: string, host: Host, moment: number, withoutLog: boolean): void {
  rmSync(join(folder, host), { recursive: true })
  cpSync(join(from, `moment-${moment}`, host), join(folder, host), { recursive: true })
  if (!withoutLog) return
  for (const name of ['catalog.db-wal', 'catalog.db-shm']) {
    const path = join(folder, host, 'state', 'catalog', name)
    if (existsSync(path)) rmSync(path)
  }
}

async function goOn(site: Site, month: Month, { back, recovers }: Draw, outcome: Outcome, days: number): Promise<void> {
  const isWithin = PEERS.filter((peer) => back.has(peer)).length <= month.m
  if (recovers) {
    await site.startPeers()
    await site.recover(month.words, await freePort())
    await site.startCoordinator()
  } else await site.start()
  await site.allHere()
  const disks = new Disks(site.folder, generator(outcome.seed + 1))
  const later: Acknowledged[] = []
  for (let day = 0; day < days; day++) {
    await site.later(DAY_MS)
    for (const appliance of APPLIANCES) {
      const { path, digest } = disks.change(appliance)
      try {
        const report = await persist(() => site.snapshot(appliance, path), isWithin ? 40_000 : 5_000)
        outcome.after++
        // A peer that has less than was placed there gets nothing new until `check`: the run says with exit 4 what it reached.
        const isSaid = report.state === 'sealed' && PEERS.some((peer) => back.has(peer))
        if (report.state === 'protected' || isSaid) later.push({ id: report.snapshot, appliance, digest })
        else if (isWithin) outcome.failures.push(`${appliance}: a snapshot afterwards is ${report.state} only`)
      } catch (error) {
        if (isWithin) outcome.failures.push(`${appliance}: no snapshot afterwards: ${tell(error)}`)
      }
    }
  }
  for (const appliance of APPLIANCES) await restoreAll(site, month, back, appliance, later, outcome)
}

async function restoreAll(
  site: Site,
  month: Month,
  back: ReadonlyMap<Host, number>,
  appliance: Appliance,
  later: readonly Acknowledged[],
  outcome: Outcome,
): Promise<void> {
  const { problems } = await site.status(appliance)
  const ofMonth = month.snapshots.map((one, at) => ({ one, expected: expectation(month, back, at) }))
  const peersBack = PEERS.filter((peer) => back.has(peer)).length
  const afterwards = later.map((one) => ({
    one,
    expected: peersBack <= month.m ? ('restored' as const) : ('said' as const),
  }))
  await site.as(appliance, async (fleet) => {
    const listed = new Set((await fleet.catalog.snapshots()).map(({ id }) => id))
    for (const { one, expected } of [...ofMonth, ...afterwards]) {
      if (one.appliance !== appliance) continue
      const name = `${appliance} ${one.id.slice(0, 8)} (${expected})`
      if (!listed.has(one.id)) {
        if (expected === 'nowhere') outcome.gone++
        else if (expected === 'said' && problems.length > 0) outcome.said++
        else outcome.failures.push(`${name} is not listed`)
        continue
      }
      try {
        const digest = await site.restore(fleet, one.id)
        if (digest === one.digest) outcome.restored++
        else outcome.failures.push(`${name}: ANOTHER BYTE`)
      } catch (error) {
        if (expected === 'restored' || !(error instanceof ImagerError)) outcome.failures.push(`${name}: ${tell(error)}`)
        else outcome.said++
      }
    }
  })
}

/** By the table above. */
export function expectation(
  { moments, m, witnesses }: Pick<Month, 'moments' | 'm' | 'witnesses'>,
  back: ReadonlyMap<Host, number>,
  at: number,
): 'restored' | 'said' | 'nowhere' {
  const isBehind = (host: Host) => {
    const moment = back.get(host)
    return moment !== undefined && (moments[moment] as number) <= at
  }
  if (PEERS.filter(isBehind).length <= m) return 'restored'
  const knows = HOSTS.filter((host) => host === 'coordinator' || witnesses.has(host)).some((host) => !isBehind(host))
  return knows ? 'said' : 'nowhere'
}

function tell(error: unknown): string {
  if (!(error instanceof ImagerError)) return error instanceof Error ? (error.stack ?? error.message) : String(error)
  return `${error.code}: ${error.message}`
}
