/**
 * A coordinator whose catalog cannot be opened: it says why to every call, and answers what its state folder alone knows, so
 * that peers stay in touch and a person reads the reason wherever he asks.
 */
import type { ImagerError } from '../base/errors.js'
import { conditionOf } from '../catalog/guard.js'
import type { Home } from '../keys/home.js'
import { decodeMessage, encodeMessage } from '../wire/message.js'
import { type Route, type Served, serve } from '../wire/server.js'
import { requireRole } from './access.js'
import { CALL_NAMES, CALLS, type CallName } from './calls.js'

export interface ClosedParts {
  readonly home: Home
  readonly listen: string
  readonly trouble: ImagerError
}

/** Serves until closed. */
export function serveClosed(parts: ClosedParts): Promise<Served> {
  const { home, listen } = parts
  const routes = CALL_NAMES.map((name) => toRoute(name, parts))
  return serve({ tls: home.tls, listen, routes, admit: (host) => home.membership().role(host) !== undefined })
}

function toRoute(name: CallName, { home, trouble }: ClosedParts): Route {
  const { request: schema, maxBytes, open } = CALLS[name]
  const { term, sequence, bytes } = home.membership()
  return {
    ...{ method: 'POST', path: `/v1/${name}`, open, maxBytes },
    async handle(request) {
      requireRole({ host: request.host, role: home.membership().role(request.host) }, name)
      decodeMessage(schema, await request.body())
      if (name === 'membership') return { body: encodeMessage({}, bytes) }
      if (name === 'heartbeat') return { body: encodeMessage({ term, sequence }) }
      if (name === 'condition') return { body: encodeMessage({ problems: [conditionOf(trouble)] }) }
      throw trouble
    },
  }
}
