// The bill of materials: CycloneDX 1.6 as JSON. It follows from the two lockfiles and is the same on every machine: it has
// no time, no serial number and no address that a package was fetched from.
import { purl } from './packages.mjs'

/** What `readPackages` gives. Pure. */
export function billOf({ project: { name, version, needs }, packages }) {
  const root = `${name}@${version}`
  return {
    ...{ bomFormat: 'CycloneDX', specVersion: '1.6', version: 1 },
    metadata: { component: { type: 'application', 'bom-ref': root, name, version } },
    components: packages.map(componentOf),
    dependencies: [{ ref: root, dependsOn: [...needs].sort() }, ...packages.map(edgesOf)],
  }
}

/** CycloneDX calls `excluded` what is not there when the program runs. */
const componentOf = (one) => ({
  ...{ type: 'library', 'bom-ref': purl(one), name: one.name, version: one.version },
  scope: one.ships ? 'required' : 'excluded',
  ...(one.hash && { hashes: [one.hash] }),
  ...(one.licence && { licenses: [{ expression: one.licence }] }),
  purl: purl(one),
})

const edgesOf = (one) => ({ ref: purl(one), dependsOn: one.needs })

/** One sentence for each thing that makes it no bill of these packages. Pure. */
export function faultsOfBill(bill, packages) {
  const faults = []
  const fault = (holds, text) => holds || faults.push(text)
  fault(bill.bomFormat === 'CycloneDX' && bill.specVersion === '1.6' && bill.version === 1, 'it is no CycloneDX 1.6')
  const refs = bill.components.map((component) => component['bom-ref'])
  const all = new Set([bill.metadata.component['bom-ref'], ...refs])
  fault(all.size === refs.length + 1, 'a reference stands for two components')
  for (const component of bill.components) {
    const text = (value) => typeof value === 'string' && value !== ''
    fault(text(component.name) && text(component.version), `${component['bom-ref']} has no name or version`)
    fault(/^pkg:(cargo|npm)\/[^@]+@[^@]+$/.test(component.purl), `${component.purl} is no package URL`)
    for (const { alg, content } of component.hashes ?? []) {
      const digits = { 'SHA-256': 64, 'SHA-512': 128 }[alg]
      fault(content.length === digits && /^[0-9a-f]+$/.test(content), `${component.purl} has a hash that is none`)
    }
  }
  const unknown = bill.dependencies.flatMap(({ ref, dependsOn }) => [ref, ...dependsOn]).filter((ref) => !all.has(ref))
  for (const ref of unknown) faults.push(`${ref} is depended on and not there`)
  for (const one of packages) fault(all.has(purl(one)), `${purl(one)} is missing`)
  return faults
}
