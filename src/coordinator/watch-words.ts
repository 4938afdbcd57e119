/** What the coordinator knows of its own state by its witnesses, and what people are told of it. Pure. */
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { formatCount } from '../base/units.js'
import type { Condition } from '../catalog/types.js'
import { quorumOf } from '../keys/checkpoint.js'
import type { HeadId } from '../keys/head-set.js'
import type { MembershipHost } from '../keys/membership.js'

/** What it knows of its own state. */
export type Phase =
  | { readonly kind: 'current' }
  /** Not enough witnesses have said so yet. */
  | {
      readonly kind: 'asking'
      readonly answered: readonly Hex[]
      readonly asked: boolean
      /** A caller holds a list that a majority of them signed, and those who answered do not. */
      readonly shown?: boolean
    }
  /** Snapshots were acknowledged that are not known here. */
  | { readonly kind: 'behind'; readonly missing: readonly HeadId[]; readonly tried: boolean }
  | { readonly kind: 'replaced' }

export interface Outlook {
  /** The witnesses. */
  readonly named: readonly MembershipHost[]
  /** The line that rebuilds the catalog. */
  readonly recover: string
}

const NAMES = 5

/** Why it takes nothing new. */
export function troubleOf(
  phase: Exclude<Phase, { kind: 'replaced' }>,
  { named, recover }: Outlook,
): ImagerError | undefined {
  switch (phase.kind) {
    case 'current':
      return undefined
    case 'asking': {
      const silent = named.filter(({ host }) => !phase.answered.includes(host)).map(({ name }) => name)
      if (phase.shown) {
        const why = `it was set back to an older state: a server holds a newer list of snapshots, which ${silent.length} of its ${named.length} witnesses can know and have not answered`
        return readOnly(
          why,
          `Switch on ${some(silent)}: it goes on by itself. If they are gone for good, end it and type ${recover}`,
        )
      }
      const more = Math.max(1, quorumOf(named.length) - (named.length - silent.length))
      const why = `it asks its witnesses whether its state is the newest; ${named.length - silent.length} of ${named.length} have answered, it waits for ${more} more`
      return readOnly(why, `Switch on ${some(silent)}: it goes on by itself`)
    }
    case 'behind': {
      const count = formatCount(phase.missing.length, 'newer snapshot')
      const known = `${count} ${phase.missing.length === 1 ? 'is' : 'are'} known to its witnesses`
      if (!phase.tried) {
        return readOnly(`it was set back to an older state; ${known}, and it catches up`, 'Wait: it goes on by itself')
      }
      return readOnly(
        `it was set back to an older state, and ${count} could not be brought back: ${someIds(phase.missing)}`,
        `Switch on all peers: it goes on by itself. If that is not enough, end it and type ${recover}`,
      )
    }
  }
}

export function unknownSnapshots(missing: readonly HeadId[], { recover }: Outlook): Condition {
  const count = formatCount(missing.length, 'snapshot')
  return {
    code: 'UNKNOWN_SNAPSHOTS',
    sentence: `${count} that had been acknowledged are known by name only: ${someIds(missing)}`,
    remedy: `Switch on all peers: what they hold of it comes back by itself. Where that is not enough, end the coordinator and type ${recover}.`,
  }
}

/** `unsigned`: names of those who did not sign. */
export function notCosigned(unsigned: readonly string[], { named }: Outlook): Condition {
  const signed = Math.max(0, named.length - unsigned.length)
  return {
    code: 'NOT_COSIGNED',
    sentence: `${signed} of ${named.length} witnesses have signed the newest list of snapshots, ${quorumOf(named.length)} are needed`,
    remedy: `Switch on ${some(unsigned)}: the coordinator goes on by itself. For one that is gone for good: \`imager remove ${unsigned[0] ?? 'HOST'}\` on the coordinator.`,
  }
}

function readOnly(why: string, todo: string): ImagerError {
  return new ImagerError('COORDINATOR_READ_ONLY', { why, todo })
}

function some(names: readonly string[]): string {
  return names.length > NAMES ? `${names.slice(0, NAMES).join(', ')} or others` : names.join(', ')
}

function someIds(ids: readonly HeadId[]): string {
  return some(ids.map(({ snapshot }) => snapshot.slice(0, 8)))
}
