/** A coordinator that is started anew asks its witnesses first; that costs nobody a backup, and no time that is noticed. */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import test from 'ava'
import { MiB } from '../../src/base/units.js'
import { witnessesOf } from '../../src/keys/checkpoint.js'
import { openHome } from '../../src/keys/home.js'
import { startCoordinator, untilTold } from './coordinator.js'
import { imager, lastLine, TestLab } from './lab.js'

test('after a restart a snapshot waits a moment for the witnesses, also where one of them hangs', async (t) => {
  const lab = await TestLab.up(t, 4)
  const disk = lab.path('disk.img')
  writeFileSync(disk, randomBytes(MiB))
  await lab.snapshot(t, disk)
  const seconds = async () => {
    const began = performance.now()
    await lab.snapshot(t, disk)
    return (performance.now() - began) / 1000
  }
  const usual = await seconds()
  await lab.kill(lab.lab.coordinator.pid)
  const coordinator = startCoordinator(lab)
  t.teardown(() => coordinator.kill())
  t.true(await coordinator.ready, coordinator.said())
  const restarted = await seconds()
  t.log(`a snapshot takes ${usual.toFixed(1)} s, just after a restart ${restarted.toFixed(1)} s`)
  t.true(restarted - usual < 2, `${usual} s, then ${restarted} s`)

  // It accepts connections, and says nothing.
  const named = witnessesOf(openHome(lab.lab.coordinator.state).membership()).map(({ name }) => name)
  const hanging = lab.lab.peers.find(({ name }) => named.includes(name))
  process.kill(hanging?.pid ?? 0, 'SIGSTOP')
  t.teardown(() => process.kill(hanging?.pid ?? 0, 'SIGCONT'))
  await coordinator.kill()
  const again = startCoordinator(lab)
  t.teardown(() => again.kill())
  t.true(await again.ready, again.said())
  const began = performance.now()
  t.true(await untilTold(lab, 'COORDINATOR_READ_ONLY', false))
  const asked = (performance.now() - began) / 1000
  t.log(`with a witness that hangs it may take snapshots after ${asked.toFixed(1)} s`)
  // One that hangs is given up after four.
  t.true(asked < 3, `${asked} s`)
  const stored = await imager('snapshot', disk, '--state', lab.lab.appliance.state, '--json')
  t.not(lastLine<{ code?: string }>(stored).code, 'COORDINATOR_READ_ONLY', stored.stdout)
})
