/** Storing a source that is written meanwhile: which passes are made over what, and when it is given up. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { systemClock } from '../../../src/base/clock.js'
import { ImagerError } from '../../../src/base/errors.js'
import { MiB } from '../../../src/base/units.js'
import { inspectSource } from '../../../src/disk/source.js'
import type { Moment, StaticView } from '../../../src/disk/view.js'
import type { Pipeline } from '../../../src/jobs/snapshot/pipeline.js'
import { closeStill, openStill, storeStill } from '../../../src/jobs/snapshot/still.js'
import { type BlockSource, scanDisk } from '../../../src/native.js'
import { lacksTools, testWhere } from '../../machine.js'

const test = testWhere(lacksTools('mkfs.ext4', 'debugfs'))
const LARGE = 24 * MiB
const AUTO = { choice: 'auto', quietMs: 1, giveUpMs: 1 } as const

function folderOf(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'imager-still-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** An ext4 image with a small file and a large one. That was changed in the far future, so it is never known to be still. */
function imageIn(folder: string): string {
  const [files, image] = [join(folder, 'files'), join(folder, 'image')]
  mkdirSync(files)
  writeFileSync(join(files, 'large'), randomBytes(LARGE))
  writeFileSync(join(files, 'small'), randomBytes(100_000))
  execFileSync('mkfs.ext4', ['-q', '-b', '4096', '-d', files, image, '64M'], { stdio: 'pipe' })
  const times = ['small ctime 20010203', 'small mtime 20010203', 'large ctime 20370203', 'large mtime 20370203']
  for (const edit of times) execFileSync('debugfs', ['-w', '-R', `sif ${edit}`, image], { stdio: 'pipe' })
  return image
}

interface Behaviour {
  /** Whether each moment held; the last one speaks for all later ones. */
  readonly held: readonly boolean[]
  /** How often `moved` says yes. */
  readonly moves: number
  /** Steps of the copy that one moment leaves time for. */
  readonly steps: number
}

/** A source in use that behaves as it is told. */
class ToldView implements StaticView {
  readonly how = 'told'
  readonly live = true
  readonly flushed = []
  moments = 0
  confirmed = 0
  #moves = 0

  constructor(
    readonly path: string,
    private readonly told: Behaviour,
  ) {}

  async hold<T>(task: (moment: Moment) => Promise<T>): Promise<{ value: T; held: boolean }> {
    const held = this.told.held[Math.min(this.moments++, this.told.held.length - 1)] as boolean
    let steps = 0
    return { value: await task({ open: () => steps++ < this.told.steps, broken: () => false }), held }
  }

  moved(): boolean {
    return this.#moves++ < this.told.moves
  }

  async confirm(): Promise<void> {
    this.confirmed++
  }

  async close(): Promise<void> {}
}

/** What was stored, pass by pass, as `what bytes`. */
class Passes {
  surprises = 0
  readonly stored: [what: string, bytes: number][] = []
  readonly begun: string[] = []

  async storeBlocks(reader: BlockSource, what = 'reading and storing'): Promise<void> {
    this.stored.push([what, reader.totalBytes])
  }

  beginFullPass(): void {
    this.begun.push('everything')
  }

  beginPass(): void {
    this.begun.push('what moved')
  }
}

const store = (folder: string) => ({ clock: systemClock, everything: false, folder, reuse: null })

async function stored(t: ExecutionContext, behaviour: Behaviour, surprises = 0) {
  const folder = folderOf(t)
  const view = new ToldView(imageIn(folder), behaviour)
  const passes = Object.assign(new Passes(), { surprises })
  const still = { view, scan: await scanDisk(view.path, false), taken: Date.now() / 1000 }
  const work = storeStill(still, passes as unknown as Pipeline, store(folder))
  return { view, passes, work }
}

test('what nobody uses is read once, and confirmed', async (t) => {
  const image = imageIn(folderOf(t))
  const parts = { clock: systemClock, signal: new AbortController().signal, needed: [] }
  const still = await openStill(inspectSource(image), AUTO, false, parts)
  const passes = new Passes()
  const { torn } = await storeStill(still, passes as unknown as Pipeline, store(folderOf(t)))
  t.deepEqual([passes.stored.map(([what]) => what), passes.begun, [...torn]], [['reading and storing'], [], []])
  t.true((passes.stored[0]?.[1] ?? 0) > LARGE)
  writeFileSync(image, 'written meanwhile')
  await t.throwsAsync(still.view.confirm(), { code: 'SOURCE_CHANGED' })
  await closeStill(still)
})

test('an empty source is refused', async (t) => {
  const image = join(folderOf(t), 'image')
  writeFileSync(image, '')
  const parts = { clock: systemClock, signal: new AbortController().signal, needed: [] }
  await t.throwsAsync(openStill(inspectSource(image), AUTO, false, parts), { code: 'SOURCE_UNREADABLE' })
})

test('a surprise has everything read', async (t) => {
  const { passes, work } = await stored(t, { held: [true], moves: 0, steps: 9 }, 1)
  await work
  t.deepEqual(passes.begun, ['everything'])
  t.deepEqual(
    passes.stored.map(([what]) => what),
    ['reading and storing', 'reading everything'],
  )
})

test('what moved is stored from a copy of one moment', async (t) => {
  const { view, passes, work } = await stored(t, { held: [true], moves: 9, steps: 9 })
  const { torn } = await work
  t.deepEqual([view.moments, view.confirmed, [...torn]], [1, 1, []])
  const [first, second, ...more] = passes.stored
  t.deepEqual([second?.[0], more], ['storing what changed', []])
  const [all, again] = [first?.[1] ?? 0, second?.[1] ?? 0]
  t.true(again >= LARGE && all - again >= 100_000, 'the small file is not read again')
})

test('a moment that did not hold counts for nothing, and another is tried', async (t) => {
  const { view, passes, work } = await stored(t, { held: [false, false, true], moves: 9, steps: 9 })
  await work
  t.is(view.moments, 3)
  t.deepEqual(passes.begun, ['what moved'])
})

test('a source that never holds still is given up', async (t) => {
  const { view, work } = await stored(t, { held: [false], moves: 99, steps: 9 })
  const error = await t.throwsAsync(work, { code: 'SOURCE_CHANGED', instanceOf: ImagerError })
  t.regex(error?.message ?? '', /never held still/)
  t.is(view.moments, 5)
})

test('what is not copied in any moment is torn; tables may not be', async (t) => {
  const torn = await stored(t, { held: [true], moves: 99, steps: 1 })
  const outcome = await torn.work
  t.is(torn.view.moments, 5)
  t.is(outcome.torn.length, 2, 'one range: of the large file what is behind the first step')
  const bytes = Number(outcome.torn[1])
  t.true(bytes > 0 && bytes < LARGE, `${bytes}`)
  t.is(torn.passes.stored.filter(([what]) => what === 'reading again what changed').length, 5)

  const { work } = await stored(t, { held: [true], moves: 99, steps: 0 })
  const error = await t.throwsAsync(work, { code: 'SOURCE_CHANGED' })
  t.regex(error?.message ?? '', /bytes of its tables moved/)
})

test('what held still since it was read again is not torn', async (t) => {
  // It moves before each of two moments, and no more after them.
  const { view, work } = await stored(t, { held: [true], moves: 2, steps: 1 })
  t.deepEqual([...(await work).torn], [])
  t.deepEqual([view.moments, view.confirmed], [2, 1])
})
