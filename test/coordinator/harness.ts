/** A real fleet on temporary folders: root, a coordinator that serves on loopback, and members with identities of their own. */
import type { ExecutionContext } from 'ava'
import { type Hex, toHex } from '../../src/base/ids.js'
import { LocalCatalog } from '../../src/catalog/local.js'
import { type HeadFacts, partsOf } from '../../src/catalog/parts.js'
import { RemoteCatalog } from '../../src/coordinator/client.js'
import { type CoordinatorParts, serveCoordinator } from '../../src/coordinator/server.js'
import { tlsIdentity } from '../../src/keys/certificate.js'
import { type Duty, signDelegation } from '../../src/keys/delegation.js'
import { deriveTrailerKey, sealEntry } from '../../src/keys/entry.js'
import type { Role } from '../../src/keys/fields.js'
import { signHead } from '../../src/keys/head.js'
import { createHome, type Home, prepareIdentity } from '../../src/keys/home.js'
import { admitAll, readersOf, signMembership } from '../../src/keys/membership.js'
import { hash, Secret, type SecretHandle } from '../../src/native.js'
import { readReceipt } from '../../src/stripes/receipt.js'
import { Connection } from '../../src/wire/client.js'
import { hex, TurnedClock, temporaryFolder } from '../catalog/harness.js'

export const FLEET = '0f'.repeat(16)
const DUTIES: Duty[] = ['coordinator', 'enroller', 'holder', 'pruner']

export interface Office {
  root: SecretHandle
  home: Home
  state: string
  catalog: LocalCatalog
  clock: TurnedClock
  address: string
  domainKey: SecretHandle
  catalogKey: SecretHandle
  /** What was handed to `onDocument`. */
  documents: { kind: string; name: string; bytes: Buffer }[]
  /** Connects with this identity. */
  connect(secret: SecretHandle): { connection: Connection; catalog: RemoteCatalog }
  /** Admits a host with a new identity and connects with it. */
  member(
    role: Role,
    name: string,
    own?: SecretHandle,
  ): { host: Hex; secret: SecretHandle; connection: Connection; catalog: RemoteCatalog }
}

export const keyOf = (secret: SecretHandle): Hex => toHex(secret.signingKey())
export const sealingOf = (secret: SecretHandle): Hex => toHex(secret.sealingKey())

export function foundFleet(state: string, root: SecretHandle, domainKey: SecretHandle, catalogKey: SecretHandle): Home {
  const secret = prepareIdentity(state)
  const host = keyOf(secret)
  const delegations = DUTIES.map((duty) =>
    signDelegation({ fleet: FLEET, term: 1, duty, host }, root).toString('base64'),
  )
  const me = { host, sealing: sealingOf(secret), name: 'office', role: 'coordinator' as const, domain: 'd' }
  const membership = signMembership(
    { fleet: FLEET, sequence: 1, term: 1, delegations, hosts: admitAll([me], FLEET, 1, root), removals: [] },
    root,
    readersOf([me], [], sealingOf(root)),
  )
  const to = { fleet: FLEET, term: 1, owner: host, reader: host, readerSealing: sealingOf(secret) }
  const keys = [
    sealEntry(domainKey, { ...to, purpose: 'domain' }, root),
    sealEntry(catalogKey, { ...to, purpose: 'catalog' }, root),
  ]
  const rootKeys = { rootKey: keyOf(root), rootSealing: sealingOf(root) }
  const coordinator = { key: host, address: '127.0.0.1:7420' }
  const config = { fleet: FLEET, ...rootKeys, role: 'coordinator' as const, name: 'office', coordinator, listen: null }
  return createHome({ state, ...config, membership, keys })
}

export async function openOffice(t: ExecutionContext, parts: Partial<CoordinatorParts> = {}): Promise<Office> {
  const folder = temporaryFolder()
  const [root, domainKey, catalogKey] = [Secret.random(), Secret.random(), Secret.random()]
  const home = foundFleet(folder.path, root, domainKey, catalogKey)
  const clock = new TurnedClock(Date.now())
  // Peers here are names only: what they sign is what `held` makes.
  const catalog = LocalCatalog.open(folder.path, { ...partsOf(home, clock), openReceipt: readReceipt })
  const documents: Office['documents'] = []
  const onDocument = (kind: string, name: string, bytes: Buffer) => void documents.push({ kind, name, bytes })
  const served = await serveCoordinator({ home, catalog, listen: '127.0.0.1:0', onDocument, ...parts })
  const connections: Connection[] = []
  t.teardown(async () => {
    for (const connection of connections) connection.close()
    await served.close()
    catalog.close()
    folder.remove()
  })
  const connect = (secret: SecretHandle) => {
    const options = { tls: tlsIdentity(secret), addresses: [served.address], host: home.host, name: 'office' }
    const connection = new Connection(options)
    connections.push(connection)
    return { connection, catalog: new RemoteCatalog(connection) }
  }
  const member = (role: Role, name: string, secret = Secret.random()) => {
    const host = keyOf(secret)
    const row = { host, sealing: sealingOf(secret), name, role, domain: name }
    const now = home.membership()
    const draft = now.draft()
    const hosts = [...draft.hosts, ...admitAll([row], FLEET, 1, root)]
    const readers = readersOf([...now.hosts, row], [], sealingOf(root))
    home.saveMembership(signMembership({ ...draft, sequence: draft.sequence + 1, hosts }, root, readers))
    catalog.members.admit(row)
    return { host, secret, ...connect(secret) }
  }
  const { address } = served
  return { root, home, state: folder.path, catalog, clock, address, domainKey, catalogKey, documents, connect, member }
}

/** As its appliance signs it, which the coordinator gave its part of the catalog key. */
export function headOf(
  { catalogKey }: Pick<Office, 'catalogKey'>,
  secret: SecretHandle,
  facts: HeadFacts,
  references: Uint8Array,
): Buffer {
  const root = {
    key: Buffer.alloc(80).toString('base64'),
    ...{ writer: facts.appliance, run: hex(8), number: 1, ordinal: 0 },
    k: 4,
    m: 2,
    packBytes: 100_000,
    offset: 0,
    length: 90,
    shards: [{ index: 0, host: hex(32) }],
  }
  const head = { fleet: FLEET, ...facts, root, references: toHex(hash(references)) }
  return signHead(head, secret, deriveTrailerKey(catalogKey, keyOf(secret)))
}
