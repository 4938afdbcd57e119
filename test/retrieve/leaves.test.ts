/** Leaves of a tree that lies in memory: what is fetched, what is shared, what is kept, and what one lost page costs. */
import test from 'ava'
import type { ManifestPage, PageRef } from '../../src/native.js'
import { Leaves, PageCache } from '../../src/retrieve/leaves.js'

const PAGE_BYTES = 1000
const NUMBERS = 256

/** A page that says which it is. */
interface Numbered {
  readonly birth: number
}

/** A tree of one index page over `leaves` leaves of 256 numbers each; the birth of leaf `n` is `n + 1000`. */
class MemoryTree {
  /** The births of each fetch. */
  readonly fetches: number[][] = []
  readonly lost = new Set<number>()
  readonly #leaves: number

  constructor(leaves: number) {
    this.#leaves = leaves
  }

  async pages(refs: readonly PageRef[]): Promise<ManifestPage[]> {
    const births = refs.map((ref) => (ref as unknown as Numbered).birth)
    this.fetches.push(births)
    await new Promise((resolve) => setImmediate(resolve))
    if (births.some((birth) => this.lost.has(birth))) throw new Error('lost')
    return births.map((birth) => this.#page(birth) as unknown as ManifestPage)
  }

  open(kept: PageCache): Leaves {
    return new Leaves(this, { top: { birth: 1 } as unknown as PageRef, level: 1 }, 'tree', kept)
  }

  #page(birth: number): unknown {
    const each = (value: (at: number) => number) => Float64Array.from({ length: this.#leaves }, (_, at) => value(at))
    const keys = () => ({
      firsts: each((at) => at * NUMBERS),
      // The last number of leaf 3 goes on in leaf 4.
      lasts: each((at) => (at === 3 ? 4 * NUMBERS : at * NUMBERS + NUMBERS - 1)),
      births: each((at) => at + 1000),
    })
    return { birth, memoryBytes: PAGE_BYTES, keys, entry: (at: number): Numbered => ({ birth: at + 1000 }) }
  }
}

async function birthsOf(tree: Leaves, ...numbers: number[]): Promise<number[]> {
  const pages = await Promise.all((await tree.of(numbers)).map((leaf) => tree.page(leaf)))
  return pages.map((page) => (page as unknown as Numbered).birth)
}

test('a number leads to its leaf, or to both that it lies in; beyond the last there is none', async (t) => {
  const tree = new MemoryTree(10).open(new PageCache(1e9))
  t.deepEqual(await birthsOf(tree, 0), [1000])
  t.deepEqual(await birthsOf(tree, 255), [1000])
  t.deepEqual(await birthsOf(tree, 256), [1001])
  t.deepEqual(await birthsOf(tree, 4 * NUMBERS), [1003, 1004])
  t.deepEqual(await birthsOf(tree, 10 * NUMBERS), [])
  t.deepEqual(await birthsOf(tree), [])
  t.deepEqual(
    await birthsOf(tree, 1, 2, 3 * NUMBERS, 4 * NUMBERS, 4 * NUMBERS + 1, 9 * NUMBERS),
    [1000, 1003, 1004, 1009],
  )
})

test('without a tree there is nothing', async (t) => {
  const tree = new Leaves(new MemoryTree(1), undefined, 'tree', new PageCache(1e9))
  t.deepEqual(await tree.of([0]), [])
})

test('what lies around a leaf comes with it, and is fetched once for all who wait', async (t) => {
  const memory = new MemoryTree(100)
  const tree = memory.open(new PageCache(1e9))
  await Promise.all([birthsOf(tree, 3000), birthsOf(tree, 5), birthsOf(tree, 0)])
  for (let number = 0; number < 100 * NUMBERS; number += 100) await birthsOf(tree, number)
  const fetched = memory.fetches.flat()
  t.is(new Set(fetched).size, fetched.length)
  t.is(fetched.length, 101)
  t.true(memory.fetches.length <= 6, `${memory.fetches.length} fetches`)
})

test('large leaves come in short runs, so that what came ahead is still there', async (t) => {
  const memory = new MemoryTree(200)
  const tree = memory.open(new PageCache(16 * PAGE_BYTES))
  for (let number = 0; number < 200 * NUMBERS; number += 100) await birthsOf(tree, number)
  t.is(memory.fetches.flat().length, 201)
  t.true(memory.fetches.every((births) => births.length <= 2))
})

test('a page that cannot be had hides neither its neighbours nor itself for good', async (t) => {
  const memory = new MemoryTree(10)
  const tree = memory.open(new PageCache(1e9))
  memory.lost.add(1002)
  t.deepEqual(await birthsOf(tree, 0), [1000])
  t.deepEqual(await birthsOf(tree, 3 * NUMBERS), [1003])
  await t.throwsAsync(birthsOf(tree, 2 * NUMBERS), { message: 'lost' })
  memory.lost.clear()
  t.deepEqual(await birthsOf(tree, 2 * NUMBERS), [1002])
})

test('what is kept is bounded by what pages hold; what was used last stays', async (t) => {
  const memory = new MemoryTree(1000)
  const tree = memory.open(new PageCache(128 * PAGE_BYTES))
  for (let number = 0; number < 1000 * NUMBERS; number += NUMBERS) {
    await birthsOf(tree, number)
    await birthsOf(tree, 0)
  }
  t.true(memory.fetches.length < 80)
  const before = memory.fetches.length
  await birthsOf(tree, 0)
  t.is(memory.fetches.length, before, 'the first was asked for again and again')
  await birthsOf(tree, 500 * NUMBERS)
  t.true(memory.fetches.length > before, 'the middle was let go')
})
