/** The connection to the coordinator, which says so when it is the coordinator that does not answer, or does not know us any more. */
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { BREAKER_MS, CONNECT_TIMEOUT_MS } from '../base/limits.js'
import type { TlsIdentity } from '../keys/certificate.js'
import type { Home } from '../keys/home.js'
import { Connection, type Reply, type Requester } from '../wire/client.js'
import { isNotMember } from '../wire/refusal.js'

/** A refusal comes at once; whoever hangs takes the whole deadline. */
const HANGS_MS = CONNECT_TIMEOUT_MS / 2

export class CoordinatorLink implements Requester {
  readonly #connection: Connection
  #silence: { readonly error: ImagerError; readonly until: number } | undefined

  constructor(tls: TlsIdentity, addresses: readonly string[], host: Hex) {
    this.#connection = new Connection({ tls, addresses, host, name: 'The coordinator' })
  }

  /** One that hangs costs a command one deadline, and not one for each of its calls. */
  async request(...args: Parameters<Requester['request']>): Promise<Reply> {
    const began = performance.now()
    if (this.#silence && began < this.#silence.until) throw this.#silence.error
    try {
      return await this.#connection.request(...args)
    } catch (error) {
      if (isNotMember(error)) throw new ImagerError('REMOVED', {}, { cause: error })
      if (!hasCode(error, 'HOST_UNREACHABLE')) throw error
      const { address = 'its address', why = '' } = error.details
      const unreached = new ImagerError('COORDINATOR_UNREACHABLE', { address, why }, { cause: error })
      const now = performance.now()
      if (now - began >= HANGS_MS) this.#silence = { error: unreached, until: now + BREAKER_MS }
      throw unreached
    }
  }

  close(): void {
    this.#connection.close()
  }
}

/** To the coordinator that the newest membership held here names: it may move, and after a recovery it is another host. */
export class FollowingLink implements Requester {
  readonly #home: Home
  #current: { readonly target: string; readonly link: CoordinatorLink } | undefined

  constructor(home: Home) {
    this.#home = home
  }

  request(...args: Parameters<Requester['request']>): Promise<Reply> {
    return this.#link().request(...args)
  }

  close(): void {
    this.#current?.link.close()
  }

  #link(): CoordinatorLink {
    const { key, addresses } = this.#home.coordinator
    const target = [key, ...addresses].join(' ')
    if (this.#current?.target === target) return this.#current.link
    this.close()
    this.#current = { target, link: new CoordinatorLink(this.#home.tls, addresses, key) }
    return this.#current.link
  }
}
