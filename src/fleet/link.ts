/** The connection to the coordinator, which says so when it is the coordinator that does not answer, or does not know us any more. */
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { TlsIdentity } from '../keys/certificate.js'
import { Connection, type Reply, type Requester } from '../wire/client.js'
import { isNotMember } from '../wire/refusal.js'

export class CoordinatorLink implements Requester {
  readonly #connection: Connection

  constructor(tls: TlsIdentity, addresses: readonly string[], host: Hex) {
    this.#connection = new Connection({ tls, addresses, host, name: 'The coordinator' })
  }

  async request(...args: Parameters<Requester['request']>): Promise<Reply> {
    try {
      return await this.#connection.request(...args)
    } catch (error) {
      if (isNotMember(error)) throw new ImagerError('REMOVED', {}, { cause: error })
      if (!hasCode(error, 'HOST_UNREACHABLE')) throw error
      const { address = 'its address', why = '' } = error.details
      throw new ImagerError('COORDINATOR_UNREACHABLE', { address, why }, { cause: error })
    }
  }

  close(): void {
    this.#connection.close()
  }
}
