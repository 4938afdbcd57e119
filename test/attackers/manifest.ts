/**
 * What an appliance in wrong hands may store as a manifest: pages of its own making, under its own keys, through the project's own
 * pipeline, so that all but their content is as a run leaves it.
 */
import { randomBytes, randomInt } from 'node:crypto'
import type { Hex } from '../../src/base/ids.js'
import { MiB } from '../../src/base/units.js'
import type { Begun } from '../../src/catalog/types.js'
import type { Fleet } from '../../src/fleet/open.js'
import { Pipeline } from '../../src/jobs/snapshot/pipeline.js'
import { presentHosts } from '../../src/jobs/snapshot/present-hosts.js'
import { type Head, headName, openHead, signHead } from '../../src/keys/head.js'
import { domainsOf, openVault } from '../../src/keys/vault.js'
import { batchOfPages, type SecretHandle } from '../../src/native.js'
import { encodeDescription } from '../../src/retrieve/description.js'
import { runName } from '../../src/stripes/names.js'
import { formGroup } from '../../src/stripes/place.js'
import { summary } from '../catalog/harness.js'

/** What one map page describes. */
export const MAP_PAGE_BYTES = 8 * MiB

/** What names a page in the page above it. */
export interface Named {
  readonly birth: bigint
  /** Its block key. */
  readonly key: Uint8Array
}

export interface Entry extends Named {
  readonly first: number
  readonly last: number
}

interface Top {
  readonly level: number
  readonly page: Named
}

/** The bytes of a page whose births are all of this run. */
export type Page = (run: Buffer) => Buffer

/** Gives pages, is told what names each of them, and ends with the top of the one tree. */
export type Pages = Generator<Page, Top, Named>

/** Of some zeros: how many, nobody had before, so that the page is born in its own run. */
export function mapPage(base: number, length = 1 + randomInt(MAP_PAGE_BYTES), birth = 0): Page {
  const entry = Buffer.alloc(12)
  entry.writeUInt32LE(length, 4)
  return () => Buffer.concat([pageOf(1), u64(base), varint(0), entry, u64(birth), Buffer.alloc(32)])
}

export function indexPage(level: number, entries: readonly Entry[]): Page {
  const rows = entries.flatMap(({ first, last, birth, key }) => [u64(first), u64(last), u64(inFirstRun(birth)), key])
  return (run) => Buffer.concat([pageOf(4), varint(1), run, Buffer.of(level), varint(entries.length), ...rows])
}

function rootPage(description: string, { level, page }: Top, run: Buffer): Buffer {
  const text = Buffer.from(description)
  const tree = [varint(1), Buffer.of(1, 0, level), u64(inFirstRun(page.birth)), page.key]
  return Buffer.concat([pageOf(5), varint(1), run, varint(text.length), text, ...tree])
}

/** As a page has it whose table of runs has one. */
function inFirstRun(birth: bigint): bigint {
  return (1n << 40n) | (birth & 0xff_ffff_ffffn)
}

/** Six index pages on top of each other, 337 kB, each of which names the one below a thousand times. */
export function* tower(): Pages {
  let page = yield mapPage(0)
  for (let level = 1; level <= 6; level++) {
    const below = page
    const entryAt = (at: number) => ({ ...below, first: at * MAP_PAGE_BYTES, last: (at + 1) * MAP_PAGE_BYTES - 1 })
    page = yield indexPage(
      level,
      Array.from({ length: 1000 }, (_, at) => entryAt(at)),
    )
  }
  return { level: 6, page }
}

/** Two map pages below one index page, as an honest run leaves them. */
export function* honest(): Pages {
  const [first, second] = [yield mapPage(0), yield mapPage(MAP_PAGE_BYTES)]
  const entries = [first, second].map((page, at) => {
    return { ...page, first: at * MAP_PAGE_BYTES, last: (at + 1) * MAP_PAGE_BYTES - 1 }
  })
  return { level: 1, page: yield indexPage(1, entries) }
}

export interface Hostile {
  readonly begun: Begun
  readonly head: Buffer
  /** The bitmap that its head names. */
  readonly bitmap: Buffer
  readonly name: string
}

export interface Lies {
  /** The bitmap that it signs, of the true one. */
  readonly bitmap?: (bitmap: Buffer) => Buffer
  /** The snapshot that it says to be. */
  readonly snapshot?: Hex
  /** Hosts that may be missing; else as an honest run has it. */
  readonly tolerate?: number
}

/** What this appliance says, sealed and signed as it should be. */
export function signAs({ home }: Fleet, head: Head): Buffer {
  return signHead(head, home.secret, home.trailerKey as SecretHandle)
}

export function openOwn({ home }: Fleet, head: Buffer): Head {
  return openHead(head, home.fleet, (appliance) => home.trailerKeysOf(appliance))
}

/** One run up to its `finish`; all peers hold its head. */
export async function storeHostile(fleet: Fleet, pages: Pages, lies: Lies = {}): Promise<Hostile> {
  const { home, catalog, peers, clock } = fleet
  const parts = { home, catalog, peers, clock, report: () => {}, signal: new AbortController().signal }
  const group = formGroup(
    await presentHosts(parts),
    home.host,
    MiB,
    lies.tolerate === undefined ? {} : { tolerate: lies.tolerate },
  )
  const volume = randomBytes(16).toString('hex')
  const begun = await catalog.begin({ appliance: home.host, volume, source: '/dev/hostile', label: '' })
  const pipeline = new Pipeline(
    { scan: undefined as never, group, volume, level: 1 },
    begun,
    openVault(home, volume),
    parts,
  )
  replacePages(pipeline, pages, fleet, runName(home.host, begun.run))
  const snapshot = lies.snapshot ?? begun.snapshot
  await pipeline.storeManifest(describe(snapshot, clock.now(), domainsOf(home)))
  const references = pipeline.packer.references()
  const bitmap = lies.bitmap?.(references) ?? references
  const head = signAs(fleet, { ...openOwn(fleet, pipeline.signHead(bitmap, clock.now())), snapshot })
  const name = headName({ appliance: home.host, snapshot })
  for (const { host } of home.membership().hosts.filter(({ role }) => role === 'peer')) {
    await peers.get(host).sendDocument('head', name, head)
    await peers.get(host).sendDocument('bitmap', name, bitmap)
  }
  return { begun, head, bitmap, name }
}

export async function finishHostile({ catalog }: Fleet, { begun, head, bitmap }: Hostile): Promise<void> {
  await catalog.finish(begun.lease, { head, references: bitmap, asked: false, summary: summary() })
}

/** The pipeline packs these pages instead of those of a disk. */
function replacePages({ manifest }: Pipeline, pages: Pages, { home, catalog }: Fleet, run: Buffer): void {
  const content = (home.manifestKey as SecretHandle).derive('imager v1 page')
  const vault = openVault(home, '00'.repeat(16))
  // A manifest of nothing takes each page for its root: so the birth of each can be asked for.
  manifest.nextPages()
  let last: Buffer | undefined
  let top: Top | undefined
  const nextPages = () => {
    const named = last && { birth: manifest.sealedRoot(vault, catalog.names).birth, key: content.tag(last) }
    const step = pages.next(named as Named)
    if (step.done) top = step.value
    last = step.done ? undefined : step.value(run)
    return last ? batchOfPages([last]) : null
  }
  const root = (description: string) => batchOfPages([rootPage(description, top as Top, run)])
  Object.defineProperties(manifest, { nextPages: { value: nextPages }, root: { value: root } })
}

function describe(snapshot: string, timeMs: number, domains: string[]): string {
  const none = { bytes: 0, ranges: [], files: [] }
  return encodeDescription({
    ...{ snapshot, timeMs, domains, source: '/dev/hostile', label: '', view: 'none', sizeBytes: 2 * MAP_PAGE_BYTES },
    ...{ table: { kind: 'none', id: '', sectorBytes: 512 }, volumes: [], leftOut: [], unreadable: none, torn: none },
  })
}

const pageOf = (kind: number): Buffer => Buffer.concat([Buffer.from('IMPG'), Buffer.of(1, 0, 0, 0, kind)])

function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function varint(value: number): Buffer {
  return value < 0x80 ? Buffer.of(value) : Buffer.concat([Buffer.of((value % 0x80) | 0x80), varint(value >>> 7)])
}
