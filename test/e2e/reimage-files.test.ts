/** Restores of files that were cut short, and lists that cannot be. */
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import type { FilesReport } from '../../src/jobs/restore/files.js'
import { imager, lastLine, start, TestLab } from './lab.js'

interface Refusal {
  code: string
  message: string
  remedy: string
}

const partsIn = (folder: string) => {
  if (!existsSync(folder)) return []
  const all = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  return all.filter((name) => name.endsWith('.part'))
}

test.serial('a restore of files that was killed sweeps what it left, and goes on without --force', async (t) => {
  const { lab, state } = await TestLab.imaged(t, 3, 96)
  const list = lab.path('list')
  writeFileSync(list, '/0\n')
  const to = lab.path('out')
  const command = ['restore', 'latest', '--files', list, '--to', to, '--json', ...state]
  const child = start(command)
  const ended = once(child, 'close')
  const isHalf = () => partsIn(join(to, '0')).length > 0 && existsSync(join(to, '0', 'folder', 'file 3'))
  while (!isHalf() && child.exitCode === null) await sleep(1)
  child.kill('SIGKILL')
  await ended
  t.true(isHalf(), 'it was killed half way')
  t.is(statSync(join(to, '0', 'folder')).mode & 0o777, 0o700, 'its folders are not finished')

  // Files of somebody else: under such a name, and under one that the restore needs.
  const foreign = ['.imager-12-1.part', '.imager-0123456789abcdef-1-1-1.part'].map((name) =>
    join(to, '0', 'folder', name),
  )
  for (const path of foreign) writeFileSync(path, 'mine')
  const [taken] = readdirSync(join(to, '0', 'folder')).filter((name) => name.startsWith('file')) as [string]
  rmSync(join(to, '0', 'folder', taken))
  writeFileSync(join(to, '0', 'folder', taken), 'mine')
  const refused = lastLine<Refusal>(await imager(...command))
  t.is(refused.code, 'TARGET_NOT_EMPTY')
  t.true(refused.message.includes(`${taken} would be overwritten`), refused.message)
  t.regex(refused.remedy, /these files are replaced, all others stay/)
  t.is(readFileSync(join(to, '0', 'folder', taken), 'utf8'), 'mine')
  rmSync(join(to, '0', 'folder', taken))

  const done = await imager(...command)
  t.is(done.code, 0, done.stdout)
  t.like(lastLine<FilesReport>(done), { resumed: true, failed: [], missing: [] })
  t.deepEqual(partsIn(to).sort(), foreign.map((path) => path.slice(to.length + 1)).sort())
  for (const path of foreign) t.is(readFileSync(path, 'utf8'), 'mine')
  const mode = statSync(join(to, '0', 'folder')).mode & 0o777
  t.is(statSync(join(to, '0', 'folder', 'file 7')).size, 350)
  t.not(mode, 0o700, 'folders that the first run made have their attributes')
  t.is(
    lastLine<Refusal>(await imager(...command)).code,
    'TARGET_NOT_EMPTY',
    'it is done, and another one is another one',
  )
})

test.serial('a list that names nothing is refused, and a path that is not there says where to look', async (t) => {
  const { lab, state } = await TestLab.imaged(t, 3, 8)
  const list = lab.path('list')
  for (const [text, more] of [
    ['', []],
    ['\n\n', []],
    ['\0', ['-0']],
  ] as const) {
    writeFileSync(list, text)
    const empty = await imager('restore', 'latest', '--files', list, '--to', lab.path('out'), ...more, ...state)
    t.is(empty.code, 2)
    t.regex(empty.stderr, /The list .*list names no file and no folder/)
    t.false(existsSync(lab.path('out')))
  }
  writeFileSync(list, '/0/folder/file 1\n/0/none\n')
  mkdirSync(lab.path('out'))
  const some = await imager('restore', 'latest', '--files', list, '--to', lab.path('out'), ...state)
  t.is(some.code, 1)
  t.regex(some.stdout, /Not in the snapshot: \/0\/none\nBrowse with `imager ls [0-9a-f]{8} --state \S+`\./)
})
