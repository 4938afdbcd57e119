/**
 * A newer membership, asked of other members when the coordinator does not answer: after a recovery it is another host,
 * and one that was away then would ask for the old one for ever. With it comes where the coordinator is now. What comes back counts by its signature alone.
 */
import { randomInt } from 'node:crypto'
import { isOfHost } from '../base/errors.js'
import { CONNECT_TIMEOUT_MS } from '../base/limits.js'
import { soundAddress } from '../keys/address-book.js'
import type { Home } from '../keys/home.js'
import type { MembershipHost } from '../keys/membership.js'
import { PeerClient } from '../peers/client.js'
import { Connection } from '../wire/client.js'

/** Peers asked in one go for a newer membership, chosen at random: repeated, that reaches everybody in the end. */
const ASKED = 4

/** True when a newer one was found and kept. */
export async function seekMembership(home: Home, signal?: AbortSignal): Promise<boolean> {
  const others = home.membership().hosts.filter((one) => one.role === 'peer' && one.host !== home.host)
  const found = await Promise.all(someOf(others, ASKED).map((peer) => askPeer(home, peer, signal)))
  return found.includes(true)
}

/**
 * One search for all calls that wait for the coordinator. What keeps it from finding anything is not thrown: that the
 * coordinator is away is the error.
 */
export function seekTogether(home: Home): (signal: AbortSignal) => Promise<void> {
  let running: Promise<void> | undefined
  const search = async (signal: AbortSignal) => {
    try {
      await seekMembership(home, signal)
    } catch {
      // Told by what is waited for.
    } finally {
      running = undefined
    }
  }
  return (signal) => (running ??= search(signal))
}

async function askPeer(home: Home, { host, name }: MembershipHost, signal?: AbortSignal): Promise<boolean> {
  const addresses = home.addresses.of(host)
  if (addresses.length === 0) return false
  const connection = new Connection({ tls: home.tls, addresses, host, name })
  try {
    const options = { signal, timeoutMs: CONNECT_TIMEOUT_MS }
    const peer = new PeerClient(host, name, connection)
    const bytes = await peer.fetchDocument('membership', home.fleet, options)
    const isNewer = bytes !== undefined && home.saveMembership(bytes)
    return (await hasMoved(home, peer, signal)) || isNewer
  } catch (error) {
    if (isOfHost(error)) return false
    throw error
  } finally {
    connection.close()
  }
}

/** Does a peer know another address of the coordinator, in that one's own words? */
async function hasMoved(home: Home, peer: PeerClient, signal?: AbortSignal): Promise<boolean> {
  const { coordinator } = home.membership()
  const bytes = await peer.fetchDocument('address', coordinator, { signal })
  const said = bytes && soundAddress(bytes, home.fleet)
  if (said?.host !== coordinator || said.addresses.join() === home.addresses.of(coordinator).join()) return false
  home.addresses.learn([[coordinator, said.addresses]])
  return true
}

function someOf<T>(items: readonly T[], count: number): T[] {
  const left = [...items]
  return Array.from({ length: Math.min(count, left.length) }, () => left.splice(randomInt(left.length), 1)).flat()
}
