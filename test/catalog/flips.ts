/**
 * One bit of a coordinator's state folder flipped, and then everything asked: an answer is right, or an error that names the
 * file and what to type. Used by flips.test.ts (a few) and by the long run (10,000).
 */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { ImagerError } from '../../src/base/errors.js'
import { auditCatalog, heed } from '../../src/catalog/audit.js'
import { LocalCatalog } from '../../src/catalog/local.js'
import { initFleet } from '../../src/fleet/init.js'
import { type Home, openHome } from '../../src/keys/home.js'
import { stripeOf } from '../../src/stripes/names.js'
import {
  addPeers,
  held,
  hex,
  idOf,
  nextStripe,
  offer,
  placement,
  plainHead,
  plainParts,
  recordsOf,
  references,
  summary,
  TurnedClock,
} from './harness.js'

const STRIPES = 40
const PER_RUN = STRIPES / 4
const RECORDS = 30
const OPTIONS = { youngRows: 500 }
const LAST_BEAT_MS = 10_000

export interface Base {
  readonly folder: string
  /** Without the folder's name; `log`: as after `kill -9`, with what SQLite had not copied yet. */
  readonly closed: string
  readonly log: string
  readonly truth: Record<string, unknown>
  readonly lease: string
}

export type Outcome = { readonly file: string; readonly byte: number; readonly bit: number } & (
  | { readonly kind: 'right' | 'named'; readonly said?: string }
  | { readonly kind: 'WRONG'; readonly what: string }
)

/** A numbers generator that a seed repeats. */
export function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

const words = Array.from({ length: STRIPES * RECORDS }, (_, i) => idOf(`block ${i}`))
/** The stripes are of four runs; a catalog that is opened anew numbers these as they were begun. */
const numbers = Array.from({ length: STRIPES }, (_, i) => stripeOf(1 + Math.floor(i / PER_RUN), i % PER_RUN))

export async function makeBase(): Promise<Base> {
  const folder = mkdtempSync(join(tmpdir(), 'imager-flips-'))
  const closed = join(folder, 'closed')
  const log = join(folder, 'log')
  const listen = '127.0.0.1:7420'
  initFleet({ state: closed, name: 'office', domain: 'office', listen, address: listen, keepWords: () => {} })
  const clock = new TurnedClock()
  const catalog = LocalCatalog.open(closed, plainParts(clock), OPTIONS)
  const peers = addPeers(catalog, 6)
  const [appliance, volume] = [hex(32), hex(16)]
  for (let from = 0; from < STRIPES; from += PER_RUN) {
    const begun = await catalog.begin({ appliance, volume, source: '/dev/sdb', label: `run ${from}` })
    for (let stripe = from; stripe < from + PER_RUN; stripe++) {
      const number = nextStripe(catalog, appliance, begun)
      const request = placement(4, 2, peers, number)
      await catalog.place(begun.lease, request)
      const records = recordsOf(Buffer.concat(words.slice(stripe * RECORDS, (stripe + 1) * RECORDS)))
      const { k, m, packBytes } = request
      await catalog.commit(begun.lease, { stripe: number, k, m, packBytes, records, shards: held(request) })
    }
    const named = references(numbers.slice(0, from + PER_RUN), catalog.names)
    const { snapshot, sequence, parent } = begun
    const head = plainHead({ appliance, volume, sequence, snapshot, parent, time: clock.time + from })
    await catalog.finish(begun.lease, { head, references: named, summary: summary(), asked: false })
  }
  const { lease } = await catalog.begin({ appliance, volume: hex(16), source: '/dev/sdc', label: '' })
  const [row] = await catalog.stripes([numbers[6] as number])
  const shard = row?.shards[2]
  if (row && shard) await catalog.learn([{ stripe: row.stripe, shard: shard.shard, fact: 'corrupt' }], [])
  await catalog.setPolicy({ appliance, volume }, { tolerate: 2, maxAgeMs: 86_400_000 })
  catalog.registry.addToken(hex(16), Buffer.alloc(32, 9), 'peer', catalog.registry.tokenExpiry())
  catalog.registry.setDocument('membership', 'f', 3, Buffer.alloc(900, 5))
  catalog.registry.setDocument('key', `${peers[0]}${hex(32)}`, 3, Buffer.alloc(700, 6))
  await catalog.snapshots()
  clock.time += LAST_BEAT_MS
  // The last that a killed coordinator wrote is a heartbeat: of a log's last commit SQLite cannot say if it was ever whole.
  const last = peers[5] ?? ''
  // As many bytes as it was given: else its store is not believed any more, and more than a heartbeat is written.
  catalog.heartbeat(last, { ...offer(`disk-${last}`), usedBytes: 1e12 })
  cpSync(closed, log, { recursive: true })
  catalog.close()
  const asked = join(folder, 'asked')
  cpSync(closed, asked, { recursive: true })
  const whole = LocalCatalog.open(asked, plainParts(clock), OPTIONS)
  const truth = await ask(asked, whole, lease)
  whole.close()
  for (const answer of Object.values(truth)) if (answer instanceof Error) throw answer
  return { folder, closed, log, truth, lease }
}

/** Everything that a coordinator is asked, by name. */
async function ask(state: string, catalog: LocalCatalog, lease: string): Promise<Record<string, unknown>> {
  const answers: Record<string, unknown> = {}
  for (const [name, question] of Object.entries(questions(state, catalog, lease))) {
    try {
      answers[name] = await question()
    } catch (error) {
      answers[name] = error
    }
  }
  return answers
}

function questions(state: string, catalog: LocalCatalog, lease: string): Record<string, () => unknown> {
  const all = Buffer.concat(words)
  let opened: Home | undefined
  const home = (): Home => {
    opened ??= openHome(state)
    return opened
  }
  return {
    home: () => ({ ...home().config, host: home().host }),
    membership: () => home().membership().body,
    keys: () => [home().domainKey !== undefined, home().catalogKey !== undefined, home().ownEntries().length],
    hosts: async () =>
      (await catalog.hosts()).map(
        ({ lastSeen: _l, uptime: _u, freeBytes: _f, usedBytes: _b, capacityBytes: _c, ...row }) => row,
      ),
    snapshots: () => catalog.snapshots(),
    latest: () => catalog.snapshot('latest'),
    stripesOf: async () => Promise.all((await catalog.snapshots()).map(({ id }) => catalog.snapshotStripes(id))),
    stripes: () => catalog.stripes(numbers),
    // Lengths that are not told are asked for by signature.
    places: async () => {
      const lengths = await catalog.records(numbers)
      const located = await catalog.locate(all, new BigUint64Array(words.length))
      return words.map((_, i) => {
        const own = lengths[Math.floor(i / RECORDS)] as Uint32Array
        const at = i % RECORDS
        const told = own.length > 0
        const stripe = told ? numbers[Math.floor(i / RECORDS)] : Number(located.stripes[i])
        const offset = told ? 16 + own.subarray(0, at).reduce((sum, length) => sum + length, 0) : located.offsets[i]
        return [stripe, offset, told ? own[at] : located.lengths[i]]
      })
    },
    signatures: async () => [...(await catalog.locate(all, new BigUint64Array(words.length))).stripes].map(Number),
    births: async () => [...(await catalog.lookup(lease, all, 2))].map(String),
    policies: () => catalog.policies(),
    documents: () => [catalog.registry.documents('membership'), catalog.registry.documents('key')],
    events: () => catalog.registry.events().map(({ sentence }) => sentence),
    // A run that begins now: its number and sequence must be new.
    begins: async () => {
      const { appliance, volume } = (await catalog.snapshots())[0] as { appliance: string; volume: string }
      const begun = await catalog.begin({ appliance, volume, source: '/dev/sdb', label: '' })
      return [begun.sequence, nextStripe(catalog, appliance, begun)]
    },
  }
}

/** Files whose bits count, with those that hold more drawn more often. */
export function drawFlip(base: Base, random: () => number): { from: string; file: string; byte: number; bit: number } {
  const from = random() < 0.3 ? base.log : base.closed
  const files = readdirSync(from, { recursive: true, withFileTypes: true })
    .filter(
      (entry) =>
        entry.isFile() && !entry.name.endsWith('-shm') && statSync(join(entry.parentPath, entry.name)).size > 0,
    )
    .map((entry) => relative(from, join(entry.parentPath, entry.name)))
    .sort()
  const main = files.filter((file) => file.includes('catalog.db'))
  const among = random() < 0.6 ? main : files
  const file = among[Math.floor(random() * among.length)] as string
  return { from, file, byte: Math.floor(random() * statSync(join(from, file)).size), bit: Math.floor(random() * 8) }
}

export async function tryFlip(base: Base, random: () => number): Promise<Outcome> {
  const { from, file, byte, bit } = drawFlip(base, random)
  const state = join(base.folder, 'tried')
  rmSync(state, { recursive: true, force: true })
  cpSync(from, state, { recursive: true })
  const path = join(state, file)
  const bytes = readFileSync(path)
  bytes[byte] = (bytes[byte] as number) ^ (1 << bit)
  writeFileSync(path, bytes)
  return { file, byte, bit, ...(await judge(base, state)) }
}

async function judge(
  base: Base,
  state: string,
): Promise<{ kind: 'right' | 'named'; said?: string } | { kind: 'WRONG'; what: string }> {
  let catalog: LocalCatalog
  try {
    const clock = new TurnedClock(1_800_000_000_000 + LAST_BEAT_MS)
    catalog = LocalCatalog.open(state, plainParts(clock), OPTIONS)
  } catch (error) {
    return namedBy(error, state)
      ? { kind: 'named', said: String(error) }
      : { kind: 'WRONG', what: `opening: ${String(error)}` }
  }
  try {
    heed(catalog.upkeep, auditCatalog(join(state, 'catalog')), hex(32))
    let said: string | undefined
    for (const [name, answer] of Object.entries(await ask(state, catalog, base.lease))) {
      if (answer instanceof Error) {
        if (!namedBy(answer, state)) return { kind: 'WRONG', what: `${name}: ${String(answer)}` }
        said ??= answer.message
      } else if (!isRight(name, answer, base.truth[name])) {
        return { kind: 'WRONG', what: `${name}: another answer, and no error` }
      }
    }
    return said === undefined ? { kind: 'right' } : { kind: 'named', said }
  } catch (error) {
    return namedBy(error, state)
      ? { kind: 'named', said: String(error) }
      : { kind: 'WRONG', what: `looking: ${String(error)}` }
  } finally {
    catalog.close()
  }
}

/** A damaged row of `record` may leave an event more. */
function isRight(name: string, answer: unknown, truth: unknown): boolean {
  if (name !== 'events') return isDeepStrictEqual(answer, truth)
  const [given, due] = [answer as string[], truth as string[]]
  return (
    isDeepStrictEqual(given.slice(0, due.length), due) && given.slice(due.length).every((one) => /damaged/.test(one))
  )
}

function namedBy(error: unknown, state: string): boolean {
  if (!(error instanceof ImagerError) || error.code !== 'STATE_DAMAGED') return false
  return String(error.details.path).startsWith(state) && /`imager recover .* --state \S+`/.test(error.remedy)
}

export function removeBase({ folder }: Base): void {
  if (existsSync(folder)) rmSync(folder, { recursive: true })
}
