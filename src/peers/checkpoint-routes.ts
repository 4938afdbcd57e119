/** What a peer answers as witness: the coordinator has it sign; who may read, reads what it signed. */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { OFFER_BYTES } from '../base/limits.js'
import { encodeCosigned } from '../keys/checkpoint.js'
import { Id, Key } from '../keys/fields.js'
import type { Request, Route } from '../wire/server.js'
import { decodeOffer, encodeVerdict } from './offer.js'
import type { PeerParts } from './rights.js'
import { requireReader } from './rights.js'

const Named = v.strictObject({ appliance: Key, snapshot: Id })
const CONFLICT = 409

export function checkpointRoutes({ trust, witness }: PeerParts): Route[] {
  const requireFleet = ({ params }: Request) => {
    if (params.fleet !== trust.fleet) throw new ImagerError('PROTOCOL', { what: 'a checkpoint of another fleet' })
  }
  const read = (path: string, handle: Route['handle']): Route => ({
    ...{ method: 'GET', path: `/v1/checkpoints/:fleet${path}`, maxBytes: 0 },
    handle(request) {
      requireFleet(request)
      requireReader(trust, request.host)
      return handle(request)
    },
  })
  return [
    {
      ...{ method: 'PUT', path: '/v1/checkpoints/:fleet', maxBytes: OFFER_BYTES },
      async handle(request) {
        requireFleet(request)
        // A checkpoint proves itself; but whoever brought others would use up what is looked at in a minute.
        if (request.host !== trust.membership().coordinator) {
          throw new ImagerError('NOT_ALLOWED', {
            what: 'Only the coordinator has checkpoints signed',
            role: 'coordinator',
          })
        }
        const answer = await witness.offer(decodeOffer(await request.body()))
        if ('cosignature' in answer) return { body: encodeVerdict(null, answer.cosignature) }
        const held = answer.held ? encodeCosigned(answer.held) : Buffer.alloc(0)
        return { status: CONFLICT, body: encodeVerdict(answer.refused, held) }
      },
    },
    read('', () => (witness.held ? { body: encodeCosigned(witness.held) } : { status: 204 })),
    read('/heads', () => ({ body: witness.heads() })),
    read('/heads/:appliance', ({ params }) => {
      const appliance = v.safeParse(Key, params.appliance)
      if (!appliance.success) throw new ImagerError('PROTOCOL', { what: 'an appliance has no such name' })
      return { body: witness.headsOf(appliance.output) }
    }),
    read('/entries/:appliance/:snapshot', async ({ params: { fleet: _fleet, ...named } }) => {
      const id = v.safeParse(Named, named)
      if (!id.success) throw new ImagerError('PROTOCOL', { what: 'an entry has no such name' })
      const body = await witness.entry(id.output)
      return body ? { body } : { status: 204 }
    }),
  ]
}
