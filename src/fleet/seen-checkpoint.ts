/**
 * The newest checkpoint that this host has seen with the signatures of a quorum, kept in its state folder: a coordinator that
 * shows an older one was set back, and is not believed that nothing else was stored.
 *
 *   checkpoint.bin   checkpoint and cosignatures (`encodeCosigned`)
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { hasCode, ImagerError } from '../base/errors.js'
import { toHex } from '../base/ids.js'
import { type Checkpoint, decodeCosigned, hasQuorum, isNewer, openCheckpoint, witnessesOf } from '../keys/checkpoint.js'
import { readWhole, writeDurable } from '../keys/durable.js'
import type { Home } from '../keys/home.js'
import { hash } from '../native.js'

const FILE = 'checkpoint.bin'

/** Keeps what the coordinator shows, if it is newer. Gives ROLLED_BACK where it is older. */
export function heedCheckpoint(home: Home, shown: Uint8Array): ImagerError | undefined {
  const seen = readSeen(home)
  const membership = home.membership()
  const witnesses = witnessesOf(membership).map(({ host }) => host)
  if (shown.length === 0) {
    // Nobody watches, or a recovery has just begun a new term.
    const mayBeNone = !seen || witnesses.length === 0 || seen.term < membership.term
    return mayBeNone ? undefined : rolledBack('none', seen)
  }
  const opened = openShown(home, shown)
  if (!opened) return rolledBack('one that does not verify', seen)
  const { checkpoint, cosignatures } = opened
  const isProved = witnesses.length > 0 && hasQuorum(checkpoint, cosignatures, witnesses)
  // Under the membership of before other witnesses signed it; the next one is on its way.
  const isOfNow = checkpoint.membership === toHex(hash(membership.bytes))
  if (!isProved && isOfNow && witnesses.length > 0) return rolledBack('one that too few witnesses signed', seen)
  if (seen && seen.hash === checkpoint.hash) return undefined
  if (seen && !isNewer(checkpoint, seen)) return rolledBack(nameOf(checkpoint), seen)
  if (isProved) keep(home, shown)
  return undefined
}

/** Undefined where there is none, or it rotted: it only ever warned. */
function readSeen(home: Home): Checkpoint | undefined {
  const path = join(home.state, FILE)
  return existsSync(path) ? openShown(home, readWhole(path))?.checkpoint : undefined
}

/** Undefined where it is none of this fleet. */
function openShown(home: Home, shown: Uint8Array) {
  try {
    const { checkpoint, cosignatures } = decodeCosigned(shown)
    return { checkpoint: openCheckpoint(checkpoint, home.fleet, home.rootKey), cosignatures }
  } catch (error) {
    if (hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED')) return undefined
    throw error
  }
}

/** A disk that is full keeps nobody from a restore. */
function keep(home: Home, shown: Uint8Array): void {
  try {
    writeDurable(join(home.state, FILE), shown)
  } catch {}
}

function rolledBack(shown: string, seen: Checkpoint | undefined): ImagerError {
  return new ImagerError('ROLLED_BACK', { shown, seen: seen ? nameOf(seen) : 'a newer one' })
}

function nameOf({ term, sequence }: Checkpoint): string {
  return `${sequence} of term ${term}`
}
