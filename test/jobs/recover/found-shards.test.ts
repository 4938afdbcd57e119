import { existsSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { type FoundShard, FoundShards } from '../../../src/jobs/recover/found-shards.js'
import { hex, temporaryFolder } from '../../catalog/harness.js'

test('shards come back as stripes, one of each index; two shapes under one number stay apart', (t) => {
  const folder = temporaryFolder()
  t.teardown(() => folder.remove())
  const path = join(folder.path, 'found.db')
  const [writer, rogue, ...hosts] = [hex(32), hex(32), hex(32), hex(32), hex(32)]
  const at = (stripe: number, index: number, more: Partial<FoundShard> = {}): FoundShard => ({
    ...{ stripe, index, k: 2, m: 1, packBytes: 1000 * stripe, writer: writer as string },
    ...{ host: hosts[index] as string, shard: hex(16), root: hex(32), ...more },
  })
  const found = new FoundShards(path)
  const first = [at(7, 2), at(3, 0), at(7, 0)]
  found.add(first)
  found.add([at(3, 1), at(7, 0, { host: hosts[1] as string }), at(3, 0, { writer: rogue as string })])
  t.is(found.totalPackBytes, 7000 + 3000 + 3000)
  const stripes = [...found.stripes()]
  t.deepEqual(
    stripes.map(({ stripe, writer: by, shards }) => [stripe, by === writer, shards.map(({ index }) => index)]),
    [
      [3, true, [0, 1]],
      [3, false, [0]],
      [7, true, [0, 2]],
    ],
  )
  t.is(stripes[2]?.shards[0]?.shard, first[2]?.shard, 'of two copies the first')
  t.is(stripes[0]?.shards[0]?.root, first[1]?.root)
  // Left in the middle, and begun anew by the next one.
  const some = found.stripes()
  some.next()
  some.return(undefined)
  found.close()
  t.false(existsSync(path))
  t.deepEqual([...new FoundShards(path).stripes()], [])
})
