import test from 'ava'
import { generator, makeBase, removeBase, tryFlip } from './flips.js'

const FLIPS = 150

test("one flipped bit in a coordinator's state folder is answered rightly, or named with what to type", async (t) => {
  const base = await makeBase()
  t.teardown(() => removeBase(base))
  const random = generator(Number(process.env.FLIPS_SEED ?? 13))
  const kinds = { right: 0, named: 0 }
  for (let flip = 0; flip < Number(process.env.FLIPS ?? FLIPS); flip++) {
    const outcome = await tryFlip(base, random)
    if (outcome.kind === 'WRONG') t.log(outcome)
    if (outcome.kind === 'WRONG') t.fail(`flip ${flip}: ${outcome.file}`)
    else kinds[outcome.kind]++
  }
  t.log(kinds)
  t.true(kinds.right > 0 && kinds.named > 0)
})
