/** A host of a lab in foreign hands: its state folder opened with the project's own code, and what others answer it. */
import type { ExecutionContext } from 'ava'
import type { Hex } from '../../src/base/ids.js'
import { RemoteCatalog } from '../../src/coordinator/client.js'
import { joinFleet } from '../../src/fleet/join.js'
import { type Fleet, openFleet } from '../../src/fleet/open.js'
import { tlsIdentity } from '../../src/keys/certificate.js'
import { openHome } from '../../src/keys/home.js'
import type { JoinRole } from '../../src/keys/token.js'
import type { SecretHandle } from '../../src/native.js'
import { PeerClient } from '../../src/peers/client.js'
import { Connection } from '../../src/wire/client.js'
import type { TestLab } from '../e2e/lab.js'

export async function withFleet<T>(state: string, work: (fleet: Fleet) => Promise<T>): Promise<T> {
  const fleet = await openFleet(openHome(state))
  try {
    return await work(fleet)
  } finally {
    await fleet.close()
  }
}

/** The state folder of a host that joined as any other. */
export async function joinAs(lab: TestLab, role: JoinRole, name: string): Promise<string> {
  const state = lab.path(name)
  const { token } = await withFleet(lab.lab.coordinator.state, (fleet) => fleet.invite(role))
  await joinFleet({ token, state, name, listen: null })
  return state
}

export interface Target {
  readonly host: Hex
  readonly address: string
  readonly name: string
}

export const coordinatorOf = ({ lab }: TestLab): Target => {
  const { address, state } = lab.coordinator
  return { name: 'coordinator', address, host: openHome(state).host }
}

export const peerOf = ({ lab }: TestLab, at: number): Target => {
  const { name, address, state } = lab.peers[at] as (typeof lab.peers)[number]
  return { name, address, host: openHome(state).host }
}

/** Whoever has a key, of the fleet or none. */
export class Hands {
  readonly #open: Connection[] = []

  constructor(
    t: ExecutionContext,
    readonly secret: SecretHandle,
  ) {
    t.teardown(() => {
      for (const connection of this.#open) connection.close()
    })
  }

  connect({ name, host, address }: Target): Connection {
    const connection = new Connection({ tls: tlsIdentity(this.secret), addresses: [address], host, name })
    this.#open.push(connection)
    return connection
  }

  peer(target: Target): PeerClient {
    return new PeerClient(target.host, target.name, this.connect(target))
  }

  catalog(target: Target): RemoteCatalog {
    return new RemoteCatalog(this.connect(target))
  }
}

/** What became of it: `taken`, or the code of the refusal. */
export async function outcomeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return 'taken'
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}
