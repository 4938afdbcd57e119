/**
 * Which hosts hold the shards (docs/placement.md): one fixed group for all stripes of a run, one shard a host where
 * there are enough, so that "which hosts may be missing" is one number. Pure and deterministic; says why a host is left out.
 */
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { formatBytes } from '../base/units.js'
import { chooseScheme, type Scheme, type Wish } from './scheme.js'

/** What of a host matters here: a row of the master file has it. */
export interface Candidate {
  readonly host: Hex
  readonly name: string
  readonly role: string
  readonly domain: string
  readonly storage: string
  readonly freeBytes: number
  readonly uptime: number
  readonly away: boolean
  /** Why its store is not believed; empty: it is. */
  readonly suspect: string
}

export interface Group extends Scheme {
  /** In the order of shard indexes of stripe 0; each later stripe rotates by one. */
  readonly members: readonly Hex[]
  /** Fit, but not needed: they take the place of a member that fails. */
  readonly spares: readonly Hex[]
  readonly leftOut: readonly { readonly name: string; readonly why: string }[]
  /** How many hosts may be missing as it was asked, or else once every shard is placed, those for absent hosts too. */
  readonly wanted: number
  /** How many may be missing with the members alone. */
  readonly reach: number
}

/** `needBytes`: what a host must have free to be worth asking. Throws TOO_FEW_HOSTS. */
export function formGroup(hosts: readonly Candidate[], appliance: Hex, needBytes: number, wish: Wish): Group {
  const leftOut: { name: string; why: string }[] = []
  const present: Candidate[] = []
  let absent = 0
  for (const host of hosts.filter((one) => one.role === 'peer')) {
    const why = unfitBecause(host, appliance, needBytes)
    if (why === undefined) present.push(host)
    else leftOut.push({ name: host.name, why })
    if (host.away && host.storage !== '') absent++
  }
  const domains = new Set<string>()
  const ordered = present.sort(better)
  const first = ordered.filter((host) => !domains.has(host.domain) && domains.add(host.domain))
  for (const host of ordered) {
    if (first.includes(host)) continue
    leftOut.push({ name: host.name, why: `it shares the failure domain ${host.domain} with a chosen host` })
  }
  const fit = chooseFor(first.length, wish, leftOut)
  const scheme = forAbsent(absent, fit, wish.tolerate ?? usual(first.length + absent, wish))
  const width = scheme.k + scheme.m
  // Hosts that are only away get their shards later; where there are too few hosts at all, some hold several.
  const missing = Math.max(0, width - first.length)
  const several = missing > absent ? repeat(first, missing - absent) : []
  const members = [...first.slice(0, width), ...several].map((host) => host.host)
  const chosen = new Set(members)
  const spares = first.filter((host) => !chosen.has(host.host)).map((host) => host.host)
  return {
    ...scheme,
    members,
    spares,
    leftOut,
    wanted: wish.tolerate ?? Math.max(survivesWith(members, scheme, absent), usual(first.length + absent, wish)),
    reach: survivesWith(members, scheme, 0),
  }
}

/** How many losses a run with so many hosts is made for: those that are only away do not lower it. */
function usual(hosts: number, { scheme }: Wish): number {
  return scheme ? 0 : chooseScheme(hosts, {}).m
}

/** With parity for hosts that are only away: it is made, and stored there, when they are back (repair.ts). */
function forAbsent(absent: number, { k, m }: Scheme, usual: number): Scheme {
  return { k, m: Math.max(m, Math.min(m + absent, usual)) }
}

/**
 * The group of a volume for which a person decided on `tolerate` hosts, or whose earlier snapshots were made for `target`. Where
 * there are too few hosts now, the run does what it can, and its target stays. A wish for this run goes before both.
 */
export function formGroupFor(
  hosts: readonly Candidate[],
  appliance: Hex,
  needBytes: number,
  wish: Wish,
  policy: { readonly tolerate: number | null; readonly target: number },
): Group {
  if (wish.tolerate !== undefined || wish.scheme) return formGroup(hosts, appliance, needBytes, wish)
  const auto = () => formGroup(hosts, appliance, needBytes, {})
  if (policy.tolerate === null) return withTarget(auto(), policy.target)
  try {
    return formGroup(hosts, appliance, needBytes, { tolerate: policy.tolerate })
  } catch (error) {
    if (!hasCode(error, 'TOO_FEW_HOSTS')) throw error
    return { ...auto(), wanted: policy.tolerate }
  }
}

function withTarget(group: Group, target: number): Group {
  return { ...group, wanted: Math.max(group.wanted, target) }
}

/** Too few hosts is a riddle unless it is said what is wrong with the others. */
function chooseFor(hosts: number, wish: Wish, leftOut: Group['leftOut']): Scheme {
  try {
    return chooseScheme(hosts, wish)
  } catch (error) {
    if (!hasCode(error, 'TOO_FEW_HOSTS') || leftOut.length === 0) throw error
    const why = leftOut.map(({ name, why }) => `${name}: ${why}`).join('; ')
    throw new ImagerError('TOO_FEW_HOSTS', { ...error.details, why })
  }
}

/** The host of each shard of a stripe, by its number in its run; undefined where nobody is there to hold it. */
export function hostsOfStripe(group: Group, number: number): (Hex | undefined)[] {
  const width = group.k + group.m
  const places = Array.from({ length: width }, (_, index) => group.members[index])
  return places.map((_, index) => places[(index + number) % width])
}

/** Why a host cannot take so many bytes of what `appliance` stores; undefined where it can. */
export function unfitBecause(
  host: Pick<Candidate, 'host' | 'storage' | 'away' | 'freeBytes' | 'suspect'>,
  appliance: Hex,
  needBytes: number,
): string | undefined {
  if (host.host === appliance) return 'it is the host that is backed up'
  if (host.storage === '') return 'it offers no store'
  if (host.away) return 'it is away'
  if (host.suspect !== '') return 'its store is not believed; `imager check` looks at it'
  if (host.freeBytes < needBytes) return `it has only ${formatBytes(host.freeBytes)} free`
  return undefined
}

/** Those that are most often there, then those with most space; the id settles the rest. */
export function better(a: Candidate, b: Candidate): number {
  const uptime = (host: Candidate) => Math.round(host.uptime * 10)
  return uptime(b) - uptime(a) || b.freeBytes - a.freeBytes || (a.host < b.host ? -1 : 1)
}

function repeat<T>(items: readonly T[], count: number): T[] {
  return Array.from({ length: count }, (_, index) => items[index % items.length] as T)
}

/** How many hosts may be missing once `absent` more of them hold a shard each; those with most shards are lost first. */
function survivesWith(members: readonly Hex[], { k, m }: Scheme, absent: number): number {
  const counts = new Map<Hex, number>()
  for (const host of members) counts.set(host, (counts.get(host) ?? 0) + 1)
  const later = Array.from({ length: Math.min(absent, k + m - members.length) }, () => 1)
  let left = members.length + later.length
  let survives = -1
  for (const count of [0, ...[...counts.values(), ...later].sort((a, b) => b - a)]) {
    left -= count
    if (left < k) break
    survives++
  }
  return survives
}
