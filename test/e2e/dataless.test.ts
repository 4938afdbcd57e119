/** No block data through the coordinator: every body that passes it during a snapshot and a restore, compared with every shard. */
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import Database from 'better-sqlite3'
import { LocalCatalog } from '../../src/catalog/local.js'
import { serveCoordinator } from '../../src/coordinator/server.js'
import { Traffic } from '../../src/coordinator/traffic.js'
import { openHome } from '../../src/keys/home.js'
import { TestLab } from './lab.js'

const WINDOW = 16

/** Where the content of a shard begins: the header before it names its stripe in clear, as a bitmap does. */
const BODY_OFFSET = 4096

/** Every 16 bytes of what these shards hold, save those that are all alike: misses have zeros. */
function windowsOf(shards: readonly Buffer[]): Set<string> {
  const windows = new Set<string>()
  for (const shard of shards) {
    for (let at = BODY_OFFSET; at + WINDOW <= shard.length; at += WINDOW) {
      const window = shard.subarray(at, at + WINDOW)
      if (window.some((byte) => byte !== window[0])) windows.add(window.toString('latin1'))
    }
  }
  return windows
}

/** Finds any 31 bytes that a body has in common with a shard. */
function carries(body: Buffer, windows: Set<string>): boolean {
  const text = body.toString('latin1')
  for (let at = 0; at + WINDOW <= text.length; at++) if (windows.has(text.slice(at, at + WINDOW))) return true
  return false
}

test('a whole snapshot and restore pass by the coordinator: under 1 % in bytes, and none of a shard', async (t) => {
  // Nobody watches a coordinator of two peers: this one is served without the daemon that has its list cosigned.
  const lab = await TestLab.up(t, 2)
  const { state, pid, address } = lab.lab.coordinator
  await lab.kill(pid)
  const home = openHome(state)
  const catalog = LocalCatalog.openFor(state)
  const traffic = new Traffic()
  const bodies: Buffer[] = []
  const served = await serveCoordinator({
    ...{ home, catalog, listen: address },
    onAnswer(call, received, sent) {
      traffic.add(call, received, sent)
      bodies.push(Buffer.from(received), Buffer.from(sent))
    },
  })
  t.teardown(async () => {
    await served.close()
    catalog.close()
  })
  const disk = lab.makeDisk('disk.img', 96)
  await lab.snapshot(t, disk)
  await lab.restoreLatest(t, disk, 'restored.img')
  t.false('locate' in traffic.byCall, 'what lies where it was first stored is not asked for block by block')
  const db = new Database(join(state, 'catalog', 'catalog.db'))
  db.exec('DELETE FROM record')
  db.close()
  await lab.restoreLatest(t, disk, 'again.img')
  t.true('locate' in traffic.byCall, 'but where the lengths of records are not known')

  const shards = lab.lab.peers.flatMap(({ store }) => {
    const files = readdirSync(join(store, 'shards'), { recursive: true, withFileTypes: true })
    return files.filter((one) => one.isFile()).map((one) => readFileSync(join(one.parentPath, one.name)))
  })
  const storedBytes = shards.reduce((sum, shard) => sum + shard.length, 0)
  t.true(storedBytes > statSync(disk).size / 4)
  const { calls, receivedBytes, sentBytes } = traffic.total
  t.is(calls * 2, bodies.length)
  t.true(['lookup', 'commit', 'finish', 'stripes', 'records'].every((call) => call in traffic.byCall))
  const passed = receivedBytes + sentBytes
  t.log(`${passed} bytes passed in ${calls} calls; the peers hold ${storedBytes}`)
  t.true(passed < storedBytes / 100, JSON.stringify(traffic.byCall))

  const windows = windowsOf(shards)
  t.false(bodies.some((body) => carries(body, windows)))
  const piece = (shards[0] as Buffer).subarray(8009, 8009 + 31)
  t.true(carries(Buffer.concat([randomBytes(50), piece, randomBytes(50)]), windows), 'a piece would be found')
})
