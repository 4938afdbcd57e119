/** What tests are called, as their files say it: for documents and lists that name them. */
import { existsSync } from 'node:fs'
import { filesUnder, read } from './sources.js'

const TITLE =
  /\b(?:test\w*|serial|pending)(?:\.\w+)?(?:\([^()\n]*\))?\(\s*(?:`((?:[^`\\]|\\.)*)`|'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")/g

/** A part that a test puts in when it runs is `${...}`. */
export function titlesIn(file: string): string[] {
  return [...read(file).matchAll(TITLE)].map(([, made, single, double]) =>
    (made ?? single ?? double ?? '').replace(/\\(.)/g, '$1'),
  )
}

export function hasTitle(file: string, title: string): boolean {
  return existsSync(file) && titlesIn(file).includes(title)
}

/** Of all tests in TypeScript. */
export function allTitles(): Set<string> {
  return new Set(filesUnder('test', '.test.ts').concat(filesUnder('test', 'conformance.ts')).flatMap(titlesIn))
}
