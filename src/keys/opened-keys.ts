/**
 * The keys of appliances that the recovery words opened: kept by the host that recovered the fleet, for seven days or until
 * `imager lock`, so that what burned can be restored without typing the words each time. They lie in its state folder
 * alone, each sealed to this host, and go to nobody (docs/formats/state.md):
 *
 *   opened-keys.bin    statement of this host: fleet, when they were opened, and each key with its appliance and purpose
 *   opened-clock.bin   statement of this host: how much of the seven days is over, and the time of the last look
 *
 * Two files, because the time is written by whoever looks: a look that wrote the keys as well could put back what
 * `imager lock` removes at that moment. What does not verify is removed like what is over: the words open everything anew.
 */
import { closeSync, existsSync, fstatSync, fsyncSync, openSync, readdirSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { hasCode, ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { atPath, systemError } from '../base/system.js'
import type { SecretHandle } from '../native.js'
import { readWhole, syncFolder, writeDurable } from './durable.js'
import { Base64, Count, Id, Key, Time } from './fields.js'
import { openStatement, signStatement } from './statement.js'

export const OPEN_MS = 7 * 24 * 3_600_000
/** How old the time of the last look may become before it is written again. */
const NOTE_MS = 60_000
/** As many as fit a statement. What is beyond opens with the words. */
const KEYS = 3000

const KEYS_FILE = 'opened-keys.bin'
const CLOCK_FILE = 'opened-clock.bin'
/** What is left of a write that was cut short holds keys, too. */
const LEFT = /^\.opened-(?:keys|clock)\.bin\.\d+\.new$/

const KeyRow = v.strictObject({
  appliance: Key,
  /** manifest: M_a. domain: D of its blocks, which may be another than that of new hosts. */
  purpose: v.picklist(['manifest', 'domain']),
  key: Id,
  sealed: Base64(256),
})
const KeysBody = v.strictObject({
  fleet: Id,
  /** Milliseconds since 1970, by this host's clock. */
  opened: Time,
  keys: v.pipe(v.array(KeyRow), v.maxLength(KEYS)),
})
const ClockBody = v.strictObject({
  fleet: Id,
  /** Of which opening this is the time. */
  opened: Time,
  spentMs: Count,
  /** The clock at the last look. */
  seen: Time,
})
type KeyRow = v.InferOutput<typeof KeyRow>
type KeysBody = v.InferOutput<typeof KeysBody>
type ClockBody = v.InferOutput<typeof ClockBody>
/** Both files. */
interface Opening {
  readonly keys: KeysBody
  readonly clock: ClockBody
}

/** Whose keys they are: a host and its state folder. */
export interface Keeper {
  readonly state: string
  readonly fleet: Hex
  readonly secret: SecretHandle
}

export type OpenedPurpose = KeyRow['purpose']

/** Of one appliance, all that a recovery opened. */
export type ApplianceOpened = Readonly<Record<`${OpenedPurpose}s`, readonly SecretHandle[]>>

export interface OpenedKeys {
  /** Milliseconds since 1970. */
  readonly until: number
  readonly appliances: readonly Hex[]
  /** Empty where none was opened. */
  keysOf(appliance: Hex, purpose: OpenedPurpose): SecretHandle[]
}

/** Why there are none: empty where none were opened here, or `imager lock` has removed them. */
export interface NoOpenedKeys {
  readonly why: string
}

/**
 * Takes the place of what an earlier recovery opened. Gives until when they are kept, in milliseconds since 1970; undefined
 * where there are none.
 */
export function keepOpenedKeys(
  keeper: Keeper,
  opened: Iterable<readonly [appliance: Hex, keys: ApplianceOpened]>,
  now: number,
): number | undefined {
  const { state, fleet, secret } = keeper
  const host = toHex(secret.signingKey())
  const seal = (appliance: Hex, purpose: OpenedPurpose) => (key: SecretHandle) => {
    const row = { appliance, purpose, key: toHex(key.id()) }
    const sealed = key.sealTo(secret.sealingKey(), binding(fleet, row, host))
    return { ...row, sealed: sealed.toString('base64') }
  }
  const keys = thatFit(opened).flatMap(([appliance, { manifests, domains }]) => [
    ...manifests.map(seal(appliance, 'manifest')),
    ...domains.map(seal(appliance, 'domain')),
  ])
  removeOpenedKeys(state)
  if (keys.length === 0) return undefined
  // The keys come last: without them the time means nothing.
  writeClock(keeper, { fleet, opened: now, spentMs: 0, seen: now })
  const body: KeysBody = { fleet, opened: now, keys }
  writeDurable(join(state, KEYS_FILE), signStatement('opened-keys', body, secret))
  return now + OPEN_MS
}

/** Those with the fewest keys first, and each whole: who signed as many as it may keeps no other out. */
function thatFit(opened: Iterable<readonly [Hex, ApplianceOpened]>): (readonly [Hex, ApplianceOpened])[] {
  const countOf = ([, { manifests, domains }]: readonly [Hex, ApplianceOpened]) => manifests.length + domains.length
  const theirs = [...opened].filter(([, { manifests }]) => manifests.length > 0)
  let room = KEYS
  const kept: (readonly [Hex, ApplianceOpened])[] = []
  for (const one of theirs.toSorted((a, b) => countOf(a) - countOf(b))) {
    room -= countOf(one)
    if (room >= 0) kept.push(one)
  }
  return kept
}

/** What is open at this moment. Removes what is over, or does not verify. */
export function findOpenedKeys(keeper: Keeper, now: number): OpenedKeys | NoOpenedKeys {
  const { state } = keeper
  if (!existsSync(join(state, KEYS_FILE))) return { why: '' }
  let opening: Opening
  try {
    opening = decodeOpening(keeper, readWhole(join(state, KEYS_FILE)), readWhole(join(state, CLOCK_FILE)))
  } catch (error) {
    // Locked this very moment.
    if (!existsSync(join(state, KEYS_FILE))) return { why: '' }
    const isDamage = hasCode(error, 'CORRUPT', 'FORGED', 'UNSUPPORTED') || !existsSync(join(state, CLOCK_FILE))
    if (!isDamage) throw error
    whereWritable(() => removeOpenedKeys(state))
    return { why: `, as ${join(state, KEYS_FILE)} was damaged` }
  }
  const { keys, clock } = opening
  const spentMs = spentAt(clock, now)
  if (spentMs >= OPEN_MS) {
    whereWritable(() => removeOpenedKeys(state))
    return { why: ', as the seven days after the recovery are over' }
  }
  if (now < clock.seen || now - clock.seen >= NOTE_MS) {
    whereWritable(() => writeClock(keeper, { ...clock, spentMs, seen: now }))
  }
  return {
    until: now + OPEN_MS - spentMs,
    appliances: [...new Set(keys.keys.map(({ appliance }) => appliance))],
    keysOf: (wanted, purpose) =>
      keys.keys.filter((row) => row.appliance === wanted && row.purpose === purpose).map((row) => openKey(keeper, row)),
  }
}

/**
 * How much of the seven days is over. A clock that was set back adds nothing and gives nothing back: what was left at the
 * last look is what is left now. Pure.
 */
export function spentAt({ spentMs, seen }: Pick<ClockBody, 'spentMs' | 'seen'>, now: number): number {
  return spentMs + Math.max(0, now - seen)
}

/** At once: overwritten, unlinked, the folder synced. False where there was nothing. */
export function removeOpenedKeys(state: string): boolean {
  const left = existsSync(state) ? readdirSync(state).filter((name) => LEFT.test(name)) : []
  const there = [KEYS_FILE, CLOCK_FILE, ...left].map((name) => join(state, name)).filter((path) => existsSync(path))
  for (const path of there) {
    overwrite(path)
    rmSync(path, { force: true })
  }
  if (there.length > 0) syncFolder(state)
  return there.length > 0
}

function overwrite(path: string): void {
  const file = openSync(path, 'r+')
  try {
    atPath(path, () => {
      writeSync(file, Buffer.alloc(fstatSync(file).size))
      fsyncSync(file)
    })
  } finally {
    closeSync(file)
  }
}

/** Both files. Throws CORRUPT, UNSUPPORTED or FORGED where they are not this host's, of its fleet and of one opening. */
export function decodeOpening(keeper: Omit<Keeper, 'state'>, keysFile: Uint8Array, clockFile: Uint8Array): Opening {
  const host = toHex(keeper.secret.signingKey())
  const keys = openStatement('opened-keys', KeysBody, keysFile)
  const clock = openStatement('opened-clock', ClockBody, clockFile)
  for (const { signer, body } of [keys, clock]) {
    if (signer !== host) throw new ImagerError('FORGED', { what: 'Opened keys are of another host' })
    if (body.fleet !== keeper.fleet) throw new ImagerError('FORGED', { what: 'Opened keys belong to another fleet' })
  }
  if (clock.body.opened !== keys.body.opened) throw new ImagerError('CORRUPT', { what: 'They are of two openings' })
  return { keys: keys.body, clock: clock.body }
}

function writeClock({ state, secret }: Keeper, body: ClockBody): void {
  writeDurable(join(state, CLOCK_FILE), signStatement('opened-clock', body, secret))
}

function openKey({ fleet, secret }: Keeper, { sealed, ...row }: KeyRow): SecretHandle {
  const info = binding(fleet, row, toHex(secret.signingKey()))
  return secret.openSealed(Buffer.from(sealed, 'base64'), info)
}

/** HPKE's info: no sealed key passes as that of another appliance, purpose, fleet or host, or as a key entry. */
function binding(fleet: Hex, { appliance, purpose, key }: Omit<KeyRow, 'sealed'>, host: Hex): Buffer {
  return Buffer.concat([
    Buffer.from('imager v1 opened key\0'),
    ...[fleet, appliance, key, host].map((text) => Buffer.from(text, 'hex')),
    Buffer.from(purpose),
  ])
}

/** A restore works with a state folder that is full or read-only; what is over opens nothing there either. */
function whereWritable(task: () => void): void {
  try {
    task()
  } catch (error) {
    if (!systemError(error)) throw error
  }
}
