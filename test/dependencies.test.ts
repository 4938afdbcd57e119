/**
 * What imager depends on: that the rules refuse what they are there to refuse, and that the bill of materials names all
 * of both lockfiles. That today's packages are within the rules, `scripts/test` checks by the same script.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import test from 'ava'
import { Sqlite } from '../src/catalog/sqlite.js'
import { read } from './sources.js'

interface Package {
  kind: string
  name: string
  version: string
  licence?: string | undefined
  ships: boolean
  isOfRegistry: boolean
  hash?: { alg: string; content: string } | undefined
  isElsewhere: boolean
  runsAtInstall: boolean
  needs: string[]
}
interface Bill {
  components: { 'bom-ref': string; purl: string; version: string; hashes?: { content: string }[] }[]
  dependencies: { ref: string; dependsOn: string[] }[]
}
interface Rules {
  faultsOf(packages: Package[]): string[]
  isAllowed(expression: string, allowed: string[]): boolean
}
interface Reading {
  cargoPackages(lock: string, described: object[], tree: string): { packages: Package[]; needs: string[] }
  npmPackages(lock: object): { packages: Package[]; needs: string[] }
}
interface Billing {
  billOf(read: { project: { name: string; version: string; needs: string[] }; packages: Package[] }): Bill
  faultsOfBill(bill: Bill, packages: Package[]): string[]
}

const FOLDER = 'scripts/dependencies'
const load = async <T>(name: string) => (await import(pathToFileURL(resolve(FOLDER, name)).href)) as T
const { faultsOf, isAllowed } = await load<Rules>('rules.mjs')
const { cargoPackages, npmPackages } = await load<Reading>('packages.mjs')
const { billOf, faultsOfBill } = await load<Billing>('bill.mjs')

const good: Package = {
  ...{ kind: 'cargo', name: 'good', version: '1.0.0', licence: 'MIT', ships: true, isOfRegistry: true, needs: [] },
  ...{ hash: { alg: 'SHA-256', content: 'ab'.repeat(32) }, isElsewhere: false, runsAtInstall: false },
}
/** The two duplicates that the rules know, so that they are none. */
const twins = ['syn', 'string-width'].flatMap((name) =>
  ['1.0.0', '2.0.0'].map((version) => ({ ...good, name, version })),
)
const refusals = (...packages: Package[]) => faultsOf([...twins, ...packages])

test('a licence that is a choice needs one of them, a sum needs all', (t) => {
  const allowed = ['MIT', 'ISC', 'Apache-2.0 WITH LLVM-exception']
  const met = ['MIT', '(MIT)', 'GPL-3.0 OR MIT', 'MIT AND ISC', 'MIT AND (GPL-2.0 OR ISC)', 'GPL-2.0 OR MIT AND ISC']
  for (const text of [...met, 'Apache-2.0 WITH LLVM-exception']) t.true(isAllowed(text, allowed), text)
  const unmet = ['GPL-3.0', 'MIT AND GPL-3.0', '(MIT OR ISC) AND GPL-3.0', 'Apache-2.0', 'MIT WITH something', '']
  for (const text of [...unmet, 'MIT OR', '(MIT', 'MIT)', 'MIT ISC', 'SEE LICENSE IN x'])
    t.false(isAllowed(text, allowed), text)
})

test('a dependency is refused for its licence, its name, its source, a missing hash and an install script', (t) => {
  t.deepEqual(refusals(good), [])
  const edits: [Partial<Package>, RegExp][] = [
    [{ licence: 'GPL-2.0' }, /has the licence GPL-2.0/],
    [{ licence: undefined }, /names no licence/],
    [{ name: 'openssl-sys' }, /is banned/],
    [{ isOfRegistry: false }, /does not come from the registry/],
    [{ hash: undefined }, /is not pinned/],
    [{ runsAtInstall: true }, /has an install script/],
  ]
  for (const [edit, wanted] of edits) {
    const faults = refusals({ ...good, ...edit })
    t.is(faults.length, 1, faults.join())
    t.regex(faults[0]!, wanted)
  }
  t.regex(refusals(good, { ...good, version: '2.0.0' }).join(), /several versions: 1.0.0, 2.0.0/)
  t.deepEqual(refusals(good, { ...good, version: '2.0.0', ships: false }), [])
  t.regex(faultsOf([]).join(), /syn is listed as a duplicate/)
})

test('the lockfiles tell where a package is from, whether it is pinned, and whether it ships', (t) => {
  const block = (name: string, source: string, more = '') =>
    `[[package]]\nname = "${name}"\nversion = "1.0.0"\n${source && `source = "${source}"\n`}${more}\n`
  const sum = `checksum = "${'ab'.repeat(32)}"\n`
  const lock = [
    block('imager-native', '', 'dependencies = [\n "one",\n]\n'),
    block('one', 'registry+somewhere', sum),
    block('two', 'registry+elsewhere', sum),
    block('three', 'git+somewhere#1'),
    block('four', ''),
  ].join('')
  const crates = cargoPackages(
    lock,
    [{ name: 'one', version: '1.0.0', license: 'MIT/ISC' }],
    'one v1.0.0 (proc-macro)\n',
  )
  t.deepEqual(crates.needs, ['pkg:cargo/one@1.0.0'])
  t.deepEqual(
    crates.packages.map((one) => [one.name, one.isOfRegistry, one.hash !== undefined, one.ships, one.licence]),
    [
      ['one', true, true, true, 'MIT OR ISC'],
      ['two', false, true, false, undefined],
      ['three', false, false, false, undefined],
      ['four', false, false, false, undefined],
    ],
  )
  const integrity = `sha512-${Buffer.alloc(64, 7).toString('base64')}`
  const npm = npmPackages({
    packages: {
      '': { dependencies: { a: '1' }, devDependencies: { tool: '1' } },
      'node_modules/a': { version: '1.0.0', integrity, dependencies: { b: '1' } },
      'node_modules/a/node_modules/b': { version: '1.0.0', integrity: 'sha1-x' },
      'node_modules/b': { version: '2.0.0', integrity, resolved: 'somewhere' },
      'node_modules/tool': { version: '1.0.0', os: ['darwin'], hasInstallScript: true },
    },
  })
  t.deepEqual(npm.needs, ['pkg:npm/a@1.0.0', 'pkg:npm/tool@1.0.0'])
  t.deepEqual(
    npm.packages.map((one) => [one.version, one.isOfRegistry, one.hash !== undefined, one.ships, one.isElsewhere]),
    [
      ['1.0.0', true, true, true, false],
      ['1.0.0', true, false, true, false],
      ['2.0.0', false, true, false, false],
      ['1.0.0', true, false, false, true],
    ],
  )
  t.deepEqual(npm.packages[0]!.needs, ['pkg:npm/b@1.0.0'])
})

test('a bill of materials that is none is noticed', (t) => {
  const packages = [good, { ...good, name: 'other', needs: ['pkg:cargo/good@1.0.0'] }]
  const make = () => billOf({ project: { name: 'imager', version: '1', needs: ['pkg:cargo/other@1.0.0'] }, packages })
  t.deepEqual(faultsOfBill(make(), packages), [])
  const edits: [(bill: Bill) => unknown, RegExp][] = [
    [(bill) => Object.assign(bill, { specVersion: '1.0' }), /no CycloneDX/],
    [(bill) => bill.components.pop(), /other@1.0.0 is missing/],
    [(bill) => bill.components.push(bill.components[0]!), /stands for two/],
    [(bill) => Object.assign(bill.components[0]!, { version: '' }), /has no name or version/],
    [(bill) => Object.assign(bill.components[0]!, { purl: 'good' }), /no package URL/],
    [(bill) => Object.assign(bill.components[0]!.hashes![0]!, { content: 'ab' }), /a hash that is none/],
    [(bill) => bill.dependencies[0]!.dependsOn.push('pkg:cargo/gone@1'), /gone@1 is depended on/],
  ]
  for (const [edit, wanted] of edits) {
    const bill = structuredClone(make())
    edit(bill)
    t.regex(faultsOfBill(bill, packages).join('\n'), wanted)
  }
})

test('the bill of materials names all of both lockfiles, is the same each time, and names no host', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'imager-bill-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const write = (name: string) => {
    execFileSync(process.execPath, [join(FOLDER, 'main.mjs'), join(folder, name)], { stdio: 'pipe' })
    return read(join(folder, name))
  }
  const text = write('one.json')
  t.is(write('two.json'), text)
  t.notRegex(text, /:\/\//)
  const named = new Set((JSON.parse(text) as Bill).components.map(({ purl }) => decodeURIComponent(purl)))
  const locked = JSON.parse(read('package-lock.json')) as { packages: Record<string, { version: string }> }
  const npm = Object.entries(locked.packages).filter(([path]) => path !== '')
  const crates = [...read('native/Cargo.lock').matchAll(/^name = "(.+)"\nversion = "(.+)"$/gm)]
  t.true(npm.length > 100 && crates.length > 100)
  for (const [path, { version }] of npm)
    t.true(named.has(`pkg:npm/${path.split('node_modules/').pop()}@${version}`), path)
  for (const [, name, version] of crates) {
    t.is(named.has(`pkg:cargo/${name}@${version}`), name !== 'imager-native', name)
  }
})

test('the SQLite that runs was compiled from the source that the lockfile pins', (t) => {
  const header = read('node_modules/better-sqlite3/deps/sqlite3/sqlite3.h')
  const [, source] = /^#define SQLITE_SOURCE_ID\s+"(.+)"$/m.exec(header) ?? []
  const db = new Sqlite(':memory:')
  t.is(db.prepare('SELECT sqlite_source_id()').pluck().get(), source)
  db.close()
  // A ready-made one comes without what node-gyp leaves beside it.
  t.regex(read('node_modules/better-sqlite3/build/Makefile'), /better_sqlite3/)
})
