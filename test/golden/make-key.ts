/** HPKE is randomised: each time they are other bytes. */
import { RECOVERY, sealEntry } from '../../src/keys/entry.js'
import { deriveRoot } from '../../src/keys/root.js'
import { Secret } from '../../src/native.js'
import { fleet, hostOf, sealingOf } from '../keys/fleet.js'
import { writeGolden } from './golden-file.js'

// The values of test/keys/golden.test.ts.
const seed = Secret.fromWords(`${'abandon '.repeat(23)}art`)
const of = (context: string) => seed.derive(`imager v1 golden ${context}`)
const [appliance, manifestKey] = [of('appliance'), of('manifest')]
const owner = hostOf(appliance)
const own = { fleet, term: 3, purpose: 'manifest' as const, owner }
const itself = { reader: owner, readerSealing: sealingOf(appliance) }
const words = { reader: RECOVERY, readerSealing: deriveRoot(seed).rootSealing }
writeGolden('key-host', sealEntry(manifestKey, { ...own, ...itself }, appliance))
const ofVolume = { ...own, ...itself, purpose: 'domain' as const, volume: '3e'.repeat(16) }
writeGolden('key-volume', sealEntry(of('private domain'), ofVolume, appliance))
writeGolden('key-recovery', sealEntry(manifestKey, { ...own, ...words }, appliance))
