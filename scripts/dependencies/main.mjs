#!/usr/bin/env node
// Checks what imager depends on (rules.mjs) and, when given a file's name, writes the bill of materials there (bill.mjs).
// From the repository's root; exit code 1 and a sentence for each fault.
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { billOf, faultsOfBill } from './bill.mjs'
import { readPackages } from './packages.mjs'
import { faultsOf } from './rules.mjs'

const [path] = process.argv.slice(2)
const read = readPackages()
const bill = billOf(read)
const faults = [...faultsOf(read.packages), ...faultsOfBill(bill, read.packages)]
for (const fault of faults) console.error(fault)
if (path !== undefined) {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, `${JSON.stringify(bill, null, 2)}\n`)
}
const count = (kind) => read.packages.filter((one) => one.kind === kind).length
console.log(`${count('cargo')} crates and ${count('npm')} npm packages, ${faults.length} faults`)
process.exitCode = faults.length > 0 ? 1 : 0
