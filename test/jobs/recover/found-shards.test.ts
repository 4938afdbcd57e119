import { existsSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { type FoundShard, FoundShards } from '../../../src/jobs/recover/found-shards.js'
import { Runs, type StripeFacts } from '../../../src/native.js'
import { numberOf, runName, shardOf } from '../../../src/stripes/names.js'
import { hex, temporaryFolder } from '../../catalog/harness.js'

test('shards come back as stripes, one of each index; what its writer described in two ways stays apart', (t) => {
  const folder = temporaryFolder()
  t.teardown(() => folder.remove())
  const path = join(folder.path, 'found.db')
  const [writer, other, ...hosts] = [hex(32), hex(32), hex(32), hex(32), hex(32)] as [string, string, ...string[]]
  const describe = (number: number, by = writer): StripeFacts => ({
    ...{ fleet: hex(16), writer: by, run: runName(by, '0123456789abcdef'), number, k: 2, m: 1 },
    ...{ packBytes: 1000 * number, trailer: hex(32), roots: [hex(32), hex(32), hex(32)], identity: hex(32) },
  })
  const [three, seven, twin, theirs] = [describe(3), describe(7), describe(3), describe(3, other)]
  const at = (facts: StripeFacts, index: number, host = hosts[index]): FoundShard => {
    return { facts, index, host: host as string }
  }
  const found = new FoundShards(path, new Runs())
  found.add([at(seven, 2), at(three, 0), at(seven, 0)])
  found.add([at(three, 1), at(seven, 0, hosts[1]), at(twin, 0), at(theirs, 1)])
  t.is(found.totalPackBytes, 7000 + 3 * 3000)
  const stripes = [...found.stripes()]
  t.deepEqual(
    stripes.map(({ stripe, facts, shards }) => [numberOf(stripe), facts, shards.map(({ index }) => index)]),
    [
      [3, three, [0, 1]],
      [3, twin, [0]],
      [7, seven, [0, 2]],
      [3, theirs, [1]],
    ],
  )
  t.is(stripes[0]?.stripe, stripes[1]?.stripe)
  t.not(stripes[0]?.stripe, stripes[3]?.stripe)
  const [first] = stripes[2]?.shards ?? []
  t.deepEqual(first, {
    ...{ index: 0, host: hosts[0] as string, shard: shardOf(seven.run, 7, 0), root: seven.roots[0] as string },
  })
  // Left in the middle, and begun anew by the next one.
  const some = found.stripes()
  some.next()
  some.return(undefined)
  found.close()
  t.false(existsSync(path))
  t.deepEqual([...new FoundShards(path, new Runs()).stripes()], [])
})
