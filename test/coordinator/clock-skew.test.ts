import test from 'ava'
import { describeSkew, measureSkew, readSkew, SKEW_HEADER } from '../../src/coordinator/clock-skew.js'
import { encodeMessage } from '../../src/wire/message.js'
import { offer } from '../catalog/harness.js'
import { openOffice } from './harness.js'

test('half of the round trip is taken off; an answer that took too long measures nothing', (t) => {
  t.is(measureSkew(10_000, 10_400, 10_200), 0)
  t.is(measureSkew(3_610_000, 3_610_400, 10_200), 3_600_000)
  t.is(measureSkew(10_000, 12_001, 1), undefined)
  t.is(measureSkew(10_000, 9_999, 1), undefined)
  for (const theirs of [Number.NaN, 0, -5, 1.5]) t.is(measureSkew(10_000, 10_001, theirs), undefined)
})

test('what a caller says is believed in its form only', (t) => {
  t.is(readSkew('-3600000'), -3_600_000)
  for (const wrong of [undefined, '', '1e9', '0x10', '9'.repeat(16), ['1']]) t.is(readSkew(wrong), undefined)
  t.regex(describeSkew('pc-1', -3_600_000), /pc-1 is 1h 00m behind the coordinator's.*timedatectl set-ntp true/)
})

test('each call tells what the one before measured; far off is an alarm, once', async (t) => {
  const office = await openOffice(t)
  const { catalog, connection, host } = office.member('peer', 'pc-1')
  const skew = () => office.catalog.members.rows().find((row) => row.host === host)?.clockSkewMs ?? null
  await catalog.heartbeat(offer('disk'))
  t.is(skew(), null)
  await catalog.heartbeat(offer('disk'))
  const measured = skew()
  t.true(measured !== null && Math.abs(measured) < 1000, `${measured} ms on one machine`)
  const say = (text: string) => {
    const options = { headers: { [SKEW_HEADER]: text }, body: encodeMessage({}), maxBytes: 1e6 }
    return connection.request('POST', '/v1/membership', options)
  }
  for (const text of ['600000', '600000', 'soon', '599500', '601000']) await say(text)
  t.is(skew(), 601_000)
  const alarms = () => office.catalog.registry.events().filter(({ kind }) => kind === 'alarm')
  t.is(alarms().length, 1)
  t.regex(alarms()[0]?.sentence ?? '', /pc-1 is 10m 00s ahead of the coordinator's/)
  await say('0')
  office.clock.time += 120_000
  await say('-400000')
  t.is(alarms().length, 2, 'back in order, then off again')
})
