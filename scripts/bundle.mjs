#!/usr/bin/env node
// Puts the program and all it imports into build/bin: a start then reads one file instead of some two hundred modules.
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const at = (path) => fileURLToPath(new URL(path, import.meta.url))

await build({
  entryPoints: [at('../build/src/cli/main.js'), at('../build/src/disk/watchdog.js')],
  outdir: at('../build/bin'),
  entryNames: '[name]',
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  minifyWhitespace: true,
  // It looks for its compiled part beside itself.
  external: ['better-sqlite3'],
  // yargs measures its help with it, and it loads the rules of all scripts for 25 ms at each start. Our help is ASCII.
  alias: { 'string-width': at('width.mjs') },
  logLevel: 'warning',
})
