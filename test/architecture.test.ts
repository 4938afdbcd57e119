/**
 * The shape of the code. A room imports itself and earlier rooms; the addon has one importer; nothing lies about unused;
 * only the command line talks to the terminal.
 */
import { existsSync } from 'node:fs'
import test from 'ava'
import {
  circlesIn,
  filesUnder,
  importsOf,
  read,
  resolveImport,
  rustImports,
  startsOf,
  withoutComments,
  withoutRustTests,
} from './sources.js'

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
/** The same for the addon's rooms. */
const RUST_ROOMS = [
  'base',
  'disk',
  'fs',
  'formats',
  'map',
  'stripes',
  'snapshot',
  'wire',
  'signatures',
  'retrieve',
  'restore',
  'mount',
  'bind',
]
/** Not in a room: what names the rooms. */
const RUST_ROOT = 'native/src/lib.rs'
/** Which room or job of `src` each of them serves; or why there is none. */
const SERVES: Record<string, string> = {
  base: 'none: every room of the addon stands on it',
  disk: 'src/disk',
  fs: 'none: it parses, and only the map asks it',
  formats: 'none: bytes have one owner in each language; docs/formats says which',
  map: 'src/jobs/map',
  stripes: 'src/stripes',
  snapshot: 'src/jobs/snapshot',
  wire: 'src/wire',
  signatures: 'src/signatures',
  retrieve: 'src/retrieve',
  restore: 'src/jobs/restore',
  mount: 'src/mount',
  bind: 'none: src/native.ts is its other side, for all of them',
}
const ENTRY_POINTS = ['src/cli/main.ts']
const ADDON_IMPORTER = 'src/native.ts'
const MAX_LINES = 500

const files = filesUnder('src', '.ts')
const rustFiles = filesUnder('native/src', '.rs')
const room = (path: string) => path.split('/')[1] ?? ''
const rustRoom = (path: string) => path.split('/')[2] ?? ''
/** Seen from src/, or from where the built file will lie. */
const isAddon = (path: string) => /^(\.\.\/)?native\//.test(path)
const filesNamed = (file: string, names: readonly string[]) => names.flatMap((name) => resolveImport(file, name) ?? [])
const imports = new Map(files.map((file) => [file, filesNamed(file, importsOf(read(file)))]))
const rustNames = rustImports('native/src', rustFiles)
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
  t.deepEqual(circlesIn(imports), [])
})

test('every file of the addon lies in a room', (t) => {
  const homeless = rustFiles.filter((file) => file !== RUST_ROOT && !RUST_ROOMS.includes(rustRoom(file)))
  t.deepEqual(homeless, [])
})

test('no file of the addon imports a later room', (t) => {
  const place = (file: string) => RUST_ROOMS.indexOf(rustRoom(file))
  const later = [...rustNames].flatMap(([file, targets]) =>
    targets
      .filter((target) => file !== RUST_ROOT && place(target) > place(file))
      .map((target) => `${file} > ${target}`),
  )
  t.deepEqual(later, [])
})

test('no files of the addon import each other in a circle', (t) => {
  t.deepEqual(circlesIn(rustNames), [])
})

test('no file of the addon gives out what another owns', (t) => {
  const lenders = rustFiles.filter((file) => /\bpub(\([^)]*\))? use\b/.test(withoutComments(read(file))))
  t.deepEqual(lenders, [])
})

test('each room of the addon serves one of src, or says why it serves none', (t) => {
  t.deepEqual(Object.keys(SERVES), RUST_ROOMS)
  const absent = Object.values(SERVES).filter((served) => !served.startsWith('none: ') && !existsSync(served))
  t.deepEqual(absent, [])
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
    .map((file) => ({ file, lines: withoutRustTests(read(file)).split('\n').length - 1 }))
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

test('imports of Rust are found however they are written', (t) => {
  const named = rustImports('native/src', rustFiles)
  const names = (file: string) => named.get(`native/src/${file}.rs`) ?? []
  t.true(names('map/scan').includes('native/src/fs/mod.rs'), 'use crate::fs::{self, Outcome}')
  t.true(names('wire/stream').includes('native/src/wire/broken.rs'), 'use super::broken::Broken')
  t.true(names('disk/mod').includes('native/src/disk/gpt.rs'), 'gpt::read, a module below')
  t.true(names('bind/mod').includes('native/src/base/error.rs'), 'crate::base::error::Result in code')
})
