/**
 * How far a host's clock is from the coordinator's. Each answer says the coordinator's time; the host takes half of the round
 * trip off, and tells what it found with its next call. Both are headers, so that every call of every host measures.
 */
import { CLOCK_ROUND_TRIP_MS } from '../base/limits.js'
import { formatSeconds } from '../base/units.js'

/** Of an answer: the coordinator's time, in milliseconds since 1970. */
export const TIME_HEADER = 'imager-time'
/** Of a call: the caller's clock less the coordinator's, in milliseconds. */
export const SKEW_HEADER = 'imager-clock-skew'

/** Undefined where the answer took too long to tell, or says no time. Pure. */
export function measureSkew(sentMs: number, receivedMs: number, theirsMs: number): number | undefined {
  const roundTripMs = receivedMs - sentMs
  if (!Number.isSafeInteger(theirsMs) || theirsMs <= 0) return undefined
  if (roundTripMs < 0 || roundTripMs > CLOCK_ROUND_TRIP_MS) return undefined
  return Math.round(sentMs + roundTripMs / 2 - theirsMs)
}

/** What a caller says; undefined where it says nothing that could be. */
export function readSkew(header: unknown): number | undefined {
  return typeof header === 'string' && /^-?\d{1,15}$/.test(header) ? Number(header) : undefined
}

/** What is wrong with the clock of a host, and what to type: the coordinator's may be the wrong one. */
export function describeSkew(name: string, skewMs: number): string {
  const by = `${formatSeconds(Math.abs(skewMs) / 1000)} ${skewMs < 0 ? 'behind' : 'ahead of'}`
  return `The clock of ${name} is ${by} the coordinator's; on the host whose clock is off type \`timedatectl set-ntp true\``
}
