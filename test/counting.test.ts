/** The counting of scripts/test: what a runner says is given to it as text. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'

const COUNTING = fileURLToPath(new URL('../../scripts/counting', import.meta.url))

function counted(text: string, ...words: string[]): string[] {
  const call = ['-c', '. "$0" && "$@"', COUNTING, ...words]
  return execFileSync('bash', call, { input: text, encoding: 'utf8' }).trimEnd().split('\n').sort()
}

const TAP = `TAP version 13
ok 1 - base › units › sizes
not ok 2 - disk › freeze › thaws
  ---
    name: AssertionError
  ...
ok 3 - e2e › lvm › is mounted (with snapshots) (skipped: lvm, sfdisk not installed) # SKIP
ok 4 - e2e › lvm › a second one (skipped: not root) # SKIP
ok 5 - keys › skipped: is a word of this title
not ok 6 - later # TODO
1..6
`

test('TAP: what was skipped is neither passed nor failed, and says why', (t) => {
  t.deepEqual(counted(TAP, 'count_tap'), [
    'failed\tdisk › freeze › thaws',
    'passed\t2',
    'skipped\te2e › lvm › a second one\tnot root',
    'skipped\te2e › lvm › is mounted (with snapshots)\tlvm, sfdisk not installed',
    'skipped\tlater\tit says so itself',
  ])
})

const CARGO = `     Running unittests src/lib.rs (target/debug/deps/imager_native-1)

running 5 tests
test fs::ext::tests::reads ... ok
skipped: sandbox::tests::landlock: no Landlock in this kernel
test sandbox::tests::landlock ... ok
test sandbox::tests::slow ... ignored, takes an hour
test seal::tests::opens ... FAILED
test wire::tests::speaks ... skipped: wire::tests::hears: half of it: no IPv6
ok
test wire::tests::hears ... ok

test result: FAILED. 4 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s

skipped: names_agree: mkfs.jfs is not installed
skipped: names_agree: mkfs.f2fs is not installed
skipped: breaks: no loop devices
test names_agree ... ok
test breaks ... FAILED
test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
`

test('cargo: a test that skipped all or some of itself is taken off those that passed', (t) => {
  t.deepEqual(counted(CARGO, 'count_cargo'), [
    'failed\ta test whose name is not in the output',
    'failed\tbreaks',
    'failed\tseal::tests::opens',
    'passed\t2',
    'skipped\tbreaks\tno loop devices',
    'skipped\tnames_agree\tmkfs.f2fs is not installed',
    'skipped\tnames_agree\tmkfs.jfs is not installed',
    'skipped\tsandbox::tests::landlock\tno Landlock in this kernel',
    'skipped\tsandbox::tests::slow\ttakes an hour',
    'skipped\twire::tests::hears\thalf of it: no IPv6',
  ])
})

test('where all is required a skip fails but for those that are listed, and so does a line that no skip needs', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'imager-counting-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const allowed = join(folder, 'allowed')
  writeFileSync(allowed, '# TITLE | REASON | FEATURE\na › b | no dm | device-mapper\nc | no swap | swap\n')
  const results = 'passed\t5\nskipped\ta › b\tno dm\nskipped\ta › b\tnot root\nfailed\td\n'
  t.deepEqual(counted(results, 'require_all', allowed), [
    'failed\ta › b (skipped: not root)',
    'failed\td',
    `failed\tlisted in ${allowed}, but not skipped: c | no swap | swap`,
    'passed\t5',
    'skipped\ta › b\tno dm',
  ])
})

test('the closing line has three numbers', (t) => {
  t.deepEqual(counted('', 'sum_up'), ['0 passed, 0 failed, 0 skipped'])
  const results = 'passed\t5\npassed\t7\nskipped\ta\tb\nskipped\ta\tc\nskipped\td\te\nfailed\tf\nfailed\tf\n'
  t.deepEqual(counted(results, 'sum_up'), ['12 passed, 2 failed, 2 skipped'])
})
