import test from 'ava'
import { Slots } from '../../src/base/queue.js'

test('at most `width` tasks run at once, all run, results stay with their task', async (t) => {
  const slots = new Slots(3)
  let running = 0
  let most = 0
  const task = async (index: number) => {
    most = Math.max(most, ++running)
    await new Promise((resolve) => setTimeout(resolve, index % 3))
    running--
    return index
  }
  const results = await Promise.all(Array.from({ length: 20 }, (_, index) => slots.run(() => task(index))))
  t.deepEqual(results, [...results.keys()])
  t.is(most, 3)
})

test('tasks start in the order they were given', async (t) => {
  const slots = new Slots(1)
  const started: number[] = []
  await Promise.all([0, 1, 2, 3].map((index) => slots.run(async () => started.push(index))))
  t.deepEqual(started, [0, 1, 2, 3])
})

test('a task that fails frees its slot', async (t) => {
  const slots = new Slots(1)
  await t.throwsAsync(slots.run(() => Promise.reject(new Error('no'))))
  t.is(await slots.run(async () => 'next'), 'next')
})
