import {
  chmodSync,
  existsSync,
  linkSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { hasCode, ImagerError } from '../../src/base/errors.js'
import {
  decodeOpening,
  findOpenedKeys,
  type Keeper,
  keepOpenedKeys,
  OPEN_MS,
  type OpenedPurpose,
  removeOpenedKeys,
  spentAt,
} from '../../src/keys/opened-keys.js'
import { refuseExposedSecrets } from '../../src/keys/secret-files.js'
import { STATEMENT_BYTES } from '../../src/keys/statement.js'
import { Secret, type SecretHandle } from '../../src/native.js'
import { fleet, hostOf, otherFleet } from './fleet.js'

const NOW = 1_800_000_000_000
const DAY = 24 * 3_600_000
const FILES = ['opened-clock.bin', 'opened-keys.bin']
const [server, till] = [hostOf(Secret.random()), hostOf(Secret.random())]

function stand(t: ExecutionContext) {
  const state = mkdtempSync(join(tmpdir(), 'imager-opened-'))
  t.teardown(() => rmSync(state, { recursive: true, force: true }))
  const keeper: Keeper = { state, fleet, secret: Secret.random() }
  const keys = [Secret.random(), Secret.random(), Secret.random(), Secret.random()] as const
  const until = keepOpenedKeys(
    keeper,
    [
      [server, { manifests: [keys[0], keys[1]], domains: [keys[3]] }],
      [till, { manifests: [keys[2]], domains: [] }],
    ],
    NOW,
  )
  const ids = (now: number, appliance = server, purpose: OpenedPurpose = 'manifest') => {
    const opened = findOpenedKeys(keeper, now)
    return 'until' in opened ? opened.keysOf(appliance, purpose).map((key) => key.id()) : opened.why
  }
  return { state, keeper, keys, until, ids }
}

test('what was opened is there for seven days, for nobody else to read, and then no more', (t) => {
  const { state, keeper, keys, until, ids } = stand(t)
  t.is(until, NOW + OPEN_MS)
  t.is(OPEN_MS, 7 * DAY)
  t.deepEqual(readdirSync(state).sort(), FILES)
  for (const name of FILES) t.is(statSync(join(state, name)).mode & 0o777, 0o600)
  const opened = findOpenedKeys(keeper, NOW + DAY)
  t.like(opened, { until: NOW + OPEN_MS, appliances: [till, server] })
  t.deepEqual(ids(NOW + DAY), [keys[0].id(), keys[1].id()])
  t.deepEqual(ids(NOW + DAY, till), [keys[2].id()])
  t.deepEqual(ids(NOW + DAY, server, 'domain'), [keys[3].id()])
  t.deepEqual(ids(NOW + DAY, till, 'domain'), [])
  t.deepEqual(ids(NOW + DAY, hostOf(Secret.random())), [])
  t.deepEqual(ids(NOW + OPEN_MS - 1), [keys[0].id(), keys[1].id()])
  t.regex(ids(NOW + OPEN_MS) as string, /seven days after the recovery are over/)
  t.deepEqual(readdirSync(state), [], 'whoever looks removes it')
  t.is(ids(NOW + DAY), '')
})

test('a clock that is set back gives no time back, and one that was ahead takes none for good', (t) => {
  const { keeper, ids } = stand(t)
  const until = (now: number) => {
    const opened = findOpenedKeys(keeper, now)
    return 'until' in opened ? opened.until : undefined
  }
  t.is(until(NOW + 5 * DAY), NOW + 7 * DAY)
  t.is(until(NOW - 365 * DAY), NOW - 363 * DAY, 'two days are left, by whichever clock')
  t.is(until(NOW - 364 * DAY), NOW - 363 * DAY)
  t.is(until(NOW - 366 * DAY), NOW - 365 * DAY)
  t.regex(ids(NOW - 365 * DAY) as string, /are over/)
  // By itself.
  t.is(spentAt({ spentMs: 5, seen: 100 }, 100), 5)
  t.is(spentAt({ spentMs: 5, seen: 100 }, 107), 12)
  t.is(spentAt({ spentMs: 5, seen: 100 }, 90), 5)
})

test('nothing is written for each look within a minute', (t) => {
  const { state, keeper } = stand(t)
  const written = () => readFileSync(join(state, 'opened-clock.bin'))
  const first = written()
  findOpenedKeys(keeper, NOW + 59_000)
  t.deepEqual(written(), first)
  findOpenedKeys(keeper, NOW + 61_000)
  t.notDeepEqual(written(), first)
})

for (const name of FILES) {
  test(`${name}: with any byte changed, cut off or added nothing opens, and it is removed`, (t) => {
    const { state, keeper, ids } = stand(t)
    const files = FILES.map((one) => readFileSync(join(state, one)))
    const at = FILES.indexOf(name)
    const whole = files[at] as Buffer
    const decode = (bytes: Buffer) => {
      const [clock, keys] = files.map((file, index) => (index === at ? bytes : file)) as [Buffer, Buffer]
      return decodeOpening(keeper, keys, clock)
    }
    t.is(decode(whole).keys.keys.length, 4)
    const damaged = [whole.subarray(0, -1), Buffer.alloc(0), Buffer.concat([whole, Buffer.alloc(1)])]
    for (let byte = 0; byte < whole.length; byte++) {
      const bytes = Buffer.from(whole)
      bytes[byte] = (bytes[byte] as number) ^ (1 << (byte % 8))
      damaged.push(bytes)
    }
    for (const bytes of damaged) {
      const error = t.throws(() => decode(bytes), { instanceOf: ImagerError })
      if (!hasCode(error, 'CORRUPT', 'FORGED', 'UNSUPPORTED')) t.fail(String(error))
    }
    for (const bytes of damaged.slice(0, 10)) {
      for (const [index, one] of FILES.entries()) writeFileSync(join(state, one), files[index] as Buffer)
      writeFileSync(join(state, name), bytes)
      t.regex(ids(NOW) as string, /was damaged/)
      t.deepEqual(readdirSync(state), [])
    }
    for (const [index, one] of FILES.entries()) writeFileSync(join(state, one), files[index] as Buffer)
    t.is(ids(NOW).length, 2, 'as it was it opens')
  })
}

test('another host, another fleet, the time of another opening, and keys without a time open nothing', (t) => {
  const cases: [string, (keeper: Keeper) => Keeper][] = [
    ['host', (keeper) => ({ ...keeper, secret: Secret.random() })],
    ['fleet', (keeper) => ({ ...keeper, fleet: otherFleet })],
    [
      'opening',
      (keeper) => {
        const clock = join(keeper.state, 'opened-clock.bin')
        const old = readFileSync(clock)
        keepOpenedKeys(keeper, [[server, { manifests: [Secret.random()], domains: [] }]], NOW + DAY)
        writeFileSync(clock, old)
        return keeper
      },
    ],
    [
      'time',
      (keeper) => {
        rmSync(join(keeper.state, 'opened-clock.bin'))
        return keeper
      },
    ],
  ]
  for (const [what, change] of cases) {
    const { state, keeper } = stand(t)
    t.like(findOpenedKeys(change(keeper), NOW), { why: `, as ${join(state, 'opened-keys.bin')} was damaged` }, what)
    t.deepEqual(readdirSync(state), [], what)
  }
})

test('locking takes the leavings of writes that were cut short along, and nothing else', (t) => {
  const { state } = stand(t)
  const [left, other] = [join(state, '.opened-keys.bin.4711.new'), join(state, 'identity.key')]
  for (const path of [left, other]) writeFileSync(path, 'x', { mode: 0o600 })
  const link = join(state, 'link')
  linkSync(join(state, 'opened-keys.bin'), link)
  t.true(removeOpenedKeys(state))
  t.deepEqual(readdirSync(state).sort(), ['identity.key', 'link'])
  t.true(readFileSync(link).every((byte) => byte === 0) && readFileSync(link).length > 100, 'overwritten first')
  t.false(removeOpenedKeys(state))
  t.false(removeOpenedKeys(join(state, 'nowhere')))
})

test('a new recovery takes the place of what was open; one that opened nothing leaves nothing', (t) => {
  const { state, keeper, ids } = stand(t)
  const key = Secret.random()
  t.is(keepOpenedKeys(keeper, [[till, { manifests: [key], domains: [] }]], NOW + 3 * DAY), NOW + 10 * DAY)
  t.deepEqual([ids(NOW + 9 * DAY), ids(NOW + 9 * DAY, till)], [[], [key.id()]])
  t.is(keepOpenedKeys(keeper, [], NOW), undefined)
  t.false(existsSync(join(state, 'opened-keys.bin')))
})

test('a server that signed as many keys as it may keeps no other out, and of none a part is kept', (t) => {
  const { keeper, ids } = stand(t)
  const many = { manifests: new Array<SecretHandle>(2999).fill(Secret.random()), domains: [Secret.random()] }
  const one = { manifests: [Secret.random()], domains: [] }
  const coordinator = { manifests: [], domains: [Secret.random()] }
  keepOpenedKeys(keeper, Object.entries({ [server]: many, [till]: one, [hostOf(Secret.random())]: coordinator }), NOW)
  t.like(findOpenedKeys(keeper, NOW), { appliances: [till] })
  t.is(ids(NOW, till).length, 1)
  keepOpenedKeys(keeper, [[server, many]], NOW)
  t.like(findOpenedKeys(keeper, NOW), { appliances: [server] }, 'as many as fit')
  t.true(statSync(join(keeper.state, 'opened-keys.bin')).size < STATEMENT_BYTES)
})

test('where others may read them the state folder is refused', (t) => {
  const { state } = stand(t)
  t.notThrows(() => refuseExposedSecrets(state))
  chmodSync(join(state, 'opened-keys.bin'), 0o640)
  t.throws(() => refuseExposedSecrets(state), { code: 'SECRET_EXPOSED' })
})
