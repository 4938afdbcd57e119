/** Which names in a target are a killed restore's own, and which are not. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { markProcess, type ProcessMark } from '../../../src/base/process-mark.js'
import { Folder } from '../../../src/disk/folder.js'
import { Leftovers } from '../../../src/jobs/restore/leftovers.js'

const LIST = [Buffer.from('/1/etc')]

function target(t: ExecutionContext) {
  const path = mkdtempSync(join(tmpdir(), 'imager-leftovers-'))
  const folder = Folder.open(path)
  t.teardown(() => {
    folder.close()
    rmSync(path, { recursive: true, force: true })
  })
  return { path, folder }
}

/** As a process that is gone would have named it. */
const ended = (name: Buffer) => name.toString().replace(/-\d+-(\d+)-(\d+)\.part$/, '-1-$1-$2.part')

test('what an ended process of the same restore left is removed; all else stays', (t) => {
  const { path, folder } = target(t)
  const make = (host = 'host', snapshot = 'a', list = LIST) => new Leftovers(path, host, snapshot, list)
  const names = [make('other'), make('host', 'b'), make('host', 'a', [])].map((one) => ended(one.temporary()))
  const prefix = ended(make().temporary()).replace(/\d+\.part$/, '')
  const foreign = [...names, `${prefix}x.part`, `${prefix}1.parts`, '.imager-1-1.part', 'file.part'].sort()
  for (const name of [...foreign, ended(make().temporary())]) writeFileSync(join(path, name), '')
  t.false(make().areIn(folder), 'without a mark nothing was begun')
  make().sweep(folder)
  t.deepEqual(readdirSync(path).sort(), foreign)
})

test('a mark says that it was cut short, and which folders it made; whoever goes on takes it over', (t) => {
  const { path, folder } = target(t)
  const leftovers = new Leftovers(path, 'host', 'a', LIST)
  const dead = ended(leftovers.temporary()).replace(/\d+\.part$/, '0.part')
  writeFileSync(join(path, dead), '/1\0/1/etc\xe9\0/1/half', 'latin1')
  t.true(leftovers.areIn(folder))
  t.deepEqual([...leftovers.begin(folder)], ['/1', '/1/etc\xe9'])
  leftovers.making(folder, '/1/new')
  t.is(readdirSync(path).length, 1)
  t.false(leftovers.areIn(folder), 'its own mark is no leftover')
  leftovers.end(folder)
  t.deepEqual(readdirSync(path), [])
})

test('while another process restores the same files nothing is removed', (t) => {
  const { path, folder } = target(t)
  const leftovers = new Leftovers(path, 'host', 'a', LIST)
  const name = leftovers.temporary().toString()
  const { started } = markProcess(process.ppid) as ProcessMark
  const living = name.replace(/-\d+-\d+-(\d+\.part)$/, `-${process.ppid}-${started}-$1`)
  writeFileSync(join(path, living), '')
  t.throws(() => leftovers.sweep(folder), { code: 'TARGET_MOUNTED', message: new RegExp(`process ${process.ppid} `) })
  t.deepEqual(readdirSync(path), [living])
})
