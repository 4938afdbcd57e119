#!/usr/bin/env node
// Run after npm has changed package-lock.json. npm leaves out optional packages for other platforms when it cannot look
// them up, and `npm ci` then refuses the whole file. This names them, with the platform that their name says.
import { readFileSync, writeFileSync } from 'node:fs'

const path = new URL('../package-lock.json', import.meta.url)
const lock = JSON.parse(readFileSync(path, 'utf8'))
const platform = /-(android|aix|darwin|freebsd|linux|netbsd|openbsd|openharmony|sunos|wasm32|win32)-(\w+?)(?:-(\w+))?$/
const missing = []
for (const [parent, { optionalDependencies = {}, dev, license }] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(optionalDependencies)) {
    if (lock.packages[`${parent}/node_modules/${name}`] || lock.packages[`node_modules/${name}`]) continue
    const [, os, cpu, abi = ''] = platform.exec(`-${name.split('/').pop()}`) ?? []
    if (!os || !/^\d+\.\d+\.\d+$/.test(version)) throw new Error(`cannot tell the platform or version of ${name}`)
    const libc = os !== 'linux' ? undefined : /^musl/.test(abi) ? ['musl'] : /^gnu/.test(abi) ? ['glibc'] : undefined
    const place = os === 'wasm32' ? { cpu: [os] } : { cpu: [cpu], os: [os] }
    missing.push(name)
    lock.packages[`node_modules/${name}`] = { version, dev, license, optional: true, libc, ...place }
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => a.localeCompare(b, 'en')))
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`)
process.stdout.write(missing.length > 0 ? `Named ${missing.length} packages.\n` : '')
