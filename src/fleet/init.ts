/**
 * Founds a fleet: the recovery seed, the root it gives, the coordinator's identity and duties, the first shared keys and
 * the first membership. The seed leaves as words once, when all but the last step is done; after that only what the root
 * signed or sealed remains. So a founding that is cut short leaves no fleet whose words nobody has, and is begun again.
 */
import { randomBytes } from 'node:crypto'
import { type Hex, toHex } from '../base/ids.js'
import { DUTIES, signDelegation } from '../keys/delegation.js'
import { type KeyPurpose, makeKey } from '../keys/entry.js'
import { createHome, type Home, type NewHome, prepareIdentity } from '../keys/home.js'
import { admitAll, readersOf, signMembership } from '../keys/membership.js'
import { deriveRoot } from '../keys/root.js'
import { Secret, type SecretHandle } from '../native.js'

export interface InitOptions {
  state: string
  name: string
  /** What fails with it; undefined: nothing. */
  domain?: string | undefined
  /** Where the coordinator will listen, and where others reach it. */
  listen: string
  address: string
  /** Of the words that an attempt which was cut short has put into a file; else a new one is made. */
  seed?: SecretHandle
  /** Puts the 24 words where their owner will find them; what it throws stops the founding. */
  keepWords(words: string, founded: { fleet: Hex; host: Hex }): void
}

const FIRST_TERM = 1
const SHARED: readonly KeyPurpose[] = ['domain', 'catalog']

export function initFleet(options: InitOptions): Home {
  const identity = prepareIdentity(options.state)
  const host = toHex(identity.signingKey())
  const fleet = toHex(randomBytes(16))
  const seed = options.seed ?? Secret.random()
  const root = deriveRoot(seed)
  const delegations = DUTIES.map((duty) => signDelegation({ fleet, term: FIRST_TERM, duty, host }, root.secret))
  const { name, domain = host, address } = options
  const self = { host, sealing: toHex(identity.sealingKey()), name, role: 'coordinator' as const, domain }
  const membership = signMembership(
    {
      fleet,
      sequence: 1,
      term: FIRST_TERM,
      delegations: delegations.map((bytes) => bytes.toString('base64')),
      hosts: admitAll([self], fleet, FIRST_TERM, root.secret),
      removals: [],
    },
    root.secret,
    readersOf([self], [], root.rootSealing),
  )
  const maker = { fleet, term: FIRST_TERM, rootSealing: root.rootSealing, identity }
  const keys = SHARED.flatMap((purpose) => makeKey(purpose, maker))
  const founded: NewHome = {
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
  }
  return createHome(founded, () => options.keepWords(seed.words(), { fleet, host }))
}
