/**
 * A coordinator whose catalog cannot be opened: it says why to every call, and answers what its state folder alone knows, so
 * that peers stay in touch and a person reads the reason wherever he asks.
 */
import type { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { conditionOf } from '../catalog/guard.js'
import type { Home } from '../keys/home.js'
import { decodeMessage, encodeMessage } from '../wire/message.js'
import { type Route, type Served, serve } from '../wire/server.js'
import { requireRole } from './access.js'
import { CALL_NAMES, CALLS, type CallName } from './calls.js'
import type { Moving } from './moving.js'

export interface ClosedParts {
  readonly home: Home
  readonly listen: string
  readonly trouble: ImagerError
  /** Of a coordinator whose place is handed over, and that has not heard that the other has it. */
  readonly moving?: Moving
}

/** Serves until closed. */
export function serveClosed(parts: ClosedParts): Promise<Served> {
  const { home, listen } = parts
  const routes = CALL_NAMES.map((name) => toRoute(name, parts))
  return serve({ tls: home.tls, listen, routes, admit: (host) => home.membership().role(host) !== undefined })
}

function toRoute(name: CallName, { home, trouble, moving }: ClosedParts): Route {
  const { request: schema, maxBytes, open } = CALLS[name]
  const nameOf = (host: Hex) => home.membership().find(host)?.name ?? host.slice(0, 8)
  return {
    ...{ method: 'POST', path: `/v1/${name}`, open, maxBytes },
    async handle(request) {
      requireRole({ host: request.host, role: home.membership().role(request.host) }, name)
      const { attachment } = decodeMessage(schema, await request.body())
      if (moving && name === 'standBy') return { body: encodeMessage(moving.standBy(request.host, '')) }
      if (moving && name === 'handOver') return { body: encodeMessage({ handed: moving.hand(request.host) }) }
      if (moving && name === 'takenUp') {
        moving.taken(attachment)
        return { body: encodeMessage({}) }
      }
      const { term, handed, sequence, bytes } = home.membership()
      if (name === 'membership') return { body: encodeMessage({}, bytes) }
      if (name === 'heartbeat') return { body: encodeMessage({ term, handed, sequence, name: nameOf(request.host) }) }
      if (name === 'condition') return { body: encodeMessage({ problems: [conditionOf(trouble)] }) }
      throw trouble
    },
  }
}
