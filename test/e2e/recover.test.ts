import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { freePort } from '../../src/daemon/address.js'
import { type Fleet, openFleet } from '../../src/daemon/fleet.js'
import type { LabReport } from '../../src/daemon/lab.js'
import type { RecoverReport } from '../../src/jobs/recover.js'
import { openVault } from '../../src/jobs/vault.js'
import { openHome } from '../../src/keys/home.js'
import { Secret } from '../../src/native.js'
import { openSnapshot } from '../../src/retrieve/open.js'
import { StoredSnapshot } from '../../src/retrieve/snapshot.js'
import { eventually } from '../daemon/fleet.js'
import { imager, lastLine, type Outcome, sameDisk, start, TestLab } from './lab.js'

interface Refusal {
  status: string
  code: string
  message: string
  remedy: string
}

async function recover(lab: TestLab, state: string, peer: number, words = lab.lab.wordsFile): Promise<Outcome> {
  const { address } = lab.lab.peers[peer] as LabReport['peers'][number]
  const listen = `127.0.0.1:${await freePort()}`
  const given = ['--words-file', words, '--peer', address, '--listen', listen, '--name', 'spare']
  return imager('recover', ...given, '--state', lab.path(state), '--json')
}

async function withFleet(state: string, work: (fleet: Fleet) => Promise<void>): Promise<void> {
  const fleet = await openFleet(openHome(state))
  try {
    await work(fleet)
  } finally {
    await fleet.close()
  }
}

async function compare(t: ExecutionContext, state: string, snapshot: string, disk: string): Promise<void> {
  await withFleet(state, async ({ home, catalog, peers }) => {
    const { appliance } = await catalog.snapshot(snapshot)
    const vault = openVault(home, appliance)
    await sameDisk(t, disk, new StoredSnapshot(await openSnapshot(snapshot, { home, catalog, peers, vault }), vault))
  })
}

test('appliance, coordinator and two of five peers are gone: the words bring every snapshot back', async (t) => {
  const lab = await TestLab.up(t, 5)
  const disk = lab.makeDisk('disk.img', 48)
  const first = await lab.snapshot(t, disk)
  const second = await lab.snapshot(t, disk)
  await lab.burn()
  for (const peer of lab.lab.peers.slice(0, 2)) await lab.kill(peer.pid)

  const started = performance.now()
  const outcome = await recover(lab, 'new', 4)
  t.log(`recovered in ${Math.round(performance.now() - started)} ms`)
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  const report = lastLine<RecoverReport>(outcome)
  t.is(report.term, 2)
  t.deepEqual(report.peers.reached, ['peer-3', 'peer-4', 'peer-5'])
  t.deepEqual(
    report.peers.missing.map(({ name }) => name),
    ['peer-1', 'peer-2'],
  )
  t.like(report.shards, { damaged: 0, foreign: 0 })
  t.like(report.stripes, { lacking: 0, unreadable: 0 })
  t.deepEqual(
    report.snapshots.map(({ id, survives }) => ({ id, survives })),
    [first, second].map((id) => ({ id, survives: 1 })),
  )
  t.false(existsSync(lab.path('new/found.db')))
  // Without any coordinator running.
  for (const snapshot of [first, second]) await compare(t, lab.path('new'), snapshot, disk)
  await lab.kill(lab.lab.peers[2]?.pid ?? 0)
  await compare(t, lab.path('new'), 'latest', disk)

  const again = await recover(lab, 'new', 4)
  t.is(again.code, 1)
  t.is(lastLine<Refusal>(again).code, 'STATE_EXISTS')
})
