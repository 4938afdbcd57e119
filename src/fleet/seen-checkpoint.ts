/**
 * The newest checkpoint that this host has seen with the signatures of a quorum, kept in its state folder: a coordinator that
 * shows an older one was set back, and is not believed that nothing else was stored.
 *
 *   checkpoint.bin   checkpoint and cosignatures (`encodeCosigned`)
 *   watched.bin      the membership whose witnesses these are
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { hasCode, ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { type Checkpoint, decodeCosigned, hasQuorum, openCheckpoint, witnessesOf } from '../keys/checkpoint.js'
import { readWhole, writeDurable } from '../keys/durable.js'
import { isNewer } from '../keys/handover.js'
import type { Home } from '../keys/home.js'
import { type Membership, openMembership } from '../keys/membership.js'
import { hash } from '../native.js'

const FILE = 'checkpoint.bin'
const WATCHED = 'watched.bin'

/** Keeps what the coordinator shows, if it is newer. Gives ROLLED_BACK where it is older. */
export function heedCheckpoint(home: Home, shown: Uint8Array): ImagerError | undefined {
  const seen = readSeen(home)
  const membership = home.membership()
  const witnesses = keysOf(membership)
  if (shown.length === 0) {
    // Nobody watches, or a recovery has just begun a new term.
    const mayBeNone = !seen || witnesses.length === 0 || seen.term < membership.term
    return mayBeNone ? undefined : rolledBack('none', seen)
  }
  const opened = openShown(home, shown)
  if (!opened) return rolledBack('one that does not verify', seen)
  const { checkpoint, cosignatures } = opened
  const isProved = witnesses.length > 0 && hasQuorum(checkpoint, cosignatures, witnesses)
  if (seen && seen.hash === checkpoint.hash) return undefined
  if (!isProved && witnesses.length > 0 && !mayBeOfBefore(home, checkpoint, cosignatures, seen)) {
    return rolledBack('one that too few witnesses signed', seen)
  }
  if (seen && !isNewer(checkpoint, seen)) return rolledBack(nameOf(checkpoint), seen)
  if (isProved) keep(home, shown, membership)
  return undefined
}

/** Under the membership of before other witnesses signed it, and the next one is on its way. */
function mayBeOfBefore(
  home: Home,
  checkpoint: Checkpoint,
  cosignatures: readonly Uint8Array[],
  seen: Checkpoint | undefined,
): boolean {
  if (checkpoint.membership === toHex(hash(home.membership().bytes))) return false
  const before = watchedBy(home)
  // Who has seen nothing yet has nothing to hold against it.
  return seen === undefined || before === undefined || hasQuorum(checkpoint, cosignatures, before)
}

/** The witnesses of what was kept; undefined where that is not known. */
function watchedBy(home: Home): readonly Hex[] | undefined {
  const path = join(home.state, WATCHED)
  if (!existsSync(path)) return undefined
  try {
    return keysOf(openMembership(readWhole(path), home.fleet, home.rootKey))
  } catch (error) {
    if (hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED')) return undefined
    throw error
  }
}

function keysOf(membership: Pick<Membership, 'witnesses' | 'find'>): Hex[] {
  return witnessesOf(membership).map(({ host }) => host)
}

/** With its cosignatures (`encodeCosigned`), for a coordinator that does not know it any more. */
export function seenCheckpoint(home: Home): Buffer | undefined {
  const path = join(home.state, FILE)
  return existsSync(path) ? readWhole(path) : undefined
}

/** Undefined where there is none, or it rotted: it only ever warned. */
function readSeen(home: Home): Checkpoint | undefined {
  const kept = seenCheckpoint(home)
  return kept && openShown(home, kept)?.checkpoint
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
function keep(home: Home, shown: Uint8Array, membership: Membership): void {
  const watched = join(home.state, WATCHED)
  try {
    if (!existsSync(watched) || !readWhole(watched).equals(membership.bytes)) writeDurable(watched, membership.bytes)
    writeDurable(join(home.state, FILE), shown)
  } catch {}
}

function rolledBack(shown: string, seen: Checkpoint | undefined): ImagerError {
  return new ImagerError('ROLLED_BACK', { shown, seen: seen ? nameOf(seen) : 'a newer one' })
}

function nameOf({ term, sequence }: Checkpoint): string {
  return `${sequence} of term ${term}`
}
