/** A membership brought to a peer, as whichever host. */
import type { LabReport } from '../../src/daemon/lab.js'
import { type Home, openHome } from '../../src/keys/home.js'
import { PeerClient } from '../../src/peers/client.js'
import { Connection } from '../../src/wire/client.js'

/** `taken`, or the code of the error. */
export async function sendMembership(
  from: Home,
  { name, address, state }: LabReport['peers'][number],
  bytes: Buffer,
): Promise<string> {
  const { host } = openHome(state)
  const connection = new Connection({ tls: from.tls, addresses: [address], host, name })
  try {
    await new PeerClient(host, name, connection).sendDocument('membership', from.fleet, bytes)
    return 'taken'
  } catch (error) {
    return (error as { code: string }).code
  } finally {
    connection.close()
  }
}
