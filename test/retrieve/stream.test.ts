import test from 'ava'
import fc from 'fast-check'
import { Body } from '../../src/native.js'
import type { Extent, Stream } from '../../src/retrieve/reader.js'
import { planRead, StreamReader } from '../../src/retrieve/stream.js'

const CLUSTER = 16
const UNIT = 4 * CLUSTER

/** A disk whose byte at `a` tells `a`, without zeros. */
const disk = Buffer.from(Array.from({ length: 65_536 }, (_, at) => 1 + ((at * 31 + (at >> 8)) % 255)))

/** A toy compression that shows the whole unit was handed over: the bytes reversed, and the rest zeros. */
function decompress(bytes: Buffer): Buffer {
  return Buffer.from(bytes).reverse()
}

type Shape = { kind: 'plain' | 'unwritten' | 'encrypted' | 'hole' | 'compressed'; clusters: number; disk: number }

/** Streams as parsers make them: each shape fills whole units, compressed ones in one or two parts. */
const streams = fc
  .record({
    shapes: fc.array(
      fc.record({
        kind: fc.constantFrom<Shape['kind'][]>('plain', 'unwritten', 'encrypted', 'hole', 'compressed'),
        clusters: fc.integer({ min: 1, max: 3 }),
        disk: fc.integer({ min: 0, max: 4000 }),
      }),
      { maxLength: 12 },
    ),
    cut: fc.integer({ min: 0, max: UNIT }),
    invalid: fc.integer({ min: 0, max: 3 * UNIT }),
  })
  .map(({ shapes, cut, invalid }): Stream => {
    const extents = shapes.flatMap((shape, index) => extentsOf(shape, index * UNIT))
    const size = Math.max(0, shapes.length * UNIT - cut)
    return { name: '', size, valid: Math.max(0, size - invalid), resident: null, extents }
  })

function extentsOf({ kind, clusters, disk }: Shape, logical: number): Extent[] {
  const at = disk * CLUSTER
  if (kind === 'hole') return []
  if (kind !== 'compressed') return [{ kind, rawLength: 0, logical, disk: at, length: clusters * CLUSTER }]
  const part = (skip: number, disk: number, length: number): Extent => ({
    kind,
    rawLength: UNIT,
    logical: logical + skip,
    disk,
    length,
  })
  if (clusters === 1) return [part(0, at, CLUSTER)]
  return [part(0, at, CLUSTER), part(CLUSTER, (at + 7 * CLUSTER) % 32_768, (clusters - 1) * CLUSTER)]
}

/** The whole stream, the slow and obvious way. */
function naive(stream: Stream): Buffer {
  const whole = Buffer.alloc(Math.ceil(stream.size / UNIT) * UNIT + 4 * UNIT)
  if (stream.resident) stream.resident.copy(whole)
  const units = new Map<number, Buffer[]>()
  for (const { kind, logical, disk: at, length } of stream.extents) {
    const bytes = disk.subarray(at, at + length)
    if (kind === 'compressed') {
      const unit = Math.floor(logical / UNIT)
      units.set(unit, [...(units.get(unit) ?? []), bytes])
    } else if (kind !== 'unwritten') bytes.copy(whole, logical)
  }
  for (const [unit, parts] of units) decompress(Buffer.concat(parts)).copy(whole, unit * UNIT)
  whole.fill(0, stream.valid)
  return whole.subarray(0, stream.size)
}

const reader = new StreamReader(
  { readDisk: async (offset, length) => new Body(disk.subarray(offset, offset + length)) },
  decompress,
)

test('any range of any stream equals the naive model', async (t) => {
  await fc.assert(
    fc.asyncProperty(streams, fc.nat(16 * UNIT), fc.nat(16 * UNIT), async (stream, offset, length) => {
      const wanted = naive(stream).subarray(offset, offset + length)
      return wanted.equals(await reader.read(stream, offset, length))
    }),
    { numRuns: 2000 },
  )
  t.pass()
})

test('a resident stream comes from memory, with zeros past its valid length', async (t) => {
  const stream = { name: '', size: 10, valid: 4, resident: Buffer.from('abcdefghij'), extents: [] }
  t.deepEqual(await reader.read(stream, 2, 100), Buffer.from('cd\0\0\0\0\0\0'))
  t.deepEqual(await reader.read(stream, 10, 5), Buffer.alloc(0))
  t.deepEqual(await reader.read(stream, 1000, 5), Buffer.alloc(0))
})

test('the plan is merged: neighbours on the disk are one read, zeros one piece', (t) => {
  const plain = { kind: 'plain' as const, rawLength: 0 }
  const stream: Stream = {
    name: '',
    size: 400,
    valid: 400,
    resident: null,
    extents: [
      { ...plain, logical: 0, disk: 1000, length: 100 },
      { ...plain, logical: 100, disk: 1100, length: 100 },
      { ...plain, kind: 'unwritten', logical: 200, disk: 1200, length: 50 },
    ],
  }
  t.deepEqual(planRead(stream, 50, 1000), [
    { kind: 'disk', disk: 1050, length: 150 },
    { kind: 'zeros', length: 200 },
  ])
})

test('a large fragmented file is found by halving, not by walking', (t) => {
  const extents = Array.from({ length: 200_000 }, (_, index) => ({
    kind: 'plain' as const,
    rawLength: 0,
    logical: index * 4096,
    length: 4096,
    disk: (200_000 - index) * 8192,
  }))
  let looks = 0
  const look = (all: typeof extents, key: string | symbol): unknown => {
    looks++
    return Reflect.get(all, key)
  }
  const counted = new Proxy(extents, { get: look })
  const stream = { name: '', size: 200_000 * 4096, valid: 200_000 * 4096, resident: null, extents: counted }
  for (let index = 0; index < 10_000; index++) planRead(stream, index * 80_000, 4096)
  // Halving 200,000 takes 18 looks, each at an extent and perhaps at how many there are.
  t.true(looks / 10_000 < 60, `${looks / 10_000} looks a plan`)
})

test('extents that overlap, which no parser of ours makes, neither loop nor give too much', (t) => {
  const plain = { kind: 'plain' as const, rawLength: 0 }
  const extents = [
    { ...plain, logical: 0, disk: 0, length: 300 },
    { ...plain, logical: 100, disk: 1000, length: 100 },
    { ...plain, logical: 250, disk: 2000, length: 100 },
  ]
  const pieces = planRead({ name: '', size: 400, valid: 400, resident: null, extents }, 0, 400)
  t.is(
    pieces.reduce((sum, { length }) => sum + length, 0),
    400,
  )
  t.true(pieces.every(({ length }) => length > 0))
})

test('a failing or short read fails the range; nothing is filled in', async (t) => {
  const extents = [{ kind: 'plain' as const, rawLength: 0, logical: 0, disk: 0, length: 64 }]
  const stream = { name: '', size: 128, valid: 128, resident: null, extents }
  const failing = new StreamReader({ readDisk: () => Promise.reject(new Error('gone')) }, decompress)
  await t.throwsAsync(failing.read(stream, 0, 128), { message: 'gone' })
  const short = new StreamReader({ readDisk: async (_, length) => new Body(Buffer.alloc(length - 1)) }, decompress)
  await t.throwsAsync(short.read(stream, 0, 128), { code: 'CORRUPT' })
})

test('a unit that claims too much is refused before anything is allocated for it', async (t) => {
  const huge = { kind: 'compressed' as const, rawLength: 2 ** 40, logical: 0, disk: 0, length: 16 }
  const stream = { name: '', size: 2 ** 40, valid: 2 ** 40, resident: null, extents: [huge] }
  await t.throwsAsync(reader.read(stream, 0, 16), { code: 'CORRUPT' })
  const fat = { ...huge, rawLength: 16, length: 32 }
  await t.throwsAsync(reader.read({ ...stream, size: 16, valid: 16, extents: [fat] }, 0, 16), { code: 'CORRUPT' })
})

test('a fragmented range has a bounded number of reads under way', async (t) => {
  const extents = Array.from({ length: 256 }, (_, index) => ({
    kind: 'plain' as const,
    rawLength: 0,
    logical: index * 16,
    length: 16,
    disk: (256 - index) * 32,
  }))
  let now = 0
  let most = 0
  const counting = new StreamReader(
    {
      readDisk: async (offset, length) => {
        most = Math.max(most, ++now)
        await new Promise((resolve) => setImmediate(resolve))
        now--
        return new Body(disk.subarray(offset, offset + length))
      },
    },
    decompress,
  )
  const stream = { name: '', size: 4096, valid: 4096, resident: null, extents }
  t.deepEqual(await counting.read(stream, 0, 4096), naive(stream))
  t.true(most <= 16)
})

test('a packed extent gives its part of what it unpacks to', async (t) => {
  const codecs: number[] = []
  const unpacking = new StreamReader(
    { readDisk: async (offset, length) => new Body(disk.subarray(offset, offset + length)) },
    (bytes, rawLength, codec) => {
      codecs.push(codec)
      return Buffer.concat([bytes, Buffer.alloc(rawLength - bytes.length, 7)])
    },
  )
  const packed = { kind: 'packed', rawLength: 128, codec: 3, rawOffset: 16, used: 64 } as const
  const extents: Extent[] = [
    { kind: 'plain', rawLength: 0, logical: 0, length: 16, disk: 900 },
    { ...packed, logical: 16, length: 32, disk: 100 },
    { kind: 'plain', rawLength: 0, logical: 96, length: 16, disk: 950 },
  ]
  const stream = { name: '', size: 112, valid: 112, resident: null, extents }
  const wanted = Buffer.concat([
    disk.subarray(900, 916),
    disk.subarray(116, 132),
    Buffer.alloc(48, 7),
    Buffer.alloc(16),
    disk.subarray(950, 966),
  ])
  t.deepEqual(await unpacking.read(stream, 0, 112), wanted)
  t.deepEqual(await unpacking.read(stream, 20, 60), wanted.subarray(20, 80))
  t.deepEqual(codecs, [3, 3])
})
