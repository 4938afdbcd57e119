// What the two lockfiles name, in one form. A package:
//   kind 'cargo' | 'npm' · name · version · licence (SPDX expression, undefined = none given)
//   ships         it is built into the addon, or installed with the program on Linux; false = a tool of development
//   isOfRegistry  false = from a repository, a folder or another registry
//   hash          { alg, content }, content in hex; undefined = not pinned
//   isElsewhere   it is never installed on the platforms that imager is built for
//   runsAtInstall it has an install script of npm
//   needs         purls of what it depends on
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

const MANIFEST = 'native/Cargo.toml'
/** As `napi.targets` in package.json. */
const TARGETS = ['x86_64-unknown-linux-gnu', 'aarch64-unknown-linux-gnu']
const CPUS = ['x64', 'arm64']

export const purl = ({ kind, name, version }) =>
  `pkg:${kind}/${name.replace('@', '%40')}@${encodeURIComponent(version)}`

/** The addon's own entry in Cargo.lock. */
const ADDON = 'imager-native'

/** `packages` in the order of their purls, each once; `project` = imager itself, with what it needs. */
export function readPackages() {
  const cargoLock = readFileSync('native/Cargo.lock', 'utf8')
  const { packages: described } = JSON.parse(cargo('metadata', '--format-version=1'))
  // `cargo metadata` takes what a feature might switch on for built; the tree does not.
  const tree = cargo('tree', '--edges=normal,build', '--prefix=none', ...TARGETS.map((one) => `--target=${one}`))
  const crates = cargoPackages(cargoLock, described, tree)
  const npmLock = JSON.parse(readFileSync('package-lock.json', 'utf8'))
  const npm = npmPackages(npmLock)
  const { name, version } = npmLock.packages['']
  return {
    project: { name, version, needs: [...crates.needs, ...npm.needs] },
    packages: sorted([...crates.packages, ...npm.packages]),
  }
}

function cargo(command, ...args) {
  return execFileSync('cargo', [command, '--locked', `--manifest-path=${MANIFEST}`, ...args], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
}

/** `lock` = text of Cargo.lock; `described` = packages of `cargo metadata`; `tree` = lines of `cargo tree`. */
export function cargoPackages(lock, described, tree) {
  const key = ({ name, version }) => `${name} ${version}`
  const licences = new Map(described.map((one) => [key(one), one.license?.replaceAll('/', ' OR ')]))
  const ships = new Set([...tree.matchAll(/^(\S+) v(\S+)/gm)].map(([, name, version]) => `${name} ${version}`))
  const blocks = lock.split('[[package]]').slice(1)
  const locked = blocks.map((block) => {
    const field = (name) => new RegExp(`^${name} = "(.*)"$`, 'm').exec(block)?.[1]
    const needs = /^dependencies = \[([^\]]*)\]/m.exec(block)?.[1] ?? ''
    return {
      ...{ name: field('name'), version: field('version'), source: field('source'), checksum: field('checksum') },
      needs: [...needs.matchAll(/"([^"]+)"/g)].map(([, text]) => text),
    }
  })
  // A version stands behind a name only where there are several.
  const named = (text) => {
    const [name, version] = text.split(' ')
    const found = locked.find((one) => one.name === name && (version === undefined || one.version === version))
    if (!found) throw new Error(`Cargo.lock names ${text} and does not have it`)
    return purl({ kind: 'cargo', ...found })
  }
  const registry = locked.find(({ source }) => source?.startsWith('registry+'))?.source
  const isAddon = ({ name, source }) => name === ADDON && source === undefined
  const packages = locked
    .filter((one) => !isAddon(one))
    .map((one) => ({
      ...{ kind: 'cargo', name: one.name, version: one.version, licence: licences.get(key(one)) },
      ships: ships.has(key(one)),
      isOfRegistry: one.source !== undefined && one.source === registry,
      hash: one.checksum === undefined ? undefined : { alg: 'SHA-256', content: one.checksum },
      ...{ isElsewhere: false, runsAtInstall: false },
      needs: one.needs.map(named),
    }))
  return { packages, needs: locked.filter(isAddon).flatMap(({ needs }) => needs.map(named)) }
}

/** `lock` = package-lock.json. The program's are those that its `dependencies` lead to. */
export function npmPackages({ packages }) {
  const nameOf = (path) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)
  /** Where `name` is found from `path`: in its own folder, or in one above it. */
  const resolve = (path, name) => {
    for (let at = path; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
      const candidate = `${at === '' ? '' : `${at}/`}node_modules/${name}`
      if (packages[candidate]) return candidate
      if (at === '') return undefined
    }
  }
  const needsOf = (path) => {
    const { dependencies, optionalDependencies } = packages[path]
    return Object.keys({ ...dependencies, ...optionalDependencies }).flatMap((name) => resolve(path, name) ?? [])
  }
  const ships = new Set()
  const reach = (path) => {
    if (ships.has(path)) return
    ships.add(path)
    needsOf(path).forEach(reach)
  }
  needsOf('').forEach(reach)
  const purlOf = (path) => purl({ kind: 'npm', name: nameOf(path), version: packages[path].version })
  const named = Object.entries(packages)
    .filter(([path]) => path !== '')
    .map(([path, { version, license, resolved, link, integrity, os, cpu, libc, hasInstallScript }]) => ({
      ...{ kind: 'npm', name: nameOf(path), version, licence: license },
      ships: ships.has(path),
      isOfRegistry: resolved === undefined && !link,
      hash: sha512(integrity),
      isElsewhere: !mayRun(os, ['linux']) || !mayRun(cpu, CPUS) || !mayRun(libc, ['glibc']),
      runsAtInstall: hasInstallScript === true,
      needs: needsOf(path).map(purlOf),
    }))
  const tools = Object.keys(packages[''].devDependencies ?? {}).map((name) => `node_modules/${name}`)
  return { packages: named, needs: [...needsOf(''), ...tools].map(purlOf) }
}

const mayRun = (listed, ours) => listed === undefined || ours.some((one) => listed.includes(one))

function sha512(integrity) {
  const base64 = /^sha512-([A-Za-z0-9+/]{86}==)$/.exec(integrity ?? '')?.[1]
  return base64 === undefined ? undefined : { alg: 'SHA-512', content: Buffer.from(base64, 'base64').toString('hex') }
}

/** The same version in two folders of npm is one package. */
function sorted(packages) {
  const byPurl = new Map()
  for (const one of packages) {
    const known = byPurl.get(purl(one))
    const needs = [...new Set([...(known?.needs ?? []), ...one.needs])].sort()
    byPurl.set(purl(one), { ...one, needs, ships: one.ships || known?.ships === true })
  }
  return [...byPurl].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one)
}
