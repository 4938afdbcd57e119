/**
 * Who may store can say that he holds what somebody else stored: readers take what its writer made of it, and where that is lost
 * try each other place, until one gives what the manifest names.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { MiB } from '../../src/base/units.js'
import type { CommitRequest } from '../../src/catalog/types.js'
import { joinFleet } from '../../src/fleet/join.js'
import { type Fleet, openFleet } from '../../src/fleet/open.js'
import type { RestoreReport } from '../../src/jobs/restore/disk.js'
import { sectionsOf } from '../../src/jobs/restore/sections.js'
import { openHome } from '../../src/keys/home.js'
import { keysHeld } from '../../src/keys/vault.js'
import { openFound } from '../../src/retrieve/open.js'
import { ID_BYTES, RECORD_BYTES } from '../../src/signatures/rows.js'
import { imager, lastLine, TestLab } from '../e2e/lab.js'
import { attacking } from './attacks.js'
import { honest, storeHostile } from './manifest.js'

async function withFleet<T>(state: string, work: (fleet: Fleet) => Promise<T>): Promise<T> {
  const fleet = await openFleet(openHome(state))
  try {
    return await work(fleet)
  } finally {
    await fleet.close()
  }
}

/** What a snapshot's map names, and the shards of the stripes in which it is, but for that of the root and of other pages. */
function look(state: string, snapshot: string): Promise<{ ids: Buffer; shards: string[] }> {
  return withFleet(state, async (fleet) => {
    const { catalog, home } = fleet
    const found = await catalog.snapshot(snapshot)
    const opened = await openFound(found, keysHeld(home, home.host), fleet)
    const ids: Buffer[] = []
    const stripes = new Set<number>()
    for await (const { collected } of sectionsOf(opened, new AbortController().signal)) {
      ids.push(collected.ids())
      for (const birth of collected.births()) stripes.add(Number(birth >> 16n))
    }
    const all = await catalog.snapshotStripes(snapshot)
    const last = Math.max(...all)
    const rows = await catalog.stripes([...stripes].filter((stripe) => stripe !== last))
    return { ids: Buffer.concat(ids), shards: rows.flatMap(({ shards }) => shards.map(({ shard }) => shard)) }
  })
}

/** Takes shards away from all peers, as disks that died would. */
function lose(lab: TestLab, shards: readonly string[]): number {
  let lost = 0
  for (const { store } of lab.lab.peers) {
    for (const name of readdirSync(join(store, 'shards'), { recursive: true, encoding: 'utf8' })) {
      if (!shards.some((shard) => name.endsWith(`${shard}.shard`))) continue
      rmSync(join(store, 'shards', name))
      lost++
    }
  }
  return lost
}

/** Stripes of another appliance, safer than others, that say to hold records of these signatures and hold something else. */
async function commitJunk(state: string, ids: Buffer, stripes: number): Promise<void> {
  await withFleet(state, async (fleet) => {
    const rows = Buffer.alloc((ids.length / ID_BYTES) * RECORD_BYTES)
    for (let at = 0; at * ID_BYTES < ids.length; at++) {
      ids.copy(rows, at * RECORD_BYTES, at * ID_BYTES, (at + 1) * ID_BYTES)
      rows.writeUInt32LE(16, at * RECORD_BYTES + ID_BYTES)
      rows.writeUInt32LE(100, at * RECORD_BYTES + ID_BYTES + 4)
    }
    const { catalog } = fleet
    const lying = Object.create(catalog, {
      names: { get: () => catalog.names },
      commit: {
        value: (lease: string, request: CommitRequest) => catalog.commit(lease, { ...request, records: rows }),
      },
      begin: { value: catalog.begin.bind(catalog) },
      place: { value: catalog.place.bind(catalog) },
      lookup: { value: catalog.lookup.bind(catalog) },
      hosts: { value: catalog.hosts.bind(catalog) },
    }) as Fleet['catalog']
    for (let stripe = 0; stripe < stripes; stripe++)
      await storeHostile({ ...fleet, catalog: lying }, honest(), { tolerate: 3 })
  })
}

const sum = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex')

test('junk under the signatures of others, and stripes that are lost: whatever is right somewhere is read, and nothing else', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 4)
  const disk = lab.makeDisk('disk.img', 48)
  const own = lab.lab.appliance.state
  const old = await lab.snapshot(t, disk)
  const seen = await look(own, old)
  t.true(lose(lab, seen.shards) >= 4)
  t.not((await imager('check', '--state', lab.lab.coordinator.state)).code, 0)
  // Data is lost; who looks says so; and the next run, which no junk was there to mislead, stores it again.
  const target = lab.path('lost.img')
  const lost = await imager('restore', old, '--to', target, '--state', own, '--json')
  t.is(lastLine<{ code: string }>(lost).code, 'NOT_RESTORABLE', 'nothing else has it')
  const newer = await lab.snapshot(t, disk, '--full-read')
  const thief = lab.path('thief')
  const invited = await withFleet(lab.lab.coordinator.state, (fleet) => fleet.invite('appliance'))
  await joinFleet({ token: invited.token, state: thief, name: 'thief', listen: null })
  await commitJunk(thief, seen.ids, 3)
  const right = await imager('restore', newer, '--to', lab.path('newer.img'), '--state', own, '--json')
  t.is(right.code, 0, right.stdout + right.stderr)
  t.deepEqual(lastLine<RestoreReport>(right).notes, [], 'its own stripes come before safer ones of others')
  const path = lab.path('elsewhere.img')
  const done = await imager('restore', old, '--to', path, '--state', own, '--json')
  t.is(done.code, 0, done.stdout + done.stderr)
  t.is(sum(path), sum(disk))
  t.regex(lastLine<RestoreReport>(done).notes.join(), /another run had stored the same/)
  tried('junk-records')
  const [files, list] = [lab.path('files'), lab.path('list')]
  writeFileSync(list, '0/large\n')
  const some = await imager('restore', old, '--files', list, '--to', files, '--state', own, '--json')
  t.is(some.code, 0, some.stdout + some.stderr)
  const mountpoint = lab.mountpoint(t)
  const mounted = await imager('mount', old, mountpoint, '--state', own, '--json')
  t.is(mounted.code, 0, mounted.stdout + mounted.stderr)
  const large = readdirSync(mountpoint, { recursive: true, encoding: 'utf8' }).find((name) => name.endsWith('large'))
  const restored = readdirSync(files, { recursive: true, encoding: 'utf8' }).find((name) => name.endsWith('large'))
  t.is(sum(join(mountpoint, large ?? '')), sum(join(files, restored ?? '')))
  t.true(readFileSync(join(mountpoint, large ?? '')).length > 15 * MiB)
  await imager('unmount', mountpoint)

  // The copy goes, too: what is left is junk.
  const copies = await look(own, newer)
  t.true(lose(lab, copies.shards) >= 4)
  const junk = await imager('restore', old, '--to', lab.path('junk.img'), '--state', own, '--json')
  t.true(['NOT_RESTORABLE', 'CORRUPT'].includes(lastLine<{ code: string }>(junk).code), junk.stdout)
  tried('junk-alone')
})
