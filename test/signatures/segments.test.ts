import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { openDatabase } from '../../src/catalog/schema.js'
import { dueMerge, SegmentRepository } from '../../src/signatures/segments.js'
import { idOf, recordsOf, temporaryFolder } from '../catalog/harness.js'

/** A segment every two batches. */
const BATCH = 100
const OPTIONS = { youngRows: 2 * BATCH }

const content = (stripe: number): Buffer =>
  Buffer.concat(Array.from({ length: BATCH }, (_, i) => idOf(`${stripe} ${i}`)))

function open(folder: string) {
  const db = openDatabase(join(folder, 'catalog.db'))
  const repository = new SegmentRepository(db, folder, (why, path) => db.guard.damaged(why, path), OPTIONS)
  return {
    repository,
    async insert(stripe: number) {
      db.transaction(() => repository.insert([{ stripe, records: recordsOf(content(stripe)) }])).immediate()
      await repository.settle()
    },
    listed: () => db.prepare<[], number>('SELECT n FROM segment ORDER BY n').pluck().all(),
    young: () => db.prepare<[], number>('SELECT count(*) FROM young').pluck().get() as number,
    db,
    close() {
      repository.close()
      db.close()
    },
  }
}

function place(t: ExecutionContext): string {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  return folder.path
}

async function holdsAll(t: ExecutionContext, repository: SegmentRepository, stripes: number): Promise<void> {
  for (let stripe = 1; stripe <= stripes; stripe++) {
    const { births, stripes: found, offsets } = await repository.find(content(stripe), () => 0)
    t.deepEqual(
      [...births],
      Array.from({ length: BATCH }, (_, i) => BigInt(stripe * 65_536 + i)),
    )
    t.true(found.every((number) => number === stripe))
    t.deepEqual([...offsets.subarray(0, 3)], [16, 106, 196])
  }
  const unknown = await repository.find(content(stripes + 1), () => 0)
  t.true(unknown.births.every((birth) => birth === 0n))
}

async function quiet(work: () => boolean): Promise<void> {
  for (let tries = 0; !work() && tries < 1000; tries++) await sleep(10)
}

test('rows are found while they are young, in segments, in merged ones, and after opening anew', async (t) => {
  const folder = place(t)
  const first = open(folder)
  for (let stripe = 1; stripe <= 40; stripe++) await first.insert(stripe)
  await holdsAll(t, first.repository, 40)
  await quiet(() => first.listed().length < 8 && (first.listed().at(-1) ?? 0) > 8)
  t.true(first.listed().length < 8 && (first.listed().at(-1) ?? 0) > 8, 'segments were merged')
  t.true(first.young() < 6, 'what is in segments left the log')
  await holdsAll(t, first.repository, 40)
  first.close()
  const second = open(folder)
  await holdsAll(t, second.repository, 40)
  second.close()
})

test('of several places that of the highest rank is taken, and none below zero', async (t) => {
  const { repository, db, close } = open(place(t))
  for (const stripe of [5, 6, 7, 8]) {
    db.transaction(() => repository.insert([{ stripe, records: recordsOf(content(1)) }])).immediate()
    await repository.settle()
  }
  const ranked = async (ranks: Record<number, number>) => {
    const { stripes } = await repository.find(content(1), (stripe) => ranks[stripe] ?? -1)
    return new Set(stripes)
  }
  t.deepEqual(await ranked({ 5: 0, 6: 2, 7: 1 }), new Set([6]))
  t.deepEqual(await ranked({ 8: 0 }), new Set([8]))
  t.deepEqual(await ranked({}), new Set([0]))
  close()
})

test('what a transaction took back is not found', async (t) => {
  const { repository, db, close } = open(place(t))
  const failing = db.transaction(() => {
    repository.insert([{ stripe: 1, records: recordsOf(content(1)) }])
    throw new Error('taken back')
  })
  t.throws(() => failing.immediate(), { message: 'taken back' })
  await repository.settle()
  const { births } = await repository.find(content(1), () => 0)
  t.true(births.every((birth) => birth === 0n))
  close()
})

test('two processes on one folder: either makes segments, both find everything', async (t) => {
  const folder = place(t)
  const [one, two] = [open(folder), open(folder)]
  for (let stripe = 1; stripe <= 40; stripe++) await (stripe % 3 === 0 ? one : two).insert(stripe)
  await holdsAll(t, one.repository, 40)
  await holdsAll(t, two.repository, 40)
  one.close()
  two.close()
})

test('files that no transaction listed are removed, and a damaged segment is named', async (t) => {
  const folder = place(t)
  const first = open(folder)
  for (let stripe = 1; stripe <= 4; stripe++) await first.insert(stripe)
  await quiet(() => first.listed().length > 0)
  const [n] = first.listed()
  first.close()
  const signatures = join(folder, 'signatures')
  const stray = join(signatures, '77.seg')
  writeFileSync(stray, 'half a segment')
  const again = open(folder)
  t.false(readdirSync(signatures).includes('77.seg'))
  await holdsAll(t, again.repository, 4)
  again.close()
  const path = join(signatures, `${n}.seg`)
  const bytes = readFileSync(path)
  bytes[bytes.length - 1] = (bytes.at(-1) as number) ^ 1
  writeFileSync(path, bytes)
  const damaged = open(folder)
  t.teardown(() => damaged.close())
  // What the other rows answer stays right; what is not found may lie in the damaged file.
  const young = await damaged.repository.find(content(4), () => 0)
  t.true(young.births.every((birth) => birth > 0))
  const named = { code: 'STATE_DAMAGED', message: new RegExp(`${n}\\.seg`) }
  await t.throwsAsync(
    damaged.repository.find(content(1), () => 0),
    named,
  )
})

test('eight segments of a class are merged, and never with a larger one', (t) => {
  const segments = (sizes: number[]) => sizes.map((rows, i) => ({ n: i + 1, rows }))
  const due = (sizes: number[]) => dueMerge(segments(sizes), 100).map(({ rows }) => rows)
  t.deepEqual(due([5000, 110, 120, 130, 140, 150, 160, 170]), [])
  t.deepEqual(due([5000, 110, 120, 130, 140, 150, 160, 170, 90]), [110, 120, 130, 140, 150, 160, 170, 90])
  t.deepEqual(due([...Array<number>(8).fill(900), ...Array<number>(8).fill(150)]), Array(8).fill(150))
  t.deepEqual(due(Array<number>(8).fill(900)), Array(8).fill(900))
})
