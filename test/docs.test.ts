/**
 * What docs/ says of code is made from code. After a change of a table:
 * `npm run build:ts && IMAGER_UPDATE_DOCS=1 npx ava build/test/docs.test.js`.
 */
import { existsSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'ava'
import { Exit } from '../src/base/errors.js'
import { attacksTable } from './attackers/attacks.js'
import { manual } from './manual.js'
import { filesUnder, read } from './sources.js'
import { errorsTable, evaluate, exitTable, limitsTable, problemsTable } from './tables.js'
import { namesTest } from './titles.js'

const EXITS = {
  done: 'done; a restore or mount that corrected everything it met ends so too, and reports how much',
  failed: 'failed',
  usage: 'the command line was wrong',
  sourceDamaged: 'done, but part of the source was unreadable or would not hold still',
  belowTarget: 'stored, but fewer hosts may be missing than should be',
  notRestorable: 'not restorable now; the hosts that would suffice are named',
  damaged: '`check` found damage, and every snapshot can be restored all the same',
  noStaticView: 'the source would not hold still',
  notSafe: '`status`: something is not safe; `check`: a host did not answer',
  notFound: 'no such snapshot or fleet',
  notAllowed: 'not allowed, or the wrong key',
  interrupted: 'interrupted (Ctrl-C)',
}
const exits = exitTable(EXITS)

const MADE: [file: string, block: string, content: string][] = [
  ['docs/errors.md', 'exit codes', exits],
  ['docs/errors.md', 'errors', errorsTable()],
  ['docs/errors.md', 'problems', problemsTable()],
  ['docs/limits.md', 'typescript', limitsTable('typescript')],
  ['docs/limits.md', 'rust', limitsTable('rust')],
  ['docs/attacks.md', 'attacks', attacksTable()],
  ['README.md', 'exit codes', exits],
]

for (const [file, block, content] of MADE) {
  test.serial(`${file} says what the code says: ${block}`, (t) => {
    const text = read(file)
    const start = `<!-- made from code: ${block} -->\n`
    const from = text.indexOf(start)
    const to = text.indexOf('\n<!-- end -->', from)
    t.true(from >= 0 && to >= 0, `${file} has no block "${block}"`)
    const updated = text.slice(0, from + start.length) + content + text.slice(to)
    if (process.env.IMAGER_UPDATE_DOCS) writeFileSync(file, updated)
    else t.is(text, updated)
  })
}

test.serial('man/imager.1 says what --help says', async (t) => {
  const rows = Object.entries(Exit).map(([name, code]) => [String(code), EXITS[name as keyof typeof EXITS]] as const)
  const page = await manual(rows)
  if (process.env.IMAGER_UPDATE_DOCS) writeFileSync('man/imager.1', page)
  else t.true(read('man/imager.1') === page, 'IMAGER_UPDATE_DOCS=1 writes it anew')
  t.true(page.length > 5000)
})

const documents = ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', ...filesUnder('docs', '.md')]

test('links between documents lead somewhere', (t) => {
  t.true(documents.length > 3)
  for (const file of documents) {
    for (const [, target] of read(file).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
      if (/^[a-z]+:/.test(target!)) continue
      t.true(existsSync(join(dirname(file), target!)), `${file} links to ${target}`)
    }
  }
})

/** Where the links of an index lead, without those into other folders. */
function listedIn(folder: string): string[] {
  const links = read(`${folder}/README.md`).matchAll(/\]\(([^)#/\s:]+)(?=[)#])/g)
  return [...new Set([...links].map(([, name]) => join(folder, name!)))].sort()
}

function pagesOf(folder: string): string[] {
  const files = [...filesUnder(folder, '.md'), ...filesUnder(folder, '.svg')]
  return files.filter((file) => dirname(file) === folder && !file.endsWith('/README.md')).sort()
}

for (const folder of ['docs', 'docs/formats', 'docs/decisions']) {
  test(`the index of ${folder} names every page there, and no other`, (t) => {
    t.deepEqual(listedIn(folder), pagesOf(folder))
    t.true(pagesOf(folder).length > 10)
  })
}

test('decisions are listed under their own number and title; numbers that are not used are named', (t) => {
  const index = read('docs/decisions/README.md')
  const rows = [...index.matchAll(/^\| \[(\d+)\]\((\d{4})-[^)]+\) \| (.+?) \|/gm)]
  const titles = rows.map(([, number, , title]) => `# ${number}. ${title}`)
  const decisions = pagesOf('docs/decisions')
  t.deepEqual(
    titles,
    decisions.map((file) => read(file).split('\n', 1)[0]),
  )
  t.deepEqual(
    rows.map(([, number]) => number!.padStart(4, '0')),
    decisions.map((file) => file.replace('docs/decisions/', '').slice(0, 4)),
  )
  const used = new Set(rows.map(([, number]) => Number(number)))
  const unused = Array.from({ length: Math.max(...used) }, (_, at) => at + 1).filter((number) => !used.has(number))
  t.true(index.includes(`never used**: ${unused.join(', ')}.`), `never used are ${unused.join(', ')}`)
})

test('each promise of the threat model names its tests, and each of them exists', (t) => {
  const rows = [...read('docs/threat-model.md').matchAll(/^\| (.+?) \| (.+?) \| (.+?) \|$/gm)]
  const promises = rows.filter(([, can]) => !/^(?:He|They|It) can$/.test(can!))
  t.true(promises.length > 40)
  for (const [, can, , tests] of promises) {
    const named = [...tests!.matchAll(/"([^"]+)"|`([a-z_]+)`/g)].map(([, title, name]) => title ?? name!)
    t.true(named.length > 0, `${can} has a test`)
    for (const one of named) t.true(namesTest(one), `${can}: no test is called ${one}`)
  }
})

test('files of tests that documents name exist', (t) => {
  for (const file of documents) {
    for (const [, name] of read(file).matchAll(/`(test\/[\w/.-]+)`/g))
      t.true(existsSync(name!), `${file} names ${name}`)
  }
  t.pass()
})

test('documents that code names exist', (t) => {
  const sources = [...filesUnder('src', '.ts'), ...filesUnder('native/src', '.rs')]
  for (const file of sources) {
    for (const [name] of read(file).matchAll(/docs\/[a-z/-]+\.md/g)) t.true(existsSync(name), `${file} names ${name}`)
  }
  t.pass()
})

test('sizes in code are understood', (t) => {
  t.is(evaluate('64 * KIB'), 65_536)
  t.is(evaluate('8 << 20'), 8 * 1024 * 1024)
  t.is(evaluate('1 << 16'), 65_536)
  t.is(evaluate('1024'), 1024)
  t.is(evaluate('256 * KIB as u64'), 262_144)
  t.is(evaluate('SOMETHING + 1'), undefined)
})

test('the lockfile names every platform and no registry (else: scripts/complete-lockfile.mjs)', (t) => {
  interface Package {
    resolved?: string
    optionalDependencies?: Record<string, string>
  }
  const { packages } = JSON.parse(read('package-lock.json')) as { packages: Record<string, Package> }
  for (const [path, { resolved, optionalDependencies }] of Object.entries(packages)) {
    t.is(resolved, undefined, path)
    for (const name of Object.keys(optionalDependencies ?? {})) {
      t.true(
        `${path}/node_modules/${name}` in packages || `node_modules/${name}` in packages,
        `${path} wants ${name}: npm ci refuses a lockfile without it where the registry does not have it`,
      )
    }
  }
})
