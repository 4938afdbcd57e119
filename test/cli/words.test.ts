import test from 'ava'
import { parseAddress, parseBytes } from '../../src/cli/arguments.js'
import { Output, printable, table } from '../../src/cli/output.js'
import { nearest } from '../../src/cli/suggest.js'

test('sizes as people type them', (t) => {
  const parse = parseBytes('max-bytes')
  t.is(parse(undefined), undefined)
  t.is(parse('1048576'), 1_048_576)
  t.is(parse('512M'), 512 * 2 ** 20)
  t.is(parse('1.5GiB'), 1.5 * 2 ** 30)
  t.is(parse('0'), 0)
  for (const wrong of ['', '-1', 'G', '1X', '1e3', '99999999T']) t.throws(() => parse(wrong), { code: 'USAGE' }, wrong)
})

test('addresses', (t) => {
  const parse = parseAddress('listen', 'peer')
  for (const right of ['0.0.0.0:7420', 'pc-7.lan:1', '[::1]:65535']) t.is(parse(right), right)
  for (const wrong of ['7420', ':7420', 'host', 'host:', 'host:65536', '::1:80', 'a b:1']) {
    t.throws(() => parse(wrong), { code: 'USAGE' }, wrong)
  }
})

test('did you mean', (t) => {
  const known = ['hosts', 'join', 'status', 'snapshot']
  t.is(nearest('hosst', known), 'hosts')
  t.is(nearest('stauts', known), 'status')
  t.is(nearest('snap', known), 'snapshot')
  t.is(nearest('xyzzy', known), undefined)
})

test('what other hosts call themselves cannot move the cursor', (t) => {
  t.is(printable('a\u001b[2Kb\u202e\r'), 'a?[2Kb??')
  t.is(
    table(
      ['NAME', 'FREE'],
      [
        ['pc-1\u0007', '1 GB'],
        ['x', ''],
      ],
    ),
    'NAME   FREE\npc-1?  1 GB\nx',
  )
})

test('progress: a JSON line for programs, only its news for people without a terminal; warnings once', (t) => {
  const written = { stdout: '', stderr: '' }
  const streams = {
    stdout: { write: (text: string) => (written.stdout += text) },
    stderr: { write: (text: string) => (written.stderr += text) },
  }
  new Output(false, streams).progress({ done: 1 }, () => 'half')
  t.deepEqual(written, { stdout: '', stderr: '' })
  const log = new Output(false, streams)
  for (const news of ['', 'waiting', 'waiting', '', 'waiting']) log.progress({ done: 1 }, () => 'half', news)
  t.deepEqual(written, { stdout: '', stderr: 'waiting\nwaiting\n' })
  written.stderr = ''
  new Output(true, streams).progress({ done: 1 }, () => 'half')
  t.is(written.stdout, '{"status":"progress","done":1}\n')
  const daemon = new Output(true, streams)
  for (const reason of ['down', 'down', 'up']) daemon.warn('heartbeat', new Error(reason))
  t.is(written.stderr.split('\n').length, 3)
})
