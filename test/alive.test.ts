/** `scripts/alive`: silence of minutes looks like a hang. */
import { spawnSync } from 'node:child_process'
import test from 'ava'

const alive = (command: string) =>
  spawnSync('bash', ['-euo', 'pipefail', '-c', `. scripts/alive; ALIVE_SECONDS=1 alive Building ${command}`], {
    encoding: 'utf8',
  })

test('what takes long says that it lives, and keeps its exit code', (t) => {
  const { status, stdout, stderr } = alive("sh -c 'sleep 2.5; echo made; exit 3'")
  t.is(status, 3)
  t.is(stdout, '  Building goes on: 1 s\n  Building goes on: 2 s\nmade\n')
  t.is(stderr, '')
})

test('what is soon done says nothing', (t) => {
  t.like(alive('true'), { status: 0, stdout: '', stderr: '' })
})
