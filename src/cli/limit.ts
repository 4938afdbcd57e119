/** `--limit`: how much of the network a snapshot or restore may take. */
import { setTimeout as wait } from 'node:timers/promises'
import type { Argv } from 'yargs'
import { type Sleep, TokenBucket } from '../base/bucket.js'
import type { Clock } from '../base/clock.js'
import { formatBytes, KiB } from '../base/units.js'
import type { Peers } from '../peers/pool.js'
import { parseBytes, usage } from './arguments.js'

/** Below it one shard would take longer than hosts keep a connection for. */
const LEAST = 64 * KiB

export function limiting<T>(yargs: Argv<T>, verb: string) {
  return yargs.option('limit', {
    type: 'string',
    requiresArg: true,
    coerce: (text: string | undefined) => {
      const bytes = parseBytes('limit', verb)(text)
      if (bytes === undefined || bytes >= LEAST) return bytes
      throw usage(`--limit takes at least ${formatBytes(LEAST)} a second (64K)`, verb)
    },
    describe: 'Bytes a second over the network, at most, such as 20M',
  })
}

/** What the peers are asked and sent from now on keeps to it. */
export function limitPeers({ peers, clock }: { peers: Peers; clock: Clock }, bytesPerSecond: number | undefined): void {
  if (bytesPerSecond !== undefined) peers.limit = new TokenBucket(bytesPerSecond, clock, sleep)
}

const sleep: Sleep = async (ms, signal) => {
  await wait(ms, undefined, { signal }).catch(() => signal?.throwIfAborted())
}
