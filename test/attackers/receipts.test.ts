/** A coordinator that calls protected what no host has signed: who relies on it finds out, and the hosts sign it anew. */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { openDatabase } from '../../src/catalog/schema.js'
import type { StatusReport } from '../../src/fleet/status.js'
import type { SnapshotReport } from '../../src/jobs/snapshot/snapshot.js'
import { imager, lastLine, TestLab } from '../e2e/lab.js'
import { attacking } from './attacks.js'
import { joinAs } from './hands.js'

/** In the catalog of a coordinator that goes on. */
function write({ lab }: TestLab, sql: string): number {
  const db = openDatabase(join(lab.coordinator.state, 'catalog', 'catalog.db'))
  try {
    return db.prepare(sql).run().changes
  } finally {
    db.close()
  }
}

test('what a coordinator calls protected, and no host has signed, is sealed for whoever relies on it', async (t) => {
  const tried = attacking(t)
  const { lab, disk } = await TestLab.imaged(t, 3, 8)
  const second = await joinAs(lab, 'appliance', 'second')
  const run = () => imager('snapshot', disk, '--state', second, '--json')
  t.true(write(lab, `UPDATE shard SET receipt = CAST(substr(receipt, 1, 72) || zeroblob(64) AS BLOB)`) > 0)
  const sealed = await run()
  t.is(sealed.code, 4, sealed.stdout + sealed.stderr)
  const report = lastLine<SnapshotReport>(sealed)
  t.like(report, { state: 'sealed', survives: 1, target: 1, cosigned: true })
  t.true(report.receipted < 1)
  t.regex(
    report.notes.join(),
    /the coordinator calls it protected, and shows no receipts for that of \d+ of \d+ stripes/,
  )
  tried('receipts-forged')

  write(lab, 'UPDATE shard SET receipt = NULL')
  write(lab, `UPDATE stripe SET unsigned = holders`)
  write(lab, 'UPDATE snapshot SET figure = NULL')
  let seen: StatusReport | undefined
  for (let tries = 0; tries < 100 && !seen?.safe; tries++) {
    await sleep(200)
    seen = lastLine<StatusReport>(await imager('status', '--json', '--state', lab.lab.coordinator.state))
  }
  t.true(seen?.safe, JSON.stringify(seen?.problems))
  const signed = await run()
  t.is(signed.code, 0, signed.stdout + signed.stderr)
  t.like(lastLine(signed), { state: 'protected', receipted: 1 })
})
