/** By what a restore that was cut short is known again, and what a damaged journal costs. */
import { mkdtempSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { KiB, MiB } from '../../../src/base/units.js'
import { inspectTarget } from '../../../src/disk/target.js'
import { decodeJournal, encodeJournal, RestoreJournal, spread } from '../../../src/jobs/restore/journal.js'

const SNAPSHOT = 'a'.repeat(32)
const LANDMARKS = [2, 3, 5, 6].map((at) => ({ start: at * MiB, length: 64 * KiB }))

/** A target of 8 MiB, of which no two parts are alike, and what was written of it. */
function interrupted(t: ExecutionContext) {
  const folder = mkdtempSync(join(tmpdir(), 'imager-journal-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'target.img')
  const content = Buffer.alloc(8 * MiB)
  for (let at = 0; at < content.length; at += 8) content.writeUInt32LE(at + 1, at)
  writeFileSync(path, content)
  const journal = (snapshot = SNAPSHOT) => {
    return new RestoreJournal(folder, snapshot, inspectTarget(path, { sizeBytes: 0, allocatedBytes: 0 }, true))
  }
  const first = journal()
  first.finished(LANDMARKS)
  first.save(7)
  return { path, content, journal, first }
}

const touch = (path: string, content: Buffer, ...starts: number[]) => {
  const changed = Buffer.from(content)
  for (const start of starts) changed.writeUInt32LE(0xffffffff, start + 100)
  writeFileSync(path, changed)
}

test('a target is known by any of three landmarks and its tables, and by nothing else', (t) => {
  const { path, content, journal } = interrupted(t)
  const [first, , between, last] = LANDMARKS.map(({ start }) => start) as [number, number, number, number]
  const again = journal()
  t.is(again.look(), 'known')
  t.is(again.next, 7)
  touch(path, content, 0, first, between)
  t.is(journal().look(), 'known', 'the last landmark is there')
  touch(path, content, first, between, last)
  t.is(journal().look(), 'known', 'the tables are there')
  touch(path, content, 0, first)
  truncateSync(path, 3 * MiB)
  t.is(journal().look(), 'doubtful', 'the first landmark was touched, the others are gone')
  touch(path, content, 0, first, between, last)
  t.is(journal().look(), 'doubtful')
  writeFileSync(path, Buffer.alloc(8 * MiB))
  t.is(journal().look(), 'doubtful')
  writeFileSync(path, content)
  t.is(journal('b'.repeat(32)).look(), 'none', 'another snapshot')
  // Both are there at once, so that they are two for sure.
  writeFileSync(`${path}.other`, content)
  renameSync(`${path}.other`, path)
  t.is(journal().look(), 'none', 'another file')
})

test('zeros say nothing: a target of which nothing was finished is doubtful', (t) => {
  const { path, journal } = interrupted(t)
  writeFileSync(path, Buffer.alloc(8 * MiB))
  const first = journal()
  first.finished(LANDMARKS)
  first.save(0)
  t.is(journal().look(), 'doubtful')
  t.deepEqual(decodeJournal(readFileSync(first.path, 'utf8'))?.marks, [])
})

test('one flipped bit anywhere loses nothing; one in each line loses the journal', (t) => {
  const { journal, first } = interrupted(t)
  const whole = readFileSync(first.path)
  for (let bit = 0; bit < whole.length * 8; bit += 13) {
    const flipped = Buffer.from(whole)
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    writeFileSync(first.path, flipped)
    if (journal().look() !== 'known') return t.fail(`bit ${bit}`)
  }
  const text = whole.toString()
  for (const nothing of ['', 'x', '{}\n', text.replaceAll('"next":7', '"next":8'), text.slice(0, 50)]) {
    writeFileSync(first.path, nothing)
    t.is(journal().look(), 'none')
  }
  writeFileSync(first.path, text.slice(0, text.indexOf('\n')))
  t.is(journal().look(), 'known', 'the first line is enough')
})

test('lines with true hashes are still read as if somebody else had written them', (t) => {
  const entry = { snapshot: SNAPSHOT, target: ['x', 1], next: 0, marks: [{ start: 0, length: MiB, hash: '' }] }
  t.truthy(decodeJournal(encodeJournal(entry)))
  for (const wrong of [
    { ...entry, next: -1 },
    { ...entry, target: ['x'] },
    { ...entry, marks: [{ start: 0, length: MiB + 1, hash: '' }] },
    { ...entry, marks: Array.from({ length: 5 }, () => entry.marks[0] as { start: 0; length: 1; hash: '' }) },
  ])
    t.is(decodeJournal(encodeJournal(wrong)), undefined)
})

test('what cannot be kept is no failure of the restore', (t) => {
  const { first } = interrupted(t)
  t.is(first.failure, undefined)
  const nowhere = new RestoreJournal(`${first.path}/no/folder`, SNAPSHOT, {
    ...{ path: first.path, kind: 'file', title: first.path, sizeBytes: 0 },
  })
  nowhere.save(1)
  t.regex(nowhere.failure ?? '', /ENOTDIR|ENOENT/)
  t.is(nowhere.look(), 'none')
  t.notThrows(() => nowhere.end())
})

test('of many landmarks the first, the last and one between are kept, each once', (t) => {
  const landmarks = (...starts: number[]) => starts.map((start) => ({ start, length: 1 }))
  t.deepEqual(spread(landmarks(5, 1, 9, 3, 7, 5)), landmarks(1, 5, 9))
  t.deepEqual(spread(landmarks(5, 5)), landmarks(5))
  t.deepEqual(spread(landmarks(5, 1)), landmarks(1, 5))
  t.deepEqual(spread([]), [])
})
