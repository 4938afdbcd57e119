/** What the system refuses is told with the path. The kernel has files that fail as a bad or a full disk does. */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import test from 'ava'
import { ImagerError } from '../../src/base/errors.js'
import { atPath, systemError } from '../../src/base/system.js'
import { readWhole } from '../../src/keys/durable.js'

/** Its first page is mapped nowhere: EIO. */
const BAD = '/proc/self/mem'
const FULL = '/dev/full'

function thrown(task: () => unknown): unknown {
  try {
    task()
  } catch (error) {
    return error
  }
  throw new Error('nothing was thrown')
}

test('a disk that fails or is full is told with the path, which Node leaves out', (t) => {
  t.false('path' in (thrown(() => readFileSync(BAD)) as object), 'or this is of no use any more')
  const bad = systemError(thrown(() => readWhole(BAD)))
  t.like(bad, { code: 'SYSTEM', message: `${BAD}: the device answers with an error` })
  const file = openSync(FULL, 'w')
  t.teardown(() => closeSync(file))
  const full = systemError(thrown(() => atPath(FULL, () => writeSync(file, 'x'))))
  t.like(full, { code: 'SYSTEM', message: `${FULL}: the disk is full` })
  t.is(systemError(thrown(() => readFileSync('/nowhere')))?.message, '/nowhere: there is no such file or folder')
})

test('a limit of this computer has a code of its own, and what is no refusal has none', (t) => {
  const limit = Object.assign(new Error('EMFILE'), { code: 'EMFILE', syscall: 'open', path: '/x' })
  t.like(systemError(limit), { code: 'EXHAUSTED', exit: 1 })
  t.regex(systemError(limit)?.message ?? '', /\/x: this process has too many files and connections open/)
  t.is(systemError(new Error('a bug')), undefined)
  t.is(systemError(new ImagerError('INTERRUPTED')), undefined)
})
