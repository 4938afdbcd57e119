/** The table of errors, what the addon throws, and what the code fills in agree. */
import test from 'ava'
import { ERRORS, type ErrorCode, Exit, hasCode, ImagerError, reason } from '../../src/base/errors.js'
import { filesUnder, read, withoutComments } from '../sources.js'

const codes = Object.keys(ERRORS) as ErrorCode[]
const placeholders = (code: ErrorCode) =>
  [...`${ERRORS[code].sentence} ${ERRORS[code].remedy}`.matchAll(/\{([^}]*)\}/g)].map((match) => match[1]!)

test('the addon names only codes of the table', (t) => {
  const rust = [...read('native/src/base/error.rs').matchAll(/=> "([A-Z_]+)"/g)].map((match) => match[1]!)
  t.true(rust.length > 0)
  for (const code of rust) t.true(code in ERRORS, code)
})

test('every code has words for a person and an exit code of the contract', (t) => {
  const exits = new Set<number>(Object.values(Exit))
  for (const code of codes) {
    const { exit, sentence, remedy } = ERRORS[code]
    t.regex(code, /^[A-Z][A-Z_]*$/)
    t.true(exits.has(exit) && exit !== Exit.done, code)
    t.regex(sentence, /^[A-Z{]/, code)
    t.notRegex(sentence, /\.$/, `${code}: the sentence is printed before other words`)
    t.regex(remedy, /[.?]$/, code)
  }
})

test('placeholders are names', (t) => {
  for (const code of codes) for (const name of placeholders(code)) t.regex(name, /^[a-z][A-Za-z]*$/, code)
})

/** `new ImagerError('CODE', { ... }` in the sources, with the names of the literal's top-level fields. */
function throws(): { file: string; code: ErrorCode; fields: Set<string> | undefined }[] {
  return filesUnder('src', '.ts').flatMap((file) => {
    const source = withoutComments(read(file))
    return [...source.matchAll(/new ImagerError\(\s*'([A-Z_]+)'\s*(,\s*\{)?/g)].map((match) => ({
      file,
      code: match[1] as ErrorCode,
      fields: match[2] ? fieldsOf(source.slice(match.index + match[0].length)) : undefined,
    }))
  })
}

/** Field names of an object literal whose opening brace was just read; undefined when it spreads another. */
function fieldsOf(rest: string): Set<string> | undefined {
  const fields = new Set<string>()
  let depth = 0
  let atName = true
  for (const [token] of rest.matchAll(/'[^'\n]*'|"[^"\n]*"|`[^`]*`|\.\.\.|[\w$]+|[^\s]/g)) {
    if (depth === 0 && token === '}') return fields
    if (depth === 0 && token === '...') return undefined
    if (depth === 0 && atName) fields.add(token.replace(/^'|'$/g, ''))
    atName = depth === 0 && token === ','
    if ('([{'.includes(token)) depth++
    if (')]}'.includes(token)) depth--
  }
  return undefined
}

test('whoever throws fills in what the sentence names', (t) => {
  for (const { file, code, fields } of throws()) {
    t.true(code in ERRORS, `${file} throws ${code}`)
    if (fields === undefined) continue
    for (const name of placeholders(code)) t.true(fields.has(name), `${file} throws ${code} without ${name}`)
  }
  t.pass()
})

test('fields of a literal are found', (t) => {
  const found = (rest: string) => [...(fieldsOf(rest) ?? ['spread'])]
  t.deepEqual(found("path, why: reason({ a: 1, b }), 'q': x ? y : z })"), ['path', 'why', 'q'])
  t.deepEqual(found('host })'), ['host'])
  t.deepEqual(found('what: `a, b: c`, at })'), ['what', 'at'])
  t.deepEqual(found('what, ...details })'), ['spread'])
})

test('an error says what, what to do, and how to end', (t) => {
  const error = new ImagerError('NOT_RESTORABLE', { what: '3 hosts are away', todo: 'Bring back one' })
  t.is(error.message, '3 hosts are away. What is left is not enough')
  t.is(error.remedy, 'Bring back one.')
  t.is(error.exit, 5)
  t.true(error.retryable)
  t.true(hasCode(error, 'IO', 'NOT_RESTORABLE'))
  t.false(hasCode(new Error('NOT_RESTORABLE'), 'NOT_RESTORABLE'))
  t.is(reason('text'), 'text')
  t.is(reason(error), error.message)
})
