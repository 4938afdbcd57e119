#!/usr/bin/env node
// Puts the program and all it imports into one file, build/bin/program.cjs, and what V8 makes of that beside it: a start then
// reads two files instead of some two hundred modules, and compiles little.
import { execFileSync } from 'node:child_process'
import { copyFileSync, rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const at = (path) => fileURLToPath(new URL(path, import.meta.url))
const common = { bundle: true, platform: 'node', target: 'node20', logLevel: 'warning' }

await build({
  ...common,
  entryPoints: [at('../build/src/cli/main.js')],
  outfile: at('../build/bin/program.cjs'),
  format: 'cjs',
  banner: { js: '(function (require, module, url) {' },
  footer: { js: '})' },
  define: { 'import.meta.url': 'url' },
  // A script has no loader of modules; `require` does as well.
  supported: { 'dynamic-import': false },
  // It looks for its compiled part beside itself.
  external: ['better-sqlite3'],
  // yargs measures its help with it, and it loads the rules of all scripts for 25 ms at each start. Our help is ASCII.
  alias: { 'string-width': at('width.mjs') },
})
for (const process of ['disk/watchdog', 'daemon/auditor']) {
  await build({
    ...common,
    entryPoints: [at(`../build/src/${process}.js`)],
    outdir: at('../build/bin'),
    format: 'esm',
    external: ['better-sqlite3'],
  })
}
copyFileSync(at('imager.cjs'), at('../build/bin/imager.cjs'))
rmSync(at('../build/bin/program.cache'), { force: true })
// What was run is kept: all commands are loaded, and one is parsed and ends for want of a fleet.
const keep = `
  const { writeFileSync } = require('node:fs')
  const script = require(${JSON.stringify(at('../build/bin/imager.cjs'))})
  const nowhere = { write: () => true }
  const run = (...argv) => script.main(argv, { stdout: nowhere, stderr: nowhere }, new AbortController().signal)
  run('--help')
    .then(() => run('mount', 'latest', '/nowhere', '--foreground', '--state', '/nowhere'))
    .then(() => writeFileSync(${JSON.stringify(at('../build/bin/program.cache'))}, script.compiled()))`
execFileSync(process.execPath, ['-e', keep], { stdio: 'inherit' })
