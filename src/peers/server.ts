/**
 * What a peer answers. It decides alone, from its own copy of the membership: who may call, who may read, and whether the
 * coordinator granted a shard. A shard is checked whole before it is stored and durable before the answer; grant, length
 * and room are checked before any of its bytes are taken.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import * as v from 'valibot'
import { ImagerError, reason } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import {
  BITMAP_BYTES,
  BITMAPS_AT_ONCE,
  DOCUMENT_PAGE_BYTES,
  INVENTORY_ROWS,
  MESSAGE_BYTES,
  REPAIRS_AT_ONCE,
  SHARD_FILE_BYTES,
  SHARDS_A_HOST,
  SHARDS_AT_ONCE,
} from '../base/limits.js'
import { SharedSlots, Slots } from '../base/queue.js'
import type { TlsIdentity } from '../keys/certificate.js'
import { isFormer } from '../keys/delegation.js'
import { STATEMENT_BYTES } from '../keys/statement.js'
import { type DataQuestion, inspectShard } from '../native.js'
import { encodeMessage } from '../wire/message.js'
import { notMember } from '../wire/refusal.js'
import { type Answer, type Request, type Route, type Served, serve } from '../wire/server.js'
import { decodeAddresses, keepAddresses } from './addresses.js'
import { keepBitmap } from './bitmaps.js'
import { checkpointRoutes } from './checkpoint-routes.js'
import { answerData } from './data.js'
import { checkDocument, limitOf, type Trust } from './documents.js'
import { keepMembership } from './memberships.js'
import { PROVE_MESSAGE_BYTES, Prover } from './prove.js'
import { receiptOf, receiptsRoute } from './receipts.js'
import { repairShard } from './repair.js'
import {
  isMember,
  listReaders,
  type PeerParts,
  requireGrant,
  requireMember,
  requireReader,
  requireReaderOf,
  requireShard,
} from './rights.js'
import { DOCUMENT_KINDS, type DocumentKind, type ShardStore, type StatementKind } from './store.js'

export interface PeerOptions extends PeerParts {
  readonly tls: TlsIdentity
  readonly listen: string
  report?(error: unknown, path: string): void
}

const Kind = v.picklist(DOCUMENT_KINDS)
const Statement = v.picklist(DOCUMENT_KINDS.filter((kind) => kind !== 'bitmap'))
const Limit = v.pipe(v.string(), v.regex(/^\d{1,9}$/), v.transform(Number), v.minValue(1))
const After = v.pipe(v.string(), v.regex(/^(?:[0-9a-f]{2})*$/), v.maxLength(128))

export async function servePeer(options: PeerOptions): Promise<Served> {
  const { trust, store } = options
  const admit = (host: Hex) => isMember(trust, host) || isFormer(trust.membership(), host)
  const receiving = new SharedSlots(SHARDS_AT_ONCE, SHARDS_A_HOST)
  const handleData = (question: DataQuestion) => answerData(options, receiving, question)
  const served = await serve({ ...options, routes: peerRoutes(options, receiving), handleData, admit })
  const letRead = () => {
    served.letRead(store.shards, listReaders(trust))
    served.dropExpelled(admit)
  }
  trust.watchMembership(letRead)
  letRead()
  return served
}

/** A coordinator that was replaced may read by whom, and where that one is; nothing else. */
function forMembers(trust: Trust, route: Route): Route {
  if (route.method === 'GET' && route.path === '/v1/documents/:kind/:name') return route
  return {
    ...route,
    handle(request) {
      requireMember(trust, request.host)
      return route.handle(request)
    },
  }
}

function peerRoutes(parts: PeerParts, receiving: SharedSlots): Route[] {
  const { store, trust } = parts
  const bitmaps = new Slots(BITMAPS_AT_ONCE)
  const repairing = new Slots(REPAIRS_AT_ONCE)
  const prover = new Prover({ store, clock: parts.clock, sleep: (ms, signal) => sleep(ms, undefined, { signal }) })
  const route = (method: Route['method'], path: string, maxBytes: number, handle: Route['handle']): Route => ({
    method,
    path,
    maxBytes,
    handle,
  })
  const routes = [
    route('PUT', '/v1/shards/:shard', SHARD_FILE_BYTES, (request) => putShard(parts, receiving, request)),
    route('GET', '/v1/shards/:shard', 0, async (request) => {
      const shard = request.params.shard ?? ''
      requireReaderOf(trust, request.host, shard, request.headers['imager-repair'])
      const body = await store.read(shard, request.range)
      return { status: request.range ? 206 : 200, body }
    }),
    route('POST', '/v1/repairs', MESSAGE_BYTES, (request) => repairing.run(() => repairShard(parts, request))),
    route('GET', '/v1/shards', 0, async (request) => {
      requireReader(trust, request.host)
      const limit = Math.min(ask(Limit, request, 'limit', String(INVENTORY_ROWS)), INVENTORY_ROWS)
      return { body: encodeMessage(await store.inventory(ask(After, request, 'after', ''), limit)) }
    }),
    receiptsRoute(parts),
    route('POST', '/v1/prove', PROVE_MESSAGE_BYTES, async (request) => {
      requireReader(trust, request.host)
      return { body: await prover.answer(request.host, await request.body()) }
    }),
    route('GET', '/v1/documents/:kind', 0, async (request) => {
      const kind = statementOf(request)
      if (!isForAll(kind)) requireReader(trust, request.host)
      return listDocuments(store, kind, ask(After, request, 'after', ''))
    }),
    route('GET', '/v1/documents/:kind/:name', 0, async (request) => {
      const kind = kindOf(request)
      if (!isForAll(kind)) requireReader(trust, request.host)
      const isSuccessor = request.params.name === trust.membership().coordinator
      if (kind === 'address' && !isSuccessor && !isMember(trust, request.host)) throw notMember()
      const body = await store.document(kind, request.params.name ?? '')
      return body ? { body } : { status: 204 }
    }),
    route('PUT', '/v1/documents/bitmap/:name', BITMAP_BYTES, async (request) => {
      // Whoever sends it slowly holds up nobody else's.
      const bytes = await request.body()
      await bitmaps.run(() => keepBitmap(parts, request.params.name ?? '', bytes))
      return { status: 201 }
    }),
    route('PUT', '/v1/documents/:kind/:name', STATEMENT_BYTES, (request) => putDocument(parts, request)),
    route('PUT', '/v1/addresses', MESSAGE_BYTES, async (request) => {
      await keepAddresses(parts, decodeAddresses(await request.body()))
      return { status: 201 }
    }),
    route('GET', '/v1/state', 0, async () => ({ body: encodeMessage(await store.free()) })),
    ...checkpointRoutes(parts),
  ]
  return routes.map((one) => forMembers(trust, one))
}

async function putShard(parts: PeerParts, receiving: SharedSlots, request: Request): Promise<Answer> {
  const { store } = parts
  const shard = request.params.shard ?? ''
  const { lengthBytes } = request
  const grant = Buffer.from(String(request.headers['imager-grant'] ?? ''), 'base64')
  requireGrant(parts, { bearer: request.host, shard, lengthBytes, grant })
  if (!(await store.holds(shard))) await store.requireRoom(lengthBytes)
  return receiving.run(request.host, async () => {
    const bytes = await request.body()
    const facts = await inspectShard(bytes).catch((cause: unknown) => {
      throw new ImagerError('CORRUPT', { what: `Shard ${shard} arrived damaged: ${reason(cause)}` }, { cause })
    })
    requireMember(parts.trust, request.host)
    requireShard(parts.trust, shard, { shard: facts.shard, fleet: facts.stripe.fleet })
    const kept = await store.put(shard, bytes)
    return { status: kept.outcome === 'stored' ? 201 : 200, body: receiptOf(parts, kept) }
  })
}

/** Who looks for a new coordinator, or for a member, needs these. */
function isForAll(kind: DocumentKind): boolean {
  return kind === 'membership' || kind === 'address'
}

async function putDocument(parts: PeerParts, request: Request): Promise<Answer> {
  const { trust, store, clock, adopt } = parts
  const kind = statementOf(request)
  const name = request.params.name ?? ''
  const bytes = await request.body()
  const replaces = checkDocument(trust, kind, name, bytes)
  if (kind === 'address') await keepAddresses(parts, [bytes])
  else if (kind !== 'membership') await store.putDocument(kind, name, bytes, replaces, limitOf(kind, name, clock.now()))
  else {
    await keepMembership(store, trust, clock, bytes)
    adopt(bytes)
  }
  return { status: 201 }
}

/** A page: names and lengths in the JSON, the documents back to back in the attachment. */
async function listDocuments(store: ShardStore, kind: StatementKind, after: string): Promise<Answer> {
  const documents: { name: string; bytes: number }[] = []
  const contents: Buffer[] = []
  let total = 0
  const names = (await store.documents(kind)).filter((name) => name > after)
  for (const name of names) {
    const content = await store.document(kind, name)
    if (!content) continue
    if (total + content.length > DOCUMENT_PAGE_BYTES && documents.length > 0) break
    documents.push({ name, bytes: content.length })
    contents.push(content)
    total += content.length
  }
  const last = documents.at(-1)?.name
  const next = last !== undefined && last !== names.at(-1) ? last : null
  return { body: encodeMessage({ documents, next }, Buffer.concat(contents)) }
}

function kindOf({ params }: Request): DocumentKind {
  if (v.is(Kind, params.kind)) return params.kind
  throw new ImagerError('PROTOCOL', { what: 'documents of that kind are unknown there' })
}

/** Bitmaps are asked for one by one. */
function statementOf({ params }: Request): StatementKind {
  if (v.is(Statement, params.kind)) return params.kind
  throw new ImagerError('PROTOCOL', { what: 'statements of that kind are unknown there' })
}

function ask<S extends v.GenericSchema<string, unknown>>(
  schema: S,
  { query }: Request,
  name: string,
  otherwise: string,
): v.InferOutput<S> {
  const result = v.safeParse(schema, query.get(name) ?? otherwise)
  if (result.success) return result.output
  throw new ImagerError('PROTOCOL', { what: `${name}=${JSON.stringify(query.get(name)?.slice(0, 64))}` })
}
