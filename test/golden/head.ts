/** The head that `head-v1.bin` is, and the keys of its appliance. */
import { readFileSync } from 'node:fs'
import type { Head } from '../../src/keys/head.js'
import { Secret } from '../../src/native.js'
import { fleet, hostOf } from '../keys/fleet.js'

const seed = Secret.fromWords(`${'abandon '.repeat(23)}art`)
const of = (context: string) => seed.derive(`imager v1 golden ${context}`)
export const appliance = of('appliance')
/** C_a. */
export const trailerKey = of('trailer')
const peer = of('peer')
const rootKey = readFileSync(new URL('../../../fixtures/golden/record-root-key-v1.bin', import.meta.url))

export const head: Head = {
  fleet,
  appliance: hostOf(appliance),
  volume: '01'.repeat(16),
  sequence: 2,
  snapshot: '02'.repeat(16),
  parent: '04'.repeat(16),
  time: 1_800_000_000_000,
  root: {
    key: rootKey.toString('base64'),
    ...{ writer: hostOf(appliance), run: '0123456789abcdef', number: 5, ordinal: 9 },
    k: 2,
    m: 1,
    packBytes: 768,
    offset: 270,
    length: 254,
    shards: [0, 2].map((index) => ({ index, host: hostOf(peer) })),
  },
  references: '03'.repeat(32),
}
