/** Manifests that an appliance in wrong hands may have signed: the walk ends, and names what is wrong. */
import test, { type ExecutionContext } from 'ava'
import { Walk } from '../../../src/jobs/recover/walk.js'
import type { ManifestPage, PageRef } from '../../../src/native.js'
import { TREE } from '../../../src/retrieve/manifest.js'

type Child = [first: number, last: number, birth: number]

interface Top {
  tree: number
  volume: number
  level: number
  birth: number
}

/** Births 1 to 999 are index pages, as `pages` has them; from 1000 on they are leaves. */
function stand(pages: Record<number, Child[]>, tops: Top[], named?: (birth: bigint) => boolean) {
  const refOf = (birth: number) => ({ birth: BigInt(birth) }) as PageRef
  const open = (birth: number) => {
    const children = pages[birth] ?? []
    return {
      keys: () => ({
        firsts: Float64Array.from(children, ([first]) => first),
        lasts: Float64Array.from(children, ([, last]) => last),
      }),
      entry: (at: number) => refOf(children[at]?.[2] ?? 0),
      mapped: () => ({ bytes: 10, pieces: 2 }),
    } as unknown as ManifestPage
  }
  const fetched: number[] = []
  const walk = new Walk({
    manifest: {
      async pages(refs) {
        fetched.push(...refs.map(({ birth }) => Number(birth)))
        return refs.map(({ birth }) => open(Number(birth)))
      },
      locate: async (refs) => ({
        stripes: new Float64Array(refs.length).fill(1),
        offsets: new Uint32Array(refs.length),
        lengths: new Uint32Array(refs.length),
      }),
    },
    references: { addBirth() {}, addPage() {} },
    named: named && ({ has: named } as never),
    findBlocks: async () => 1,
    pagesAtOnce: 128,
    signal: new AbortController().signal,
  })
  const root = { tops: () => tops, top: (at: number) => refOf(tops[at]?.birth ?? 0) } as unknown as ManifestPage
  return { walk, fetched, run: () => walk.below(root, 7n) }
}

const map = (level: number, birth: number): Top => ({ tree: TREE.map, volume: 0, level, birth })
const refuses = async (t: ExecutionContext, { run }: ReturnType<typeof stand>, message: RegExp) =>
  t.throwsAsync(run(), { code: 'FORGED', message })

test('each index page and each map page is fetched once, and counted', async (t) => {
  const s = stand(
    {
      1: [
        [0, 9, 2],
        [10, 19, 3],
      ],
      2: [
        [0, 4, 1000],
        [5, 9, 1001],
      ],
      3: [[12, 19, 1002]],
      4: [
        [5, 8, 1010],
        [8, 8, 1011],
      ],
    },
    [
      map(2, 1),
      { tree: TREE.files, volume: 1, level: 1, birth: 4 },
      { tree: TREE.directories, volume: 1, level: 0, birth: 1020 },
    ],
  )
  await s.run()
  t.deepEqual(s.fetched, [1, 2, 3, 1000, 1001, 1002, 4], 'leaves of files and directories are not fetched')
  t.deepEqual([s.walk.allocatedBytes, s.walk.blocks, s.walk.unplaced], [30, 6, 3])
})

test('a page that names one child a thousand times, in three levels', async (t) => {
  const thousand = (birth: number): Child[] => Array.from({ length: 1000 }, () => [0, 9, birth])
  const s = stand({ 1: thousand(2), 2: thousand(3), 3: thousand(1000) }, [map(3, 1)])
  await refuses(t, s, /out of its order/)
  const ascending = (birth: number): Child[] => Array.from({ length: 1000 }, (_, at) => [at, at, birth])
  const other = stand({ 1: ascending(2), 2: ascending(3), 3: ascending(1000) }, [map(3, 1)])
  await refuses(t, other, /one page twice/)
  t.deepEqual(other.fetched, [1])
})

test('what the bitmap does not name is refused before it is fetched', async (t) => {
  const tree = {
    1: [
      [0, 4, 1000],
      [5, 9, 1001],
    ] as Child[],
  }
  for (const missing of [7n, 1n, 1001n]) {
    const s = stand(tree, [map(1, 1)], (birth) => birth !== missing)
    await refuses(t, s, /not in its head's bitmap/)
    t.false(s.fetched.includes(Number(missing)))
  }
  const leaf = stand(
    { 4: [[5, 8, 1010]] },
    [{ tree: TREE.files, volume: 1, level: 1, birth: 4 }],
    (birth) => birth !== 1010n,
  )
  await refuses(t, leaf, /not in its head's bitmap/)
  await t.notThrowsAsync(stand(tree, [map(1, 1)], () => true).run())
})

test("children lie within their parent's keys, and ascend", async (t) => {
  const below = (...children: Child[]) => stand({ 1: [[10, 19, 2]], 2: children }, [map(2, 1)])
  await t.notThrowsAsync(below([10, 12, 1000], [12, 19, 1001]).run())
  for (const children of [
    [[9, 12, 1000]],
    [[10, 20, 1000]],
    [[12, 11, 1000]],
    [
      [15, 19, 1000],
      [10, 14, 1001],
    ],
    [
      [10, 14, 1000],
      [13, 19, 1001],
    ],
    [[Number.NaN, 12, 1000]],
  ] as Child[][]) {
    await refuses(t, below(...children), /out of its order/)
  }
})

test('two volumes that are copies share pages, which are fetched once; a tree is named once, a page has one level', async (t) => {
  const tree = (volume: number, level: number, birth: number): Top => ({ tree: TREE.directories, volume, level, birth })
  const pages: Record<number, Child[]> = {
    1: [
      [0, 4, 2],
      [5, 9, 3],
    ],
    2: [[0, 4, 1000]],
    3: [[5, 9, 1001]],
  }
  const copies = stand(pages, [tree(1, 2, 1), tree(2, 2, 1)])
  await copies.run()
  t.deepEqual(copies.fetched, [1, 2, 3])
  await refuses(t, stand(pages, [tree(1, 2, 1), tree(1, 2, 1)]), /a tree twice/)
  await refuses(t, stand(pages, [tree(1, 2, 1), tree(2, 3, 1)]), /in two levels/)
  const tops = Array.from({ length: 1000 }, (_, volume) => tree(volume, 2, 1))
  const many = stand(pages, tops)
  await many.run()
  t.is(many.fetched.length, 3)
})
