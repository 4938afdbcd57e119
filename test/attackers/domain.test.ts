/**
 * The key of the dedupe domain is changed when a server that had it is removed: new blocks are sealed under another key, old ones stay
 * readable, and the folder of who was removed cannot tell whether a newer block is stored. Real processes.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { cpSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { KiB } from '../../src/base/units.js'
import { LocalCatalog } from '../../src/catalog/local.js'
import type { StatusReport } from '../../src/fleet/status.js'
import type { RecoverReport } from '../../src/jobs/recover/recover.js'
import type { SnapshotReport } from '../../src/jobs/snapshot/snapshot.js'
import { type Home, openHome } from '../../src/keys/home.js'
import { openVault } from '../../src/keys/vault.js'
import { scanDisk } from '../../src/native.js'
import { firstDifference } from '../e2e/disks.js'
import { imager, lastLine, TestLab } from '../e2e/lab.js'
import { freePort } from '../free-port.js'
import { attacking } from './attacks.js'

const BLOCK = 64 * KiB

async function done(t: ExecutionContext, ...argv: string[]) {
  const outcome = await imager(...argv, '--json')
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  return outcome
}

async function join(t: ExecutionContext, lab: TestLab, name: string): Promise<string> {
  const { token } = lastLine<{ token: string }>(
    await done(t, 'invite', '--role', 'appliance', '--state', lab.lab.coordinator.state),
  )
  const [file, state] = [lab.path(`${name}.token`), lab.path(name)]
  writeFileSync(file, token, { mode: 0o600 })
  await done(t, 'join', '--token-file', file, '--state', state, '--name', name)
  return state
}

async function snapshot(t: ExecutionContext, state: string, disk: string, ...more: string[]): Promise<SnapshotReport> {
  return lastLine<SnapshotReport>(await done(t, 'snapshot', disk, '--state', state, ...more))
}

/** Into the file system on a disk that is not mounted. */
function addFile(lab: TestLab, disk: string, name: string, bytes: Buffer): void {
  const path = lab.path(name)
  writeFileSync(path, bytes)
  execFileSync('debugfs', ['-w', '-R', `write ${path} ${name}`, disk], { stdio: 'pipe' })
}

/** For whom there is a block of these bytes: with the keys of a state folder, asked of the coordinator's own catalog. */
async function finds(home: Home, catalog: LocalCatalog, plain: string): Promise<boolean> {
  const scan = await scanDisk(plain, true, [])
  const batch = scan.reader().next()
  if (!batch) throw new Error('it has a block')
  const vault = openVault(home, 'f0'.repeat(16))
  await batch.prepare(vault)
  const ids = [batch.ids()]
  const none = new BigUint64Array(1)
  for (let domain = 0; domain < vault.olderDomains; domain++) ids.push(await batch.olderIds(vault, domain, none))
  scan.close()
  const { lease } = await catalog.begin({ appliance: home.host, volume: 'f0'.repeat(16), source: 'guess', label: '' })
  const births = await Promise.all(ids.map((id) => catalog.lookup(lease, id, 1)))
  await catalog.abandon(lease, 'INTERRUPTED')
  return births.some(([birth]) => birth !== 0n)
}

test('after a server was removed new blocks are under another key: it cannot test guesses on them, and all restores, with the words too', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 4)
  const { coordinator, appliance, peers, wordsFile } = lab.lab
  const [disk, other] = [lab.makeDisk('disk.img', 12), lab.path('other.img')]
  const guesses = { old: randomBytes(BLOCK), newer: randomBytes(BLOCK) }
  addFile(lab, disk, 'old', guesses.old)
  cpSync(disk, other)
  await snapshot(t, appliance.state, disk)
  const two = await join(t, lab, 'two')
  const taken: { id: string; copy: string }[] = []
  const keep = async (state: string, ...more: string[]) => {
    const report = await snapshot(t, state, other, ...more)
    const copy = lab.path(`copy-${taken.length}.img`)
    cpSync(other, copy)
    taken.push({ id: report.snapshot, copy })
    return report
  }
  // What changed within two seconds before a snapshot is read again with the next.
  await sleep(3_000)
  const before = await keep(two)
  t.true(before.newBytes < BLOCK, `both had it: ${before.newBytes}`)
  const kept = lab.path('kept')
  cpSync(appliance.state, kept, { recursive: true })

  await done(t, 'remove', 'appliance', '--force', '--state', coordinator.state)
  addFile(lab, other, 'newer', guesses.newer)
  const after = await keep(two)
  t.true(after.readBytes < before.readBytes, `unchanged files are taken over: ${after.readBytes}`)
  t.true(after.newBytes >= BLOCK && after.newBytes < 8 * BLOCK, `what changed: ${after.newBytes}`)
  const full = await keep(two, '--full-read')
  t.true(full.newBytes < 2 * BLOCK, `read again, it is found under the older key: ${full.newBytes}`)
  const [first, second] = openHome(two)
    .domainKeys.map((key) => key.id().toString('hex'))
    .reverse()
  t.deepEqual(
    openHome(kept).domainKeys.map((key) => key.id().toString('hex')),
    [first],
  )
  t.truthy(second)

  // All that the removed one has is asked of the whole catalog.
  const plain = (name: keyof typeof guesses) => {
    const path = lab.path(`guess-${name}`)
    writeFileSync(path, guesses[name])
    return path
  }
  const catalog = LocalCatalog.openFor(coordinator.state)
  t.teardown(() => catalog.close())
  const [removed, member] = [openHome(kept), openHome(two)]
  t.true(await finds(member, catalog, plain('newer')), 'it is stored')
  t.false(await finds(removed, catalog, plain('newer')), 'and not to be found with what the removed one has')
  t.true(await finds(removed, catalog, plain('old')), 'what was stored before is')
  tried('removed-guesses')

  // Who joins now has the newest key alone: what is older it stores once more, and that is said.
  const three = await join(t, lab, 'three')
  const again = await keep(three)
  t.true(again.newBytes > before.allocatedBytes / 4 && again.newBytes < before.allocatedBytes, `${again.newBytes}`)
  t.deepEqual(
    openHome(three).domainKeys.map((key) => key.id().toString('hex')),
    [second],
  )
  const { domainChange } = lastLine<StatusReport>(await imager('status', '--state', coordinator.state, '--json'))
  t.like(domainChange, { older: 2, twiceBytes: again.newBytes, twiceBy: ['three'] })
  await done(t, 'check', '--read-data', '--state', two)
  const listed = await done(t, 'ls', taken[1]?.id ?? '', '/0', '--state', two)
  t.regex(listed.stdout, /newer/)

  // A second change: who took as many keys as it may today goes on under the last.
  await done(t, 'remove', 'three', '--force', '--state', coordinator.state)
  const late = await keep(two)
  t.regex(late.notes.join('\n'), /under the former key/)
  const four = await join(t, lab, 'four')
  await keep(four)
  t.is(
    new Set([...openHome(four).domainKeys, ...openHome(two).domainKeys].map((key) => key.id().toString('hex'))).size,
    3,
  )

  const target = lab.path('target.img')
  const restores = async (state: string, { id, copy }: { id: string; copy: string }) => {
    for (const path of [target, `${target}.imager-restore`]) rmSync(path, { force: true })
    await done(t, 'restore', id, '--to', target, '--state', state)
    t.is(firstDifference(copy, target), undefined, copy)
  }
  for (const one of taken.slice(0, 3)) await restores(two, one)

  // Coordinator and servers burn: the words and the peers.
  catalog.close()
  await lab.burn()
  for (const state of [two, three, four]) rmSync(state, { recursive: true })
  const fresh = lab.path('fresh')
  const at = ['--peer', peers[0]?.address ?? '', '--listen', `127.0.0.1:${await freePort()}`, '--name', 'spare']
  const recovered = await done(t, 'recover', '--words-file', wordsFile, ...at, '--state', fresh)
  t.deepEqual(lastLine<RecoverReport>(recovered).unreadable, [])
  for (const one of taken) await restores(fresh, one)
  t.is(openHome(fresh).domainEntry?.key, openHome(fresh).domainKey?.id().toString('hex'))
  t.false([first, second].includes(openHome(fresh).domainEntry?.key), 'new hosts are given the last one')
})
