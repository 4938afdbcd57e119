import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { main } from '../../src/cli/main.js'
import { openHome } from '../../src/keys/home.js'
import { deriveRoot } from '../../src/keys/root.js'
import { Secret } from '../../src/native.js'

async function run(...argv: string[]) {
  let stdout = ''
  let stderr = ''
  const streams = {
    stdout: { write: (text: string) => (stdout += text) },
    stderr: { write: (text: string) => (stderr += text) },
  }
  const code = await main(argv, streams, new AbortController().signal)
  return { code, stdout, stderr }
}

function folder(t: { teardown(undo: () => void): void }): string {
  const path = mkdtempSync(join(tmpdir(), 'imager-cli-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

const COMMANDS = [
  'init',
  'invite',
  'join',
  'coordinator',
  'peer',
  'hosts',
  'status',
  'snapshot',
  'snapshots',
  'show',
  'ls',
  'map',
  'mount',
  'unmount',
  'restore',
  'lock',
  'policy show',
  'policy set',
  'lab up',
  'lab down',
]

test('every command is in the overview, has help, and an example of itself', async (t) => {
  const overview = await run('--help')
  t.is(overview.code, 0)
  for (const name of COMMANDS) {
    t.true(overview.stdout.includes(`\n  ${name} `), name)
    const { code, stdout } = await run(...name.split(' '), '--help')
    t.is(code, 0)
    t.regex(stdout, new RegExp(`imager ${name}`))
    t.true(stdout.includes('--json') && stdout.includes('--state'), name)
    t.regex(stdout.slice(stdout.indexOf('Examples:')), new RegExp(`imager ${name}\\b`))
  }
  const lab = await run('lab', '--help')
  t.true(lab.stdout.includes('lab down') && !lab.stdout.includes('invite'))
  t.regex((await run('--version')).stdout, /^\d+\.\d+\.\d+\n$/)
})

test('help and version, as people ask for them', async (t) => {
  for (const [asked, means] of [
    [['help'], ['--help']],
    [
      ['help', 'restore'],
      ['restore', '--help'],
    ],
    [
      ['help', 'lab', 'up'],
      ['lab', 'up', '--help'],
    ],
    [
      ['restore', '-h'],
      ['restore', '--help'],
    ],
    [['version'], ['--version']],
    [['-V'], ['--version']],
  ] as const) {
    const one = await run(...asked)
    t.deepEqual(one, await run(...means))
    t.true(one.code === 0 && one.stdout.length > 0)
  }
})

const wrong: [argv: string[], sentence: RegExp][] = [
  [[], /No command given/],
  [['hosst'], /no command "hosst"\. Did you mean hosts\?/],
  [['lab', 'upp'], /lab needs one of: lab up, lab down/],
  [['hosts', '--jsom'], /jsom\. Did you mean --json\?/],
  [['peer', '--store', '/tmp/x', '--max-byte', '1'], /max-byte\. Did you mean --max-bytes\?/],
  [['hosts', 'extra'], /extra/],
  [['join'], /Give the token: `imager join -`/],
  [['peer'], /store/],
  [['restore', 'latest', '--too', 'x'], /too\. Did you mean --to\?/],
  [['help', 'hosst'], /no command "hosst"\. Did you mean hosts\?/],
  [['snapshot', 'x', '--label', 'a'.repeat(100_000)], /--label takes up to 255 letters, not 100000/],
  [['peer', '--store', '/tmp/x', '--max-bytes', 'lots'], /--max-bytes takes a size/],
  [['init', '--listen', 'nonsense'], /--listen takes HOST:PORT/],
  [['invite', '--role', 'king'], /role/],
  [['ls'], /called as: ls <snapshot> \[path\]/],
  [['mount', 'latest'], /called as: mount <snapshot> <mountpoint>/],
  [['map', '/tmp/x', '--at', 'here'], /--at takes a size/],
  [['lab', 'up', '/tmp/x', '--peers', 'many'], /--peers takes a number/],
  [['--vresion'], /--vresion\. Did you mean --version\?/],
]
for (const [argv, sentence] of wrong) {
  test(`imager ${argv.join(' ').slice(0, 80)}: exit 2, says why and what to do`, async (t) => {
    const { code, stdout, stderr } = await run(...argv)
    t.is(code, 2)
    t.is(stdout, '')
    t.regex(stderr, /^imager: .+\nSee `imager .*--help`\.\n$/)
    t.regex(stderr, sentence)
  })
}

test('with --json an error is one line on stdout', async (t) => {
  const state = join(folder(t), 'none')
  const { code, stdout, stderr } = await run('hosts', '--state', state, '--json')
  t.is(code, 10)
  t.is(stderr, '')
  t.regex(stdout, /^[^\n]+\n$/)
  const line = JSON.parse(stdout) as Record<string, string>
  t.deepEqual(Object.keys(line), ['status', 'code', 'message', 'remedy'])
  t.is(line.status, 'error')
  t.is(line.code, 'NO_FLEET')
  t.true(line.message?.includes(state))
})

test('nothing to join: a token that is none is exit 12 and leaves nothing', async (t) => {
  const state = join(folder(t), 'state')
  const { code, stderr } = await run('join', 'imager1.nonsense', '--state', state)
  t.is(code, 12)
  t.regex(stderr, /typing error/)
  t.throws(() => statSync(state), { code: 'ENOENT' })
})

test('init prints the words once; they lead to the root; nothing keeps them', async (t) => {
  const state = join(folder(t), 'state')
  const first = await run('init', '--state', state, '--listen', '127.0.0.1:7499', '--json')
  t.is(first.code, 0)
  const { words, address } = JSON.parse(first.stdout) as { words: string; address: string }
  t.is(words.split(' ').length, 24)
  t.is(address, '127.0.0.1:7499')
  t.is(deriveRoot(Secret.fromWords(words)).rootKey, openHome(state).rootKey)
  const again = await run('init', '--state', state)
  t.is(again.code, 1)
  t.regex(again.stderr, /already belongs to a fleet/)
})

test('init --words-file keeps them in a file of its owner, and overwrites none', async (t) => {
  const dir = folder(t)
  const wordsFile = join(dir, 'words')
  const done = await run('init', '--state', join(dir, 'a'), '--words-file', wordsFile)
  t.is(done.code, 0)
  t.is(statSync(wordsFile).mode & 0o777, 0o600)
  const words = readFileSync(wordsFile, 'utf8')
  t.regex(words, /^([a-z]+ ){23}[a-z]+\n$/)
  t.false(done.stdout.includes(words.trim()))
  writeFileSync(join(dir, 'old'), 'other words')
  const refused = await run('init', '--state', join(dir, 'b'), '--words-file', join(dir, 'old'))
  t.is(refused.code, 2)
  t.is(readFileSync(join(dir, 'old'), 'utf8'), 'other words')
  t.throws(() => openHome(join(dir, 'b')), { code: 'NO_FLEET' })
})

test('a path that cannot be used is the error of that path', async (t) => {
  const dir = folder(t)
  writeFileSync(join(dir, 'file'), '')
  const { code, stderr } = await run('init', '--state', join(dir, 'file', 'state'))
  t.is(code, 1)
  t.regex(stderr, /^imager: .*: that is a file, not a folder\nCheck the path/)
})

test('the roles: a host that is not the coordinator cannot run one, and the coordinator is no peer', async (t) => {
  const state = join(folder(t), 'state')
  await run('init', '--state', state, '--json')
  const { code, stderr } = await run('peer', '--store', join(state, 'store'), '--state', state)
  t.is(code, 12)
  t.regex(stderr, /is the coordinator/)
})
