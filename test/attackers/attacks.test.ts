/** The table of attacks and what is run are the same: each file and each test of this folder is in it, and nothing else is. */
import test from 'ava'
import { filesUnder, read } from '../sources.js'
import { ACTORS, ATTACKS, type Attack, attacking } from './attacks.js'

const FOLDER = 'test/attackers'
const THIS = `${FOLDER}/attacks.test.ts`
/** What is no attack. */
const BESIDES = [
  'with two peers nobody watches the coordinator, and status says so without a red light',
  'an enroller and the coordinator are not removed: it is said what to do instead',
]
const attacks = Object.values<Attack>(ATTACKS)

/** Titles of the tests of a file; those that may be a line below. */
function titlesIn(file: string): string[] {
  return [...read(file).matchAll(/^test(?:\.serial)?\(\s*(['"])(.*?)\1,/gms)].map(([, , title]) => title!)
}

test('each test of this folder is listed with its attacks, and each that is listed is there', (t) => {
  const files = filesUnder(FOLDER, '.test.ts').filter((file) => file !== THIS)
  t.deepEqual(
    files.map((file) => file.slice(FOLDER.length + 1)),
    [...new Set(attacks.map(({ file }) => file))].sort(),
  )
  for (const file of files) {
    const listed = new Set(attacks.filter((one) => file.endsWith(`/${one.file}`)).map((one) => one.test))
    const without = titlesIn(file).filter((title) => !listed.has(title) && !BESIDES.includes(title))
    t.deepEqual(
      [...listed].filter((title) => !titlesIn(file).includes(title)),
      [],
      `${file} has each`,
    )
    t.deepEqual(without, [], `each of ${file} is listed`)
    t.is(read(file).match(/= attacking\(t\)/g)?.length, listed.size, `each of ${file} says what it tried`)
  }
})

test('four actors, each in several ways; more than 25 ways in all', (t) => {
  for (const actor of Object.keys(ACTORS)) {
    t.true(attacks.filter((one) => one.actor === actor).length >= 5, actor)
  }
  t.true(attacks.length >= 25)
  for (const { attack } of attacks) t.regex(attack, /^[a-z]/, attack)
})

test('a test that is not listed cannot attack', (t) => {
  t.throws(() => attacking(t), { message: /No attack is listed/ })
})
