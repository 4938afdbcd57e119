import test from 'ava'
import { ImagerError } from '../../src/base/errors.js'
import { BREAKER_MS } from '../../src/base/limits.js'
import { Breaker } from '../../src/peers/breaker.js'

const silent = new ImagerError('HOST_UNREACHABLE', { host: 'pc-1', address: 'pc-1:7421', why: 'no answer' })
const full = new ImagerError('HOST_FULL', { host: 'pc-1', why: 'its disk' })

test('what was unreachable fails for a while, and is tried again at its end', (t) => {
  const breaker = new Breaker({ now: () => 0 })
  t.is(breaker.failure(1000), undefined)
  breaker.failed(silent, 1000)
  t.is(breaker.failure(1000), silent)
  t.is(breaker.failure(1000 + BREAKER_MS - 1), silent)
  t.is(breaker.failure(1000 + BREAKER_MS), undefined)
})

test('a refusal is an answer, and an answer forgets what was', (t) => {
  const breaker = new Breaker({ now: () => 0 })
  breaker.failed(full, 0)
  breaker.failed(new TypeError('a bug of ours'), 0)
  t.is(breaker.failure(0), undefined)
  breaker.failed(silent, 0)
  breaker.answered()
  t.is(breaker.failure(0), undefined)
})

test('a call is not made while the host counts as unreachable', async (t) => {
  const clock = { time: 0, now: () => clock.time }
  const breaker = new Breaker(clock)
  let calls = 0
  const fail = async () => {
    calls++
    throw silent
  }
  await t.throwsAsync(breaker.run(fail), { is: silent })
  await t.throwsAsync(breaker.run(fail), { is: silent })
  await t.throwsAsync(
    breaker.run(async () => 'heard'),
    { is: silent },
  )
  t.is(calls, 1)
  clock.time = BREAKER_MS
  t.is(await breaker.run(async () => 'heard'), 'heard')
})
