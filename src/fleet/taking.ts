/**
 * The new end of a move: what the coordinator hands over is fetched into a folder of its own, looked through, compared with what the
 * witnesses hold, and the keys are sealed anew; only then is the handover asked for. It is on the disk before anything is made of it,
 * so whoever is cut short goes on from there, and needs nobody for that. In the state folder:
 *
 *   taking/catalog/      as it was offered
 *   taking/keys/*.bin    the entries that this host will have
 *   taking/handed.json   the handover: from here on the place is this host's
 */
import { closeSync, existsSync, fsyncSync, openSync, readdirSync, renameSync, rmSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import * as v from 'valibot'
import type { Clock } from '../base/clock.js'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import type { LocalCatalog } from '../catalog/local.js'
import type { Answer } from '../coordinator/calls.js'
import type { RemoteCatalog } from '../coordinator/client.js'
import { Witnesses } from '../coordinator/witnesses.js'
import { openCheckpoint } from '../keys/checkpoint.js'
import { makeFolder, readWhole, syncFolder, writeDurable } from '../keys/durable.js'
import { openEntry, sealEntry, sealToRecovery } from '../keys/entry.js'
import { Handed, isNewer } from '../keys/handover.js'
import { HeadSet } from '../keys/head-set.js'
import type { Home } from '../keys/home.js'
import { takeUp } from '../keys/take-up.js'

export type Offer = NonNullable<Answer<'standBy'>['offer']>

export interface TakingParts {
  readonly home: Home
  readonly coordinator: RemoteCatalog
  readonly clock: Clock
  /** Throws where the catalog in that folder is damaged. */
  readonly audit: (folder: string) => Promise<void>
}

const HANDED = 'handed.json'
const taking = ({ state }: Home) => join(state, 'taking')

/** The place is this host's, and it has not taken it yet. */
export function isHanded(home: Home): boolean {
  return existsSync(join(taking(home), HANDED))
}

/** All but the last step. Throws where the catalog is not whole, or not the newest: nothing has happened then. */
export async function takeOffer(offer: Offer, parts: TakingParts): Promise<void> {
  const { home, coordinator, audit } = parts
  const folder = taking(home)
  rmSync(folder, { recursive: true, force: true })
  for (const one of ['keys', join('catalog', 'signatures')]) makeFolder(join(folder, one))
  for (const { name, bytes } of offer.files) await fetchFile(join(folder, 'catalog', name), name, bytes, coordinator)
  await audit(join(folder, 'catalog'))
  await requireNewest(offer, parts)
  for (const [at, bytes] of ownKeys(offer, home).entries()) writeDurable(join(folder, 'keys', `${at}.bin`), bytes)
  for (const one of [join(folder, 'catalog', 'signatures'), join(folder, 'catalog'), folder, home.state])
    syncFolder(one)
}

/** Asks for the handover, and keeps it. */
export async function keepHanded(handed: Handed, home: Home): Promise<void> {
  if (!existsSync(join(taking(home), 'keys'))) {
    const what = 'The place was handed to this host, but what belongs to it is not here any more'
    throw new ImagerError('IO', { what })
  }
  writeDurable(join(taking(home), HANDED), Buffer.from(JSON.stringify(handed)))
}

async function fetchFile(path: string, name: string, bytes: number, coordinator: RemoteCatalog): Promise<void> {
  const file = openSync(path, 'w', 0o600)
  try {
    for (let at = 0; at < bytes; ) {
      const part = await coordinator.movePart(name, at)
      if (part.length === 0 || at + part.length > bytes) {
        throw new ImagerError('HOST_LIED', { host: 'The coordinator', what: `${name} is not as long as it said` })
      }
      writeSync(file, part)
      at += part.length
    }
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

/** Its chain is what it lists, and no witness has signed anything newer; a majority says so. Throws CORRUPT, ROLLED_BACK, IO. */
async function requireNewest(offer: Offer, { home, clock }: TakingParts): Promise<void> {
  const [{ LocalCatalog }, { partsOf }] = await Promise.all([
    import('../catalog/local.js'),
    import('../catalog/parts.js'),
  ])
  const catalog = LocalCatalog.open(taking(home), partsOf(home, clock))
  try {
    const tip = requireChain(catalog, offer, home)
    const witnesses = new Witnesses(home, catalog)
    try {
      const replies = await Promise.all(witnesses.all().map((witness) => witness.ask()))
      const answered = replies.filter(({ failure }) => !failure).map(({ witness }) => witness.host)
      if (!witnesses.isQuorum(answered)) {
        const silent = witnesses.named.filter(({ host }) => !answered.includes(host)).map(({ name }) => name)
        throw new ImagerError('IO', {
          what: `Too few witnesses say that it is the newest: switch on ${silent.join(', ')}`,
        })
      }
      const newer = replies.find(({ held }) => held && isNewer(held.checkpoint, tip))
      if (!newer?.held) return
      const seen = `checkpoint ${newer.held.checkpoint.sequence}, which ${newer.witness.name} has signed`
      throw new ImagerError('ROLLED_BACK', { shown: tip ? `checkpoint ${tip.sequence}` : 'none', seen })
    } finally {
      witnesses.close()
    }
  } finally {
    catalog.close()
  }
}

function requireChain({ chain }: LocalCatalog, { tip: said }: Offer, home: Home) {
  const corrupt = (what: string) => new ImagerError('CORRUPT', { what: `The catalog that was handed over ${what}` })
  const last = chain.tip()
  const tip = last && openCheckpoint(last.bytes, home.fleet, home.rootKey)
  if ((tip?.hash ?? null) !== said) throw corrupt('ends with another checkpoint than was said')
  const listed = HeadSet.empty.with(chain.heads())
  if (tip && tip.heads.root !== listed.root) throw corrupt('lists other snapshots than its newest checkpoint')
  return tip
}

/** What is in use in its own name, as a recovery would have it; all else as it came. Throws FORGED, CORRUPT. */
function ownKeys({ keys, domain, catalog }: Offer, home: Home): Buffer[] {
  const { fleet, host, secret, rootSealing } = home
  const { term } = home.membership()
  const maker = { fleet, term, rootSealing, identity: secret }
  const self = { fleet, term, owner: host, reader: host, readerSealing: toHex(secret.sealingKey()) }
  const own = new Set<Hex>()
  const entries = keys.flatMap((text) => {
    const bytes = Buffer.from(text, 'base64')
    const { key, entry } = openEntry(bytes, { fleet, reader: host, secret, accept: () => true })
    const { purpose } = entry
    const isInUse = (purpose === 'domain' && entry.key === domain) || (purpose === 'catalog' && entry.key === catalog)
    if (!isInUse) return [bytes]
    if (own.has(entry.key)) return []
    own.add(entry.key)
    // Servers go by term and rotation: the same key must not look older than it is.
    const rotation = entry.term === term ? entry.rotation : 0
    return [sealEntry(key, { ...self, purpose, rotation }, secret), sealToRecovery(purpose, key, maker, rotation)]
  })
  if (own.has(domain) && own.has(catalog)) return entries
  throw new ImagerError('CORRUPT', { what: "The fleet's keys are not among those that were handed over" })
}

/** Makes this folder a coordinator's, and gives its first membership. Repeated where it was cut short. */
export function takePlaceOver(home: Home, listen: string, address: string): Buffer {
  const folder = taking(home)
  const handed = v.parse(Handed, JSON.parse(readWhole(join(folder, HANDED)).toString()))
  const keys = readdirSync(join(folder, 'keys')).map((name) => readWhole(join(folder, 'keys', name)))
  home.keepEntries(keys)
  const [from, to] = [join(folder, 'catalog'), join(home.state, 'catalog')]
  if (existsSync(from)) {
    rmSync(to, { recursive: true, force: true })
    renameSync(from, to)
    for (const one of [folder, dirname(to)]) syncFolder(one)
  }
  const before = home.membership()
  if (before.coordinator !== home.host) home.saveMembership(takeUp(before, handed, home.rootSealing, home.secret))
  home.becomeCoordinator(listen, address)
  rmSync(folder, { recursive: true, force: true })
  return home.membership().bytes
}

/** Among what happened; a catalog that cannot be written now keeps nobody from serving it. */
export async function noteMoved(home: Home, former: string, clock: Clock): Promise<void> {
  const { LocalCatalog } = await import('../catalog/local.js')
  const catalog = LocalCatalog.openFor(home.state, clock)
  try {
    catalog.registry.record('fleet', home.host, `The coordinator moved from ${former} to ${home.name}`)
  } finally {
    catalog.close()
  }
}
