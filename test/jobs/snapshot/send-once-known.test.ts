import test from 'ava'
import { ImagerError } from '../../../src/base/errors.js'
import { sendOnceKnown } from '../../../src/jobs/snapshot/send-once-known.js'

const refused = (field: string) => new ImagerError('NOT_ALLOWED', { what: `The grant does not fit: ${field}`, field })

function sending(errors: readonly Error[]) {
  const left = [...errors]
  let asked = 0
  const send = async () => {
    asked++
    const error = left.shift()
    if (error) throw error
  }
  return { send, asked: () => asked }
}

test('a peer that does not know the new term yet is asked again, for a while', async (t) => {
  const signal = new AbortController().signal
  let now = 0
  const clock = { now: () => now }
  const learns = sending([refused('term'), refused('signer')])
  await sendOnceKnown(learns.send, { clock, signal })
  t.is(learns.asked(), 3)
  const late = sending([refused('term'), refused('term')])
  const never = sendOnceKnown(late.send, { clock, signal })
  now = 20_000
  await t.throwsAsync(never, { code: 'NOT_ALLOWED' })
})

test('what else does not fit is told at once', async (t) => {
  const signal = new AbortController().signal
  const clock = { now: () => 0 }
  for (const error of [refused('shard'), new ImagerError('HOST_FULL', { host: 'pc', why: 'full' })]) {
    const { send, asked } = sending([error])
    await t.throwsAsync(sendOnceKnown(send, { clock, signal }), { code: error.code })
    t.is(asked(), 1)
  }
})
