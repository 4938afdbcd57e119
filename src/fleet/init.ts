/**
 * Founds a fleet: the recovery seed, the root it gives, the coordinator's identity and duties, the first shared keys and
 * the first membership. The seed leaves as words once; after that only what the root signed or sealed remains.
 */
import { randomBytes } from 'node:crypto'
import { toHex } from '../base/ids.js'
import { DUTIES, signDelegation } from '../keys/delegation.js'
import { createHome, type Home, prepareIdentity } from '../keys/home.js'
import { type KeyPurpose, makeKey } from '../keys/keybag.js'
import { signMembership } from '../keys/membership.js'
import { deriveRoot } from '../keys/root.js'
import { Secret } from '../native.js'

export interface InitOptions {
  state: string
  name: string
  domain: string
  /** Where the coordinator will listen, and where others reach it. */
  listen: string
  address: string
  /** Puts the 24 words where their owner will find them; what it throws stops the founding. */
  keepWords(words: string): void
}

const FIRST_TERM = 1
const SHARED: readonly KeyPurpose[] = ['domain', 'catalog']

export function initFleet(options: InitOptions): Home {
  const identity = prepareIdentity(options.state)
  const host = toHex(identity.signingKey())
  const fleet = toHex(randomBytes(16))
  const seed = Secret.random()
  const root = deriveRoot(seed)
  const delegations = DUTIES.map((duty) => signDelegation({ fleet, term: FIRST_TERM, duty, host }, root.secret))
  const { name, domain, address } = options
  const addresses = [address]
  const membership = signMembership(
    {
      fleet,
      sequence: 1,
      term: FIRST_TERM,
      delegations: delegations.map((bytes) => bytes.toString('base64')),
      hosts: [{ host, sealing: toHex(identity.sealingKey()), name, role: 'coordinator', domain, addresses }],
    },
    identity,
  )
  const keys = SHARED.flatMap((purpose) => makeKey(purpose, fleet, root.rootSealing, identity))
  options.keepWords(seed.words())
  return createHome({
    state: options.state,
    fleet,
    rootKey: root.rootKey,
    rootSealing: root.rootSealing,
    role: 'coordinator',
    name,
    coordinator: { key: host, address },
    listen: options.listen,
    membership,
    keys,
  })
}
