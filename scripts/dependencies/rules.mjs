// What a dependency may be: its licence, its source, its name. docs/decisions/0026 says why this is no `cargo deny`.

/** Of everything. A choice (`OR`) is fine when one of its licences is here. */
const LICENCES = ['MIT', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', 'CC0-1.0', 'Unicode-3.0']
/** Of tools that only build and test. */
const LICENCES_OF_TOOLS = [...LICENCES, 'BlueOak-1.0.0', 'PSF-2.0']

/** Never, not even behind something else. */
const BANNED = {
  openssl: 'TLS is rustls on AWS-LC: one TLS library',
  'openssl-sys': 'TLS is rustls on AWS-LC: one TLS library',
  'native-tls': 'TLS is rustls on AWS-LC: one TLS library',
  ntfs: 'loses files without an error (decision 2)',
  'ntfs-core': 'loses names (decision 2)',
  'ext4fs-core': 'a forged node ends the process (decision 2)',
  'xfs-core': 'reads wrong blocks without an error (decision 2)',
  'btrfs-core': 'reads one leaf only (decision 2)',
  'fuse-native': 'deadlocks when its own process reads the mount (decision 1)',
}

/** Of what ships, more than one version. Each is here by name, or it is a fault. */
const DUPLICATES = {
  syn: 'macros of the crates that others use, at build time only: they move to 3 one by one',
  'string-width': 'cliui and wrap-ansi, both of yargs, have not moved to 8 yet',
}

/** npm packages with an install script, and what comes of it. */
const INSTALL_SCRIPTS = {
  'better-sqlite3': 'compiles SQLite (decision 27)',
  esbuild: 'checks the binary that npm put beside it; an npm that knows `allowScripts` does not run it',
}

export const RULES = {
  ...{ licences: LICENCES, licencesOfTools: LICENCES_OF_TOOLS, banned: BANNED },
  ...{ duplicates: DUPLICATES, installScripts: INSTALL_SCRIPTS },
}

/** One sentence for each thing that is not as it should be. Packages as `readPackages` gives them. Pure. */
export function faultsOf(packages, rules = RULES) {
  return [...packages.flatMap((one) => faultsOfOne(one, rules)), ...duplicateFaults(packages, rules.duplicates)]
}

function faultsOfOne(one, { licences, licencesOfTools, banned, installScripts }) {
  const faults = []
  const allowed = one.kind === 'cargo' || one.ships ? licences : licencesOfTools
  if (one.licence === undefined) faults.push('names no licence')
  else if (!isAllowed(one.licence, allowed)) faults.push(`has the licence ${one.licence}, which is not on the list`)
  if (Object.hasOwn(banned, one.name)) faults.push(`is banned: ${banned[one.name]}`)
  if (!one.isOfRegistry) faults.push('does not come from the registry')
  if (one.hash === undefined && !one.isElsewhere) faults.push('is not pinned by a hash')
  if (one.runsAtInstall && !Object.hasOwn(installScripts, one.name)) faults.push('has an install script')
  return faults.map((fault) => `${one.kind} ${one.name} ${one.version} ${fault}`)
}

function duplicateFaults(packages, duplicates) {
  const versions = new Map()
  for (const { kind, name, version, ships } of packages) {
    const key = `${kind} ${name}`
    if (ships) versions.set(key, new Set([...(versions.get(key) ?? []), version]))
  }
  const several = [...versions].filter(([, { size }]) => size > 1)
  const nameOf = (key) => key.split(' ')[1]
  const gone = Object.keys(duplicates).filter((name) => !several.some(([key]) => nameOf(key) === name))
  return [
    ...several
      .filter(([key]) => !Object.hasOwn(duplicates, nameOf(key)))
      .map(([key, found]) => `${key} is there in several versions: ${[...found].join(', ')}`),
    ...gone.map((name) => `${name} is listed as a duplicate and is none any more`),
  ]
}

/** Whether an SPDX expression can be met with `allowed` licences. A text that is none is refused. */
export function isAllowed(expression, allowed) {
  const words = expression.match(/[()]|[^\s()]+/g) ?? []
  let at = 0
  const word = () => words[at++]
  const term = () => {
    if (words[at] !== '(') return licence()
    at++
    const value = choice()
    return word() === ')' && value
  }
  const licence = () => {
    const name = word()
    if (words[at] !== 'WITH') return allowed.includes(name)
    at++
    return allowed.includes(`${name} WITH ${word()}`)
  }
  const chain = (operator, next, join) => () => {
    let value = next()
    while (words[at] === operator) {
      at++
      value = join(value, next())
    }
    return value
  }
  const all = chain('AND', term, (a, b) => a && b)
  const choice = chain('OR', all, (a, b) => a || b)
  const value = choice()
  return value && at === words.length
}
