/**
 * Who is there right now. The master file is up to three heartbeats old; a question to each peer is not. A peer that does
 * not know this host yet (it joined a moment ago, and the membership is on its way) is asked again until it does.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { hasCode, isOfHost } from '../../base/errors.js'
import { HEARTBEAT_MS } from '../../base/limits.js'
import { forEachAtOnce } from '../../base/queue.js'
import type { HostRow } from '../../catalog/types.js'
import type { PipelineParts } from './pipeline.js'

const ASKED_AT_ONCE = 32
const ANSWER_MS = 5_000
/** Peers take up a new membership with their next heartbeat at the latest. */
const KNOWN_WITHIN_MS = HEARTBEAT_MS + 5_000
const AGAIN_MS = 500

/** The rows of the master file; those that do not answer, or go on refusing this host, are away. */
export async function presentHosts({ catalog, peers, clock, signal }: PipelineParts): Promise<HostRow[]> {
  const rows = await catalog.hosts()
  const silent = new Set<string>()
  const patience = clock.now() + KNOWN_WITHIN_MS
  const ask = async (row: HostRow): Promise<void> => {
    for (;;) {
      try {
        await peers.get(row.host).fetchState({ signal, timeoutMs: ANSWER_MS })
        return
      } catch (error) {
        signal.throwIfAborted()
        if (!isOfHost(error)) throw error
        const mayLearn = hasCode(error, 'NOT_ALLOWED') && clock.now() < patience
        if (!mayLearn) {
          silent.add(row.host)
          return
        }
        await sleep(AGAIN_MS, undefined, { signal })
      }
    }
  }
  const candidates = rows.filter((row) => row.role === 'peer' && !row.away && row.storage !== '')
  await forEachAtOnce(candidates, ASKED_AT_ONCE, ask)
  return rows.map((row) => (silent.has(row.host) ? { ...row, away: true } : row))
}
