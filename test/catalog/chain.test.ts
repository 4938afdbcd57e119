import { randomBytes } from 'node:crypto'
import test, { type ExecutionContext } from 'ava'
import { LINKS } from '../../src/base/limits.js'
import { openCatalogEntry, sealCatalogEntry } from '../../src/catalog/entry.js'
import type { LocalCatalog } from '../../src/catalog/local.js'
import { decodeHeadIds, type HeadId } from '../../src/keys/head-set.js'
import { Secret } from '../../src/native.js'
import {
  addPeers,
  held,
  hex,
  ids,
  nextStripe,
  openPlain,
  placement,
  plainHead,
  recordsOf,
  references,
  summary,
  temporaryFolder,
} from './harness.js'

interface Stand {
  catalog: LocalCatalog
  peers: string[]
  path: string
}

function open(t: ExecutionContext): Stand {
  const folder = temporaryFolder()
  const catalog = openPlain(folder.path)
  t.teardown(() => {
    catalog.close()
    folder.remove()
  })
  return { catalog, peers: addPeers(catalog, 3), path: folder.path }
}

const appliance = hex(32)

async function finish({ catalog, peers }: Stand): Promise<HeadId> {
  const volume = hex(16)
  const begun = await catalog.begin({ appliance, volume, source: '/dev/x', label: 'l' })
  const { lease, snapshot, sequence, parent } = begun
  const stripe = nextStripe(catalog, appliance, begun)
  const request = placement(2, 1, peers, stripe)
  await catalog.place(lease, request)
  const { k, m, packBytes } = request
  await catalog.commit(lease, { stripe, k, m, packBytes, records: recordsOf(ids(2)), shards: held(request) })
  const head = plainHead({ appliance, volume, sequence, snapshot, parent, time: 1 })
  await catalog.finish(lease, {
    head,
    references: references([stripe], catalog.names),
    asked: false,
    summary: summary(),
  })
  return { appliance, snapshot }
}

const link = () => ({ hash: hex(32), bytes: randomBytes(20) })
const names = (bytes: Uint8Array) => decodeHeadIds(bytes).map(({ snapshot }) => snapshot)

test('each link lists what no link before it listed; a quorum over it acknowledges all of that', async (t) => {
  const s = open(t)
  const { chain } = s.catalog
  t.is(chain.tip(), undefined)
  const first = await finish(s)
  t.deepEqual(names(chain.unlisted()), [first.snapshot])
  chain.append(link())
  t.is(chain.unlisted().length, 0)
  const second = await finish(s)
  const two = link()
  chain.append(two)
  t.deepEqual(names(chain.heads()).toSorted(), [first.snapshot, second.snapshot].toSorted())
  t.deepEqual(names(chain.heads(1)), [second.snapshot])
  t.deepEqual(chain.tip()?.bytes, two.bytes)
  t.is(chain.cosigned(), undefined)
  chain.noteQuorum(1)
  t.is(chain.cosigned()?.n, 1)
  t.true(chain.isListed(first, 1))
  t.false(chain.isListed(second, 1))
  t.deepEqual(
    chain.links(1).map(({ n }) => n),
    [2],
  )
})

test('where each witness stands is kept, and the cosignatures of the last quorum', (t) => {
  const { chain } = open(t).catalog
  const [a, b, c] = [hex(32), hex(32), hex(32)] as const
  for (let n = 1; n <= 4; n++) chain.append(link())
  for (const witness of [a, b]) for (let n = 1; n <= 2; n++) chain.keepCosignature(n, witness, Buffer.from('x'))
  chain.keepCosignature(1, c, Buffer.from('x'))
  chain.noteQuorum(2)
  t.deepEqual(
    [a, b, c].map((witness) => chain.positions().get(witness)),
    [2, 2, 1],
  )
  chain.keepCosignature(3, a, Buffer.from('y'))
  t.deepEqual([...chain.cosignatures(2).keys()].toSorted(), [a, b].toSorted())
  chain.keepCosignature(99, b, Buffer.from('no such link'))
  t.is(chain.positions().get(b), 2)
})

test('a chain that is exchanged goes on behind it; what it does not list is listed by the next', async (t) => {
  const s = open(t)
  const { chain } = s.catalog
  const own = await finish(s)
  chain.append(link())
  chain.keepCosignature(1, hex(32), Buffer.from('x'))
  const [theirs, known] = [
    { appliance, snapshot: hex(16) },
    { appliance, snapshot: hex(16) },
  ] as const
  const [older, newer] = [link(), link()]
  s.catalog.write(() => chain.exchange([older, newer], [theirs]))
  t.deepEqual(
    chain.links().map(({ hash }) => hash),
    [older.hash, newer.hash],
  )
  t.is(chain.positions().size, 0)
  t.deepEqual(names(chain.heads()), [theirs.snapshot])
  t.deepEqual(names(chain.unlisted()), [own.snapshot])
  chain.find([known, theirs])
  t.deepEqual(
    chain
      .missing()
      .map(({ snapshot }) => snapshot)
      .toSorted(),
    [theirs.snapshot, known.snapshot].toSorted(),
  )
  chain.append(link())
  t.is(names(chain.heads()).length, 3)
  t.is(chain.unlisted().length, 0)
})

test('a thousand links are kept, and the last that a quorum signed however long ago', (t) => {
  const { catalog } = open(t)
  const { chain } = catalog
  catalog.write(() => {
    for (let n = 1; n <= 10; n++) chain.append(link())
    chain.noteQuorum(5)
    for (let n = 11; n <= LINKS + 50; n++) chain.append(link())
  })
  t.is(chain.links()[0]?.n, 5)
  chain.noteQuorum(LINKS + 40)
  chain.append(link())
  t.is(chain.links().length, LINKS)
})

test('an entry brings a snapshot back as it was; for another head, under another key, or changed it does not open', async (t) => {
  const s = open(t)
  const id = await finish(s)
  const before = await s.catalog.snapshots()
  const row = s.catalog.entries.of(id)
  t.truthy(row)
  t.is(s.catalog.entries.of({ ...id, appliance: hex(32) }), undefined)
  if (!row) return
  const key = Secret.random()
  const sealed = sealCatalogEntry(row, key)
  t.false(sealed.includes('/dev/x'))
  t.deepEqual(openCatalogEntry(sealed, id, key), row)
  const refused = (bytes: Buffer, code: string, of = id, under = key) =>
    t.throws(() => openCatalogEntry(bytes, of, under), { code })
  refused(sealed, 'FORGED', { ...id, snapshot: hex(16) })
  refused(sealed, 'FORGED', id, Secret.random())
  for (const at of [8, 25, sealed.length - 1]) {
    const changed = Buffer.from(sealed)
    changed[at] = (changed[at] as number) ^ 1
    refused(changed, 'FORGED')
  }
  refused(sealed.subarray(0, 30), 'CORRUPT')
  refused(Buffer.concat([Buffer.from('IMCE\x02\0\0\0'), sealed.subarray(8)]), 'UNSUPPORTED')

  const other = open(t)
  await t.throwsAsync(other.catalog.snapshot(id.snapshot), { code: 'NO_SUCH_SNAPSHOT' })
  other.catalog.entries.import(openCatalogEntry(sealed, id, key))
  const [mine, theirs] = [before[0], (await other.catalog.snapshots())[0]]
  const { applianceName: _, ...facts } = mine ?? {}
  const nothing = { survives: -1, receipted: -1, now: { survives: -1, suffice: [] } }
  t.like(theirs, { ...facts, ...nothing, state: 'incomplete', at: mine?.at })
})
