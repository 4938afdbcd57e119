/**
 * The shape of the code. A room imports itself and earlier rooms; the addon has one importer; nothing lies about unused;
 * only the command line talks to the terminal.
 */
import test from 'ava'
import { filesUnder, importsOf, read, resolveImport, startsOf, withoutComments } from './sources.js'

/** The rooms in the order of the data's way. A file imports its own room or one above it. */
const ROOMS = [
  'base',
  'native.ts',
  'disk',
  'stripes',
  'keys',
  'wire',
  'peers',
  'signatures',
  'catalog',
  'coordinator',
  'retrieve',
  'fleet',
  'jobs',
  'mount',
  'daemon',
  'cli',
]
const ENTRY_POINTS = ['src/cli/main.ts']
const ADDON_IMPORTER = 'src/native.ts'
const MAX_LINES = 500

const files = filesUnder('src', '.ts')
const rustFiles = filesUnder('native/src', '.rs')
const room = (path: string) => path.split('/')[1] ?? ''
/** Seen from src/, or from where the built file will lie. */
const isAddon = (path: string) => /^(\.\.\/)?native\//.test(path)
const filesNamed = (file: string, names: readonly string[]) => names.flatMap((name) => resolveImport(file, name) ?? [])
const imports = new Map(files.map((file) => [file, filesNamed(file, importsOf(read(file)))]))
const starts = new Map(files.map((file) => [file, filesNamed(file, startsOf(read(file)))]))

test('every file lies in a room', (t) => {
  t.deepEqual(
    files.filter((file) => !ROOMS.includes(room(file))),
    [],
  )
})

test('every import leads to a file', (t) => {
  for (const [file, targets] of [...imports, ...starts]) {
    for (const target of targets) t.true(isAddon(target) || imports.has(target), `${file} imports ${target}`)
  }
  t.pass()
})

test('no file imports a later room', (t) => {
  const later = [...imports].flatMap(([file, targets]) =>
    targets
      .filter((target) => !isAddon(target) && ROOMS.indexOf(room(target)) > ROOMS.indexOf(room(file)))
      .map((target) => `${file} imports ${target}`),
  )
  t.deepEqual(later, [])
})

test('no files import each other in a circle', (t) => {
  const done = new Set<string>()
  const circles: string[] = []
  const visit = (file: string, way: readonly string[]) => {
    if (way.includes(file)) circles.push([...way.slice(way.indexOf(file)), file].join(' > '))
    if (done.has(file) || way.includes(file)) return
    for (const target of imports.get(file) ?? []) visit(target, [...way, file])
    done.add(file)
  }
  for (const file of files) visit(file, [])
  t.deepEqual(circles, [])
})

test('only src/native.ts imports the addon', (t) => {
  const importers = [...imports].filter(([, targets]) => targets.some(isAddon)).map(([file]) => file)
  const namers = files.filter((file) => /\.node['"]/.test(withoutComments(read(file))))
  t.deepEqual(
    [...new Set([...importers, ...namers])].filter((file) => file !== ADDON_IMPORTER),
    [],
  )
})

test('every file is reached from an entry point', (t) => {
  const reached = new Set<string>()
  const visit = (file: string) => {
    if (reached.has(file)) return
    reached.add(file)
    imports.get(file)?.forEach(visit)
    starts.get(file)?.forEach(visit)
  }
  ENTRY_POINTS.forEach(visit)
  t.deepEqual(
    files.filter((file) => !reached.has(file)),
    [],
  )
})

/** Tests at the foot of a Rust file do not count. */
test('files stay small enough to see', (t) => {
  const long = [...files, ...rustFiles]
    .map((file) => ({ file, lines: read(file).split('#[cfg(test)]\nmod ')[0]!.split('\n').length - 1 }))
    .filter(({ lines }) => lines > MAX_LINES)
  t.deepEqual(long, [])
})

test('only the command line prints and ends the process', (t) => {
  const talkers = files.filter(
    (file) => room(file) !== 'cli' && /\bconsole\.|\bprocess\.exit\b/.test(withoutComments(read(file))),
  )
  t.deepEqual(talkers, [])
})

test('napi is named only under native/src/bind', (t) => {
  const namers = rustFiles.filter(
    (file) => !file.startsWith('native/src/bind/') && /\bnapi(_derive)?\b/.test(withoutComments(read(file))),
  )
  t.deepEqual(namers, [])
})

for (const parsers of ['disk', 'fs']) {
  test(`native/src/${parsers} holds no unsafe code`, (t) => {
    t.regex(read(`native/src/${parsers}/mod.rs`), /^#!\[forbid\(unsafe_code\)\]$/m)
    const allowed = rustFiles.filter(
      (file) => file.startsWith(`native/src/${parsers}/`) && /\bunsafe\b(?!_)/.test(withoutComments(read(file))),
    )
    t.deepEqual(allowed, [])
  })
}

test('imports are found however they are written', (t) => {
  const source = `import a, { type B } from './a.js'
    import {
      c, // from './no.js'
    } from '../c.js'
    import './d.js'
    export * from './e.js'
    const f = async () => await import('./f.js')
    const g = createRequire(import.meta.url)('../../native/index.js') // import './no.js'
    type H = typeof import('./h.js')
    /* import './no.js' */ const text = 'https://example.org/x'`
  const found = importsOf(`${source}\nconst j = require('./j.js')`).sort()
  t.deepEqual(found, ['../../native/index.js', '../c.js', './a.js', './d.js', './e.js', './f.js', './h.js', './j.js'])
})

test('files that are started are found', (t) => {
  t.deepEqual(startsOf("fork(new URL('./i.js', import.meta.url)); read(new URL('../package.json', import.meta.url))"), [
    './i.js',
  ])
})
