/** The values behind `checkpoint-v1.bin` and `cosignature-v1.bin`. */
import { type CheckpointBody, openCheckpoint, signCheckpoint, signCosignature } from '../../src/keys/checkpoint.js'
import { signDelegation } from '../../src/keys/delegation.js'
import { encodeHeadId, HeadSet } from '../../src/keys/head-set.js'
import { deriveRoot } from '../../src/keys/root.js'
import { Secret } from '../../src/native.js'
import { fleet, hostOf } from '../keys/fleet.js'

const seed = Secret.fromWords(`${'abandon '.repeat(23)}art`)
const of = (context: string) => seed.derive(`imager v1 golden ${context}`)
const [coordinator, peer] = [of('coordinator'), of('peer')]
const root = deriveRoot(seed)
const time = 1_800_000_000_000

/** Two of one bucket, one of another. */
export const heads = HeadSet.empty.with(
  Buffer.concat(
    ['0a01', '0b02', '0a03'].map((digits) =>
      encodeHeadId({ appliance: 'c1'.repeat(32), snapshot: digits.repeat(8).slice(0, 32) }),
    ),
  ),
)
const none = { count: 0, root: HeadSet.empty.root }

export const body: CheckpointBody = {
  fleet,
  term: 3,
  sequence: 12,
  previous: '0d'.repeat(32),
  membership: '0e'.repeat(32),
  heads: { count: heads.size, root: heads.root },
  removals: none,
  policy: null,
  time,
  delegation: signDelegation({ fleet, term: 3, duty: 'coordinator', host: hostOf(coordinator) }, root.secret).toString(
    'base64',
  ),
}
export const { rootKey } = root
export const witness = hostOf(peer)

export const checkpoint = (): Buffer => signCheckpoint(body, coordinator)

export const cosignature = (): Buffer =>
  signCosignature(openCheckpoint(checkpoint(), fleet, rootKey), time + 1000, peer)
