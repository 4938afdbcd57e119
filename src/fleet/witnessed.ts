/**
 * What the witnesses signed of this host's snapshots, in their own words: whether the coordinator's list leaves one out, and whether
 * the one that it says was signed is. One witness alone is not believed, a majority of them is.
 */
import { isOfHost } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { SnapshotRow } from '../catalog/types.js'
import { quorumOf, witnessesOf } from '../keys/checkpoint.js'
import type { Home } from '../keys/home.js'
import type { MembershipHost } from '../keys/membership.js'
import { WitnessClient } from '../peers/witness-client.js'
import { Connection } from '../wire/client.js'

/** A PC that is off must not hold up `status`. */
const ANSWER_MS = 3_000
/** For the rest, once a majority has answered. */
const STRAGGLERS_MS = 300

type Listed = ReadonlySet<Hex>

/**
 * Snapshots that this host took, a majority of the witnesses lists, and the coordinator does not. `list` is asked again where one
 * seems to be missing: it may have come meanwhile. None where nobody watches, or too few answer.
 */
export async function findHidden(
  home: Home,
  list: () => Promise<readonly Pick<SnapshotRow, 'id'>[]>,
  signal?: AbortSignal,
): Promise<Hex[]> {
  if (home.role !== 'appliance') return []
  const { answers, quorum } = await askWitnesses(home, (answers) => answers.length, signal)
  const signed = [...new Set(answers.flatMap((one) => [...one]))].filter((id) => countOf(answers, id) >= quorum)
  if (signed.length === 0) return []
  const known = new Set((await list()).map(({ id }) => id))
  return signed.filter((id) => !known.has(id)).sort()
}

/** Does a majority of the witnesses list this snapshot of this host's? True where there are none. */
export async function isWitnessed(home: Home, snapshot: Hex, signal?: AbortSignal): Promise<boolean> {
  const { answers, quorum } = await askWitnesses(home, (answers) => countOf(answers, snapshot), signal, 0)
  return countOf(answers, snapshot) >= quorum
}

function countOf(answers: readonly Listed[], snapshot: Hex): number {
  return answers.filter((one) => one.has(snapshot)).length
}

/** All at once; ends when as many as are a majority count, and those who answer by then with them. */
async function askWitnesses(
  home: Home,
  count: (answers: readonly Listed[]) => number,
  signal?: AbortSignal,
  stragglersMs = STRAGGLERS_MS,
): Promise<{ answers: Listed[]; quorum: number }> {
  const witnesses = witnessesOf(home.membership())
  const quorum = quorumOf(witnesses.length)
  const answers: Listed[] = []
  const end = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const stop = signal ? AbortSignal.any([signal, end.signal]) : end.signal
  await Promise.all(
    witnesses.map(async (witness) => {
      const listed = await ask(home, witness, stop)
      if (!listed || end.signal.aborted) return
      answers.push(listed)
      if (count(answers) >= quorum) timer ??= setTimeout(() => end.abort(), stragglersMs)
    }),
  )
  clearTimeout(timer)
  signal?.throwIfAborted()
  return { answers, quorum }
}

/** Undefined where it does not answer, or not as a witness does. */
async function ask(home: Home, { host, name }: MembershipHost, signal: AbortSignal): Promise<Listed | undefined> {
  const connection = new Connection({ tls: home.tls, addresses: home.addresses.of(host), host, name })
  try {
    const witness = new WitnessClient(host, name, home.fleet, connection)
    return await witness.fetchHeadsOf(home.host, { signal, timeoutMs: ANSWER_MS })
  } catch (error) {
    if (signal.aborted || isOfHost(error)) return undefined
    throw error
  } finally {
    connection.close()
  }
}
