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

let all: RegExp[] | undefined
let rust: string | undefined

/** Is a test called so, in TypeScript, or as a function in Rust? What a title puts in when it runs may be anything. */
export function namesTest(name: string): boolean {
  all ??= [...filesUnder('test', '.test.ts'), ...filesUnder('test', 'conformance.ts')].flatMap(titlesIn).map(patternOf)
  rust ??= [...filesUnder('native/src', '.rs'), ...filesUnder('native/tests', '.rs')].map(read).join('\n')
  return new RegExp(`#\\[test\\]\\n\\s*fn ${name}\\(`).test(rust) || all.some((one) => one.test(name))
}

function patternOf(title: string): RegExp {
  const parts = title.split(/\$\{[^}]*\}/).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^${parts.join('.*')}$`)
}
