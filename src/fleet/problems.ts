/**
 * What makes a fleet less than safe, each with a code, a sentence and what to do: from what the coordinator knows to what
 * `imager status` says. What is typed stands between backticks and works as it stands. Pure.
 */
import type { ErrorCode } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { formatCount, formatSeconds } from '../base/units.js'
import { ageOf } from '../catalog/order.js'
import type { HostRow, RunRow, SnapshotRow, VolumePolicy } from '../catalog/types.js'
import { chooseScheme } from '../stripes/scheme.js'
import { maxAge } from './age.js'
import type { Members } from './members.js'

/** What each code means; docs/errors.md has this table. */
export const PROBLEMS = {
  COORDINATOR_READ_ONLY: 'the coordinator cannot write: what is stored can be read, nothing new is taken',
  STATE_DAMAGED: "a file of the coordinator's state folder is damaged",
  NOT_COSIGNED:
    'too few witnesses signed the newest list of snapshots: a coordinator that was set back would not be told of them',
  UNKNOWN_SNAPSHOTS: 'snapshots that were acknowledged are known by name only',
  ROLLED_BACK: 'the coordinator shows an older state than this server has seen',
  REPLACED_BACK: 'a coordinator that was replaced, or a server whose place another took, runs again',
  FALSE_RECORDS: 'a server found that what another stored is not what it said: it stored its own copy',
  NO_SNAPSHOT: 'nothing is backed up yet',
  LOST: 'the newest snapshot of a volume cannot be restored any more: parts of it are lost or damaged on too many hosts',
  NOT_NOW: 'newest snapshots cannot be restored until hosts that are away come back',
  NO_MARGIN: 'newest snapshots can be restored, and could not if one more host went away',
  BELOW_TARGET: 'the newest snapshot of a volume bears fewer losses than it should',
  NOT_RECEIPTED:
    'too few hosts have signed that they hold, in the stores that they have now, what the newest snapshot of a volume needs',
  KEYS_NOT_HELD: "too few peers hold a server's keys: without it, its snapshots could not be read",
  RUN_FAILED: 'the last run of a volume came to nothing',
  AGE_UNKNOWN: 'the newest snapshot of a volume says that it was made in the future, and nothing says when it came',
  OLD: 'the newest snapshot of a volume is older than it should be',
  PEER_AWAY: 'on a peer itself: its daemon does not run, does not reach the coordinator, or lost its store',
  SUSPECT: 'the store of a host is not what it was, and was not looked at yet: what was placed there counts as missing',
  CLOCK: "a host's clock is off by five minutes or more",
  HIDDEN: "the coordinator's list lacks snapshots of this server that a majority of its witnesses have signed",
  STRANGER: 'a host is signed in and not listed by the coordinator, or listed and not signed in',
} as const

export type ProblemCode = keyof typeof PROBLEMS

export interface Problem {
  readonly code: ProblemCode
  readonly sentence: string
  readonly remedy: string
}

export interface Known {
  readonly hosts: readonly HostRow[]
  /** Newest last within each volume. */
  readonly snapshots: readonly SnapshotRow[]
  readonly volumes: readonly VolumePolicy[]
  /** How the last run of each volume went. */
  readonly runs: readonly RunRow[]
  readonly now: number
}

const CLOCK_MS = 5 * 60_000
const NAMED = 10
/** How a run may end without a problem: by a person, who was told. */
const KNOWN: readonly string[] = ['INTERRUPTED', 'REMOVED'] satisfies ErrorCode[]

/** The newest snapshot of each volume that is not retired, and how old it may be. */
export interface Newest {
  readonly row: SnapshotRow
  readonly maxAgeMs: number | undefined
}

export function newestOf({ snapshots, volumes }: Pick<Known, 'snapshots' | 'volumes'>): Newest[] {
  const byVolume = new Map<string, SnapshotRow[]>()
  for (const row of snapshots) {
    const key = `${row.appliance}/${row.volume}`
    byVolume.set(key, [...(byVolume.get(key) ?? []), row])
  }
  return [...byVolume.values()].flatMap((rows) => {
    const row = rows.at(-1) as SnapshotRow
    const policy = volumes.find(({ appliance, volume }) => appliance === row.appliance && volume === row.volume)
    if (policy?.retired) return []
    const times = rows.map(({ time, arrived }) => arrived || time).sort((a, b) => a - b)
    return [{ row, maxAgeMs: maxAge(times, policy?.maxAgeMs ?? null) }]
  })
}

export function findProblems(known: Known): Problem[] {
  const newest = newestOf(known)
  if (known.snapshots.length === 0) {
    const remedy = 'Run `imager snapshot SOURCE` on the server, with the disk as SOURCE (`lsblk` lists them).'
    return [{ code: 'NO_SNAPSHOT', sentence: 'There is no snapshot yet', remedy }, ...failures(known)]
  }
  const rows = newest.map(({ row }) => row)
  const absent = absences(rows, known.hosts)
  // That those who are away hold keys too needs no second sentence.
  const isShort = (row: SnapshotRow) =>
    row.state === 'sealed' && (absent.length === 0 || Math.min(row.survives, row.receipted) < row.target)
  return unique([
    ...suspects(known.hosts),
    ...rows.filter((row) => row.state === 'incomplete').map(lost),
    ...absent,
    ...rows.filter(isShort).map((row) => belowTarget(row, known.hosts)),
    ...failures(known),
    ...newest.flatMap((one) => old(one, known.now)),
    ...clocks(known.hosts),
  ])
}

/** Of several disks of one server the same may be said. */
function unique(problems: readonly Problem[]): Problem[] {
  return [...new Map(problems.map((problem) => [problem.sentence, problem])).values()]
}

function lost(row: SnapshotRow): Problem {
  const sentence = `${named(row)} cannot be restored: parts of it are lost`
  return { code: 'LOST', sentence, remedy: again(row, 'it stores what is lost again') }
}

/** However many hosts are away and volumes hang on them: one sentence. */
function absences(rows: readonly SnapshotRow[], hosts: readonly HostRow[]): Problem[] {
  const whole = rows.filter((row) => row.survives >= 0)
  const notNow = whole.filter((row) => row.now.survives < 0)
  const names = new Map(hosts.map(({ host, name }) => [host, name]))
  const problems: Problem[] = []
  if (notNow.length > 0) {
    const suffice = [...new Set(notNow.flatMap((row) => row.now.suffice))].map((host) => nameOf(names, host)).sort()
    const sentence = `${list(notNow)} cannot be restored now: ${formatCount(awayOf(hosts).length, 'host')} away`
    problems.push({ code: 'NOT_NOW', sentence, remedy: bringBack(suffice) })
  }
  const noMargin = whole.filter((row) => row.now.survives === 0 && row.survives > 0)
  if (noMargin.length > 0) {
    const away = awayOf(hosts).map(({ name }) => name)
    const sentence = `${list(noMargin)} ${noMargin.length === 1 ? 'bears' : 'bear'} no further loss now: ${away.slice(0, NAMED).join(', ')} away`
    problems.push({ code: 'NO_MARGIN', sentence, remedy: bringBack(away) })
  }
  return problems
}

function awayOf(hosts: readonly HostRow[]): HostRow[] {
  return hosts.filter((host) => host.role === 'peer' && host.away)
}

function bringBack(names: readonly string[]): string {
  const [first = 'HOST'] = names
  return `Switch on ${names.slice(0, NAMED).join(', ')}. For one that is gone for good: \`imager remove ${first}\` on the coordinator.`
}

function belowTarget(row: SnapshotRow, hosts: readonly HostRow[]): Problem {
  if (row.survives >= row.target && row.receipted < row.target) {
    const covers = row.receipted < 0 ? 'too little to restore it' : `the loss of ${formatCount(row.receipted, 'host')}`
    const sentence = `What the hosts have signed of ${named(row)} covers ${covers}; ${row.target} should be allowed to be missing`
    const remedy =
      'Keep the peers on: the coordinator has them read it again and sign. `imager events` says who does not.'
    return { code: 'NOT_RECEIPTED', sentence, remedy }
  }
  if (row.survives >= row.target && !row.cosigned) {
    const sentence = `${named(row)} is on no list that enough witnesses signed`
    return { code: 'NOT_COSIGNED', sentence, remedy: 'Switch more peers on: the coordinator has them sign by itself.' }
  }
  if (row.survives >= row.target) {
    const sentence = `The keys of ${row.applianceName} are on too few peers`
    const remedy =
      'Switch more peers on: the coordinator brings the keys to each. `imager events` says which refused them.'
    return { code: 'KEYS_NOT_HELD', sentence, remedy }
  }
  const code = 'BELOW_TARGET'
  const bears =
    row.survives === 0
      ? 'does not survive the loss of any host'
      : `survives the loss of ${formatCount(row.survives, 'host')}`
  const sentence = `${named(row)} ${bears}; ${row.target} should be allowed to be missing`
  const peers = hosts.filter((host) => host.role === 'peer' && host.storage !== '')
  if (reachOf(peers.filter((host) => !host.away)) >= row.target) {
    return { code, sentence, remedy: again(row, 'it stores the missing parts on other hosts') }
  }
  const away = peers.filter((host) => host.away).map(({ name }) => name)
  if (reachOf(peers) >= row.target) {
    return {
      code,
      sentence,
      remedy: `${bringBack(away)} Then run \`imager snapshot ${row.source}\` on ${row.applianceName}.`,
    }
  }
  const settle = `\`imager policy set ${row.source} --tolerate ${Math.max(1, reachOf(peers))}\``
  return { code, sentence, remedy: `Settle for less: ${settle}. Or add peers (\`imager invite\`) and run it again.` }
}

/** How many losses a run onto these hosts is made for. */
function reachOf(hosts: readonly HostRow[]): number {
  const domains = new Set(hosts.map(({ domain }) => domain)).size
  return domains < 2 ? 0 : chooseScheme(domains, {}).m
}

function old({ row, maxAgeMs }: Newest, now: number): Problem[] {
  const age = ageOf(row, now)
  if (age === undefined) {
    const sentence = `${named(row)} says that it was made in the future: its age is not known`
    return [{ code: 'AGE_UNKNOWN', sentence, remedy: again(row, 'and set the clock there before') }]
  }
  if (maxAgeMs === undefined || age <= maxAgeMs) return []
  const sentence = `${named(row)} is ${formatSeconds(age / 1000)} old, ${formatSeconds(maxAgeMs / 1000)} are expected at most`
  const gone = `For a disk that is no longer to be backed up: \`imager retire ${row.source}\`.`
  return [{ code: 'OLD', sentence, remedy: `${again(row, 'and see why it did not run')} ${gone}` }]
}

/** Also of a volume that has no snapshot yet. One that is retired is left out. */
function failures({ runs, volumes }: Known): Problem[] {
  const isRetired = ({ appliance, volume }: RunRow) =>
    volumes.some((one) => one.retired && one.appliance === appliance && one.volume === volume)
  return (
    runs
      // Who pressed Ctrl-C knows, and who removed its host; if nothing follows, the age tells.
      .filter((run) => run.failure !== null && !KNOWN.includes(run.failure) && !isRetired(run))
      .map(({ source, applianceName, failure }) => {
        const sentence = `The last run of ${source} on ${applianceName} came to nothing (${failure})`
        const remedy = `Run \`imager snapshot ${source}\` on ${applianceName}: it says what is wrong.`
        return { code: 'RUN_FAILED', sentence, remedy }
      })
  )
}

/** Whoever peers believe and the coordinator does not name, or the other way. */
export function strangers({ unlisted, unsigned }: Pick<Members, 'unlisted' | 'unsigned'>): Problem[] {
  const remedy = 'If nobody let it in, the coordinator is in foreign hands: end it, and run `imager recover` elsewhere.'
  const of = (hosts: Members['unlisted'], what: string) =>
    hosts.map(({ host, name, role }) => {
      return { code: 'STRANGER' as const, sentence: `${name} (${role}, key ${host.slice(0, 16)}) ${what}`, remedy }
    })
  return [
    ...of(unlisted, "is signed in, and not in the coordinator's list of hosts"),
    ...of(unsigned, "is in the coordinator's list of hosts, and not signed in: no peer believes it"),
  ]
}

/** Snapshots of this server that witnesses list and the coordinator does not. */
export function hiding(hidden: readonly Hex[]): Problem[] {
  if (hidden.length === 0) return []
  const some = hidden.slice(0, NAMED).map((id) => id.slice(0, 8))
  const sentence = `The coordinator's list lacks ${formatCount(hidden.length, 'snapshot')} of this server that its witnesses signed: ${some.join(', ')}`
  const remedy =
    'If it still does in a minute, the coordinator lost them or is in foreign hands: end it, and run `imager recover` elsewhere.'
  return [{ code: 'HIDDEN', sentence, remedy }]
}

/** What is wrong with one host. */
export function hostProblems(host: HostRow): Problem[] {
  return [...suspects([host]), ...clocks([host])]
}

function suspects(hosts: readonly HostRow[]): Problem[] {
  return hosts
    .filter((host) => host.suspect !== '')
    .map(({ name, suspect }) => {
      const remedy = `Is its disk mounted, and its store where it was? If it is lost: \`imager check\` finds out what is missing.`
      return { code: 'SUSPECT', sentence: `${name} is not believed: ${suspect}`, remedy }
    })
}

function clocks(hosts: readonly HostRow[]): Problem[] {
  return hosts.flatMap(({ name, role, clockSkewMs }) => {
    if (clockSkewMs === null || Math.abs(clockSkewMs) < CLOCK_MS) return []
    const off = `${formatSeconds(Math.abs(clockSkewMs) / 1000)} ${clockSkewMs > 0 ? 'ahead' : 'behind'}`
    const sentence = `The clock of ${name} is ${off}`
    const set = 'Set it there, or let it follow the network: `timedatectl set-ntp true`.'
    // It has no daemon that would tell by itself.
    const tell =
      role === 'peer' || role === 'coordinator' ? '' : ` Then run \`imager status\` on ${name}: it measures again.`
    return [{ code: 'CLOCK', sentence, remedy: `${set}${tell}` }]
  })
}

function again(row: SnapshotRow, why: string): string {
  return `Run \`imager snapshot ${row.source}\` on ${row.applianceName}: ${why}.`
}

function named({ id, source, applianceName }: SnapshotRow): string {
  return `Snapshot ${id.slice(0, 8)} of ${source} on ${applianceName}`
}

function list(rows: readonly SnapshotRow[]): string {
  const [first] = rows
  return rows.length === 1 && first ? named(first) : `The newest snapshots of ${rows.length} volumes`
}

function nameOf(names: ReadonlyMap<Hex, string>, host: Hex): string {
  return names.get(host) ?? host.slice(0, 8)
}
