/** From method and path to a route; `:name` in a pattern stands for one segment. */
import { ImagerError } from '../base/errors.js'

export interface Pattern {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE'
  /** `/v1/shards/:shard` */
  readonly path: string
}

export interface Match<R> {
  readonly route: R
  readonly params: Record<string, string>
  readonly query: URLSearchParams
}

export class Router<R extends Pattern> {
  readonly #routes: { route: R; segments: string[] }[]

  constructor(routes: readonly R[]) {
    this.#routes = routes.map((route) => ({ route, segments: route.path.split('/') }))
  }

  /** Throws PROTOCOL: a path that nobody serves is one of another version, or no client of ours. */
  find(method: string, url: string): Match<R> {
    const [path = '', ...rest] = url.split('?')
    const given = path.split('/')
    for (const { route, segments } of this.#routes) {
      if (route.method !== method || segments.length !== given.length) continue
      const params = match(segments, given)
      if (params) return { route, params, query: new URLSearchParams(rest.join('?')) }
    }
    throw new ImagerError('PROTOCOL', { what: `${method} ${path.slice(0, 256)} is unknown there` })
  }
}

function match(segments: readonly string[], given: readonly string[]): Record<string, string> | undefined {
  const params: Record<string, string> = {}
  for (const [index, segment] of segments.entries()) {
    const text = given[index] ?? ''
    if (segment.startsWith(':')) params[segment.slice(1)] = text
    else if (segment !== text) return undefined
  }
  return params
}
