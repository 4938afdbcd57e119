import test from 'ava'
import { choose, OTHERS } from '../../src/catalog/choose.js'
import { ageOf, type Dated, doubtfulTime, inOrder } from '../../src/catalog/order.js'
import type { SnapshotRow } from '../../src/catalog/types.js'
import { summary } from './harness.js'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const YEAR = 365 * 24 * HOUR
const NOW = 1_800_000_000_000

let made = 0
function row(volume: string, sequence: number, time: number, arrived: number): Dated {
  made++
  return { id: made.toString(16).padStart(32, '0'), appliance: 'aa', volume, sequence, time, arrived }
}

const named = (rows: readonly Dated[]) => rows.map(({ volume, sequence }) => `${volume}${sequence}`).join(' ')

test('one snapshot with the clock a year ahead is last neither of its volume nor of another', (t) => {
  const rows = [
    row('A', 1, NOW - 9 * HOUR, NOW - 9 * HOUR),
    row('A', 2, NOW + YEAR, NOW - 8 * HOUR),
    row('A', 3, NOW - 7 * HOUR, NOW - 7 * HOUR),
    row('B', 1, NOW - HOUR, NOW - HOUR),
  ]
  t.is(named(inOrder(rows.toReversed(), NOW)), 'A1 A2 A3 B1')
})

test('a clock of 1970 does not hide a snapshot', (t) => {
  const rows = [row('A', 1, NOW - 9 * HOUR, NOW - 9 * HOUR), row('B', 1, 0, NOW - HOUR)]
  t.is(named(inOrder(rows, NOW)), 'A1 B1')
})

test('a coordinator whose clock was ahead for a while does not turn a volume round', (t) => {
  const rows = [row('A', 1, NOW - HOUR, NOW + YEAR), row('A', 2, NOW, NOW), row('B', 1, NOW - 1, NOW - 1)]
  t.is(named(inOrder(rows, NOW)), 'B1 A1 A2')
})

test('read back from peers, a time counts unless it is still to come or after a later snapshot’s', (t) => {
  const rows = [
    row('A', 1, NOW - 9 * HOUR, 0),
    row('A', 2, NOW + YEAR, 0),
    row('B', 1, NOW - 8 * HOUR, 0),
    row('C', 1, NOW - 2 * HOUR, 0),
    row('C', 2, NOW - 10 * HOUR, 0),
  ]
  t.is(named(inOrder(rows, NOW)), 'C1 C2 A1 A2 B1')
  t.is(named(inOrder([row('A', 1, NOW + YEAR, 0), row('B', 1, NOW - YEAR, 0)], NOW)), 'A1 B1')
})

test('the order depends on the rows alone, and keeps every sequence', (t) => {
  const times = [0, NOW - HOUR, NOW - HOUR, NOW + YEAR]
  const rows = times.flatMap((time, at) => ['A', 'B', 'C'].map((name) => row(name, at + 1, time, at % 2 ? time : 0)))
  const expected = named(inOrder(rows, NOW))
  t.is(named(inOrder(rows.toReversed(), NOW)), expected)
  for (const name of ['A', 'B', 'C']) {
    const own = expected.split(' ').filter((one) => one.startsWith(name))
    t.deepEqual(
      own,
      [1, 2, 3, 4].map((sequence) => `${name}${sequence}`),
    )
  }
})

test('a time is doubted that is not within the run, which ended when it arrived', (t) => {
  const doubt = (time: number, arrived: number, seconds = 0) =>
    doubtfulTime({ time, arrived, summary: { seconds } }, NOW)
  t.false(doubt(NOW - 4 * MINUTE, NOW))
  t.false(doubt(NOW + 4 * MINUTE, NOW))
  t.true(doubt(NOW - 6 * MINUTE, NOW))
  t.false(doubt(NOW - 6 * MINUTE, NOW, 120), 'its lists took two minutes to be stored')
  t.true(doubt(NOW + 6 * MINUTE, NOW, 3600))
  t.true(doubt(NOW + YEAR, 0))
  t.false(doubt(NOW - YEAR, 0))
})

test('an age is by the arrival; without one a time to come has none', (t) => {
  t.is(ageOf({ time: NOW + YEAR, arrived: NOW - HOUR }, NOW), HOUR)
  t.is(ageOf({ time: NOW - HOUR, arrived: 0 }, NOW), HOUR)
  t.is(ageOf({ time: NOW + YEAR, arrived: 0 }, NOW), undefined)
  t.is(ageOf({ time: 0, arrived: NOW + 1 }, NOW), 0)
})

function stored(volume: string, source: string, host: string, sequence = 1): SnapshotRow & { head: Uint8Array } {
  const appliance = Buffer.from(host).toString('hex')
  return {
    ...row(volume, sequence, NOW, NOW),
    ...{
      appliance,
      applianceName: host,
      source,
      label: '',
      parent: null,
      survives: 1,
      target: 1,
      receipted: 2,
      cosigned: true,
      state: 'protected',
    },
    ...{ at: NOW, now: { survives: 1, suffice: [] } },
    ...{ summary: summary(), head: new Uint8Array() },
  }
}

test('latest names the newest of every other disk; one that took the place of another is that disk', (t) => {
  const old = stored('A', '/dev/sda', 'srv')
  const data = stored('B', '/dev/sdb', 'srv')
  const mail = stored('C', '/dev/sda', 'mail')
  const fresh = stored('D', '/dev/sda', 'srv')
  const rows = [old, data, mail, fresh]
  const { id, others } = choose('latest', rows, {})
  t.is(id, fresh.id)
  t.deepEqual(
    others.map((one) => one.id),
    [mail.id, data.id],
  )
  t.like(choose('latest', rows, { source: '/dev/sdb' }), { id: data.id, others: [] })
  t.like(choose('latest', rows, { host: 'mail' }), { id: mail.id, others: [] })
  t.like(choose('latest', rows, { host: mail.appliance, source: '/dev/sda' }), { id: mail.id, others: [] })
  t.like(choose(data.id, [data], {}), { id: data.id, others: [] })
  t.throws(() => choose('latest', rows, { source: '/dev/sdc', host: 'srv' }), { message: /of \/dev\/sdc on srv/ })
  t.throws(() => choose(data.id, [data], { host: 'mail' }), { message: new RegExp(`${data.id} on mail`) })
  const retired =
    (...gone: SnapshotRow[]) =>
    (one: SnapshotRow) =>
      gone.includes(one)
  t.like(choose('latest', rows, {}, retired(fresh, old, data)), { id: mail.id, others: [] })
  t.like(choose('latest', rows, { source: '/dev/sdb' }, retired(data)), { id: data.id })
  t.is(choose('latest', rows, {}, retired(...rows)).others.length, 2, 'none is left out where all are')
  t.is(choose(data.id, [data], {}, retired(data)).id, data.id)
  const many = Array.from({ length: 50 }, (_, at) => stored(`V${at}`, `/dev/${at}`, 'srv'))
  t.is(choose('latest', many, {}).others.length, OTHERS)
})
