import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { ImagerError } from '../../src/base/errors.js'
import { parseAddress, parseBytes, parseLabel } from '../../src/cli/arguments.js'
import { Context } from '../../src/cli/context.js'
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

test('an address without a port, where one is usual; a label of one line', (t) => {
  const parse = parseAddress('peer', 'recover', 7421)
  t.is(parse('192.168.1.13'), '192.168.1.13:7421')
  t.is(parse('pc-7.lan'), 'pc-7.lan:7421')
  t.is(parse('[fe80::1]'), '[fe80::1]:7421')
  t.is(parse('pc-7:80'), 'pc-7:80')
  for (const wrong of ['', 'pc-7:', 'pc-7:99999', 'fe80::1', 'a b'])
    t.throws(() => parse(wrong), { code: 'USAGE' }, wrong)
  t.is(parseLabel('before the move'), 'before the move')
  for (const wrong of ['a'.repeat(256), 'a\nb', 'a\u202eb']) t.throws(() => parseLabel(wrong), { code: 'USAGE' })
})

function recorded(json: boolean) {
  const written = { stdout: '', stderr: '' }
  const output = new Output(json, {
    stdout: { write: (text: string) => (written.stdout += text) },
    stderr: { write: (text: string) => (written.stderr += text) },
  })
  return { output, written }
}

test('no character of a name moves the cursor or turns the direction, in text or JSON', (t) => {
  const hostile = 'a\u009b2J\u202eb\u2028c\u{e0001}\u007f'
  const json = recorded(true)
  json.output.report({ name: hostile }, String)
  json.output.lines([{ name: hostile }], String)
  t.regex(json.written.stdout, /^[ -~\n]+$/)
  for (const line of json.written.stdout.trim().split('\n')) t.deepEqual(JSON.parse(line), { name: hostile })
  const text = recorded(false)
  text.output.report({}, () => hostile)
  text.output.note(hostile)
  t.deepEqual(text.written, { stdout: 'a?2J?b?c??\n', stderr: 'a?2J?b?c??\n' })
  const plain = recorded(true)
  plain.output.report({ name: 'Käse 世界' }, String)
  t.is(plain.written.stdout, '{"name":"Käse 世界"}\n')
})

test('what is to be typed next says --state again where it was said', (t) => {
  const said = (state: string | undefined, json = false) => {
    const { output, written } = recorded(json)
    output.state = state
    output.fail(new ImagerError('NO_SUCH_SNAPSHOT', { snapshot: 'x' }))
    return json ? (JSON.parse(written.stdout) as { remedy: string }).remedy : written.stderr
  }
  t.regex(said(undefined), /`imager snapshots`\./)
  t.regex(said('/srv/a'), /`imager snapshots --state \/srv\/a`\./)
  t.regex(said('/srv/a b', true), /`imager snapshots --state '\/srv\/a b'`\./)
  const { output, written } = recorded(false)
  output.state = '/srv/a'
  const elsewhere =
    '`imager status --state /b`, `imager hosts --help`, `imager invite` there, `imager snapshot x` on srv'
  output.note(elsewhere)
  t.is(written.stderr, `${elsewhere}\n`)
})

test('a plain user is not told to found a second fleet beside that of root', (t) => {
  const { output } = recorded(false)
  const none = new ImagerError('NO_FLEET', { state: '/x' })
  const before = process.env.IMAGER_STATE
  delete process.env.IMAGER_STATE
  const [byDefault, named] = [{}, { state: '/x' }].map(
    (args) => new Context(args, output, new AbortController().signal, ''),
  )
  if (before !== undefined) process.env.IMAGER_STATE = before
  t.like(byDefault?.explain(none, tmpdir()), { code: 'DENIED' })
  t.is(byDefault?.explain(none, join(tmpdir(), 'that-is-not-there')), none)
  t.is(named?.explain(none, tmpdir()), none)
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
