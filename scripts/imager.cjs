#!/usr/bin/env node
// Starts the program with what V8 compiled of it when it was built (scripts/bundle.mjs). Another version of Node refuses
// that, and compiles again: slower, and else the same.

// On SIGUSR1 Node would open its inspector, in which any user of this machine could run code as this one. What opened before
// this line is closed again, unless it was asked for.
process.on('SIGUSR1', () => {})
const closeInspector = () => {
  const inspector = require('node:inspector')
  if (inspector.url() !== undefined) inspector.close()
}
if (
  process.features.inspector &&
  !/--inspect(?!-port)/.test([...process.execArgv, process.env.NODE_OPTIONS].join(' '))
) {
  setImmediate(closeInspector)
  setTimeout(closeInspector, 250).unref()
}

const { readFileSync } = require('node:fs')
const { join } = require('node:path')
const { pathToFileURL } = require('node:url')
const { Script } = require('node:vm')

const filename = join(__dirname, 'program.cjs')
let cachedData
try {
  cachedData = readFileSync(join(__dirname, 'program.cache'))
} catch {
  // While it is being built.
}
const script = new Script(readFileSync(filename, 'utf8'), { filename, cachedData })
script.runInThisContext()(require, module, pathToFileURL(__filename).href)
module.exports.compiled = () => script.createCachedData()
