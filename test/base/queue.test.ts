import test from 'ava'
import { forEachAtOnce, SharedSlots, Slots } from '../../src/base/queue.js'

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

test('who holds his share for long keeps nobody else from theirs', async (t) => {
  const slots = new SharedSlots(3, 2)
  const ends: (() => void)[] = []
  const held = ['a', 'a', 'a'].map((owner) => slots.run(owner, () => new Promise<void>((end) => ends.push(end))))
  t.is(await slots.run('b', async () => 'served'), 'served')
  t.is(ends.length, 2, 'the third of the first owner waits')
  for (const end of ends) end()
  while (ends.length < 3) await new Promise((resolve) => setTimeout(resolve, 1))
  ends[2]?.()
  await Promise.all(held)
  await t.throwsAsync(slots.run('a', () => Promise.reject(new Error('no'))))
  t.is(await slots.run('a', async () => 'next'), 'next')
})

test('items are taken as they are needed, and none after a failure', async (t) => {
  let taken = 0
  let closed = false
  function* items() {
    try {
      for (;;) yield taken++
    } finally {
      closed = true
    }
  }
  const done: number[] = []
  const running = forEachAtOnce(items(), 3, async (item) => {
    await new Promise((resolve) => setTimeout(resolve, 1))
    if (item === 10) throw new Error('ten')
    done.push(item)
  })
  await t.throwsAsync(running, { message: 'ten' })
  t.true(taken <= 13 && closed)
  t.true(done.includes(9))
  const all: number[] = []
  await forEachAtOnce([1, 2, 3], 8, async (item) => void all.push(item))
  t.deepEqual(all, [1, 2, 3])
})
