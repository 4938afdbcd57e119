import test from 'ava'
import { TokenBucket } from '../../src/base/bucket.js'

/** Time passes only while somebody sleeps; those who sleep at once sleep beside each other. */
function slept(bytesPerSecond: number, start = 0) {
  const clock = { ms: start, now: () => clock.ms }
  const sleeps: number[] = []
  const bucket = new TokenBucket(bytesPerSecond, clock, async (ms) => {
    sleeps.push(ms)
  })
  return { bucket, clock, sleeps }
}

test('what is asked for one after the other goes at the rate', async (t) => {
  const { bucket, clock, sleeps } = slept(1000)
  for (let round = 0; round < 50; round++) {
    await bucket.take(200)
    clock.ms += sleeps.at(-1) ?? 0
  }
  t.is(clock.ms, 10_000, '10,000 bytes in ten seconds')
})

test('who asks at once waits behind the others', async (t) => {
  const { bucket, sleeps } = slept(1000)
  await Promise.all([bucket.take(1000), bucket.take(500), bucket.take(1)])
  t.deepEqual(sleeps, [1000, 1500, 1501])
})

test('a pause saves up a quarter of a second, and a clock that was set back costs nothing', async (t) => {
  const { bucket, clock, sleeps } = slept(1000, 5000)
  clock.ms += 3_600_000
  await bucket.take(250)
  t.deepEqual(sleeps, [])
  clock.ms = 0
  await bucket.take(100)
  t.deepEqual(sleeps, [100])
})

test('who gives up is let go', async (t) => {
  const controller = new AbortController()
  const clock = { now: () => 0 }
  const bucket = new TokenBucket(1, clock, async (_, signal) => signal?.throwIfAborted())
  controller.abort(new Error('enough'))
  await t.throwsAsync(bucket.take(10, controller.signal), { message: 'enough' })
})
