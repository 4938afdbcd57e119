import test from 'ava'
import { generator } from '../catalog/flips.js'
import { Flipper } from './catalog-flips.js'
import { TestLab } from './lab.js'

const FLIPS = 30

test('after a flipped bit in a real coordinator everything restores, or the line that is said is typed and then it does', async (t) => {
  const { lab, disk } = await TestLab.imaged(t, 3, 8)
  await lab.kill(lab.lab.coordinator.pid)
  const flipper = new Flipper(lab, disk, generator(31))
  t.teardown(() => flipper.end())
  const kinds = { right: 0, healed: 0 }
  for (let flip = 0; flip < FLIPS; flip++) {
    const outcome = await flipper.flip()
    if (outcome.kind === 'WRONG') return t.fail(`flip ${flip}: ${JSON.stringify(outcome)}`)
    kinds[outcome.kind]++
  }
  t.log(kinds)
  t.true(kinds.right > 0 && kinds.healed > 0)
})
