#!/usr/bin/env node
// Starts the program with what V8 compiled of it when it was built (scripts/bundle.mjs). Another version of Node refuses
// that, and compiles again: slower, and else the same.
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
