/**
 * How hard to compress: harder where the run waits for the network and the peers while processors are idle, less where it
 * waits for the compression. What was stored before does not depend on it: a block's name comes from its plain bytes.
 */
import { cpus } from 'node:os'
import type { Clock } from '../../base/clock.js'

/** zstd's. On blocks of 64 KiB each costs some three times the one before (docs/measurements.md). */
export const LEVELS = [1, 3, 6, 9] as const
/** Batches of 8 MiB between two decisions. */
const BATCHES = 8
/**
 * Of the time since the last decision, a full pack waited to be sent. From this share on the level rises, if processors
 * are idle.
 */
const HELD_UP = 0.5
const FLOWING = 0.1
/**
 * Share of processor time that must be idle for that: a peer on the same machine, or another program, may be what keeps
 * the sending waiting.
 */
const IDLE = 0.25

/** Of the time since the last decision, shares from 0 to 1. */
export interface Sample {
  readonly waitedForSending: number
  readonly idleProcessors: number
}

/** The level for the next batches, a step up or down from this one at most. */
export function nextLevel(level: number, { waitedForSending, idleProcessors }: Sample): number {
  const at = LEVELS.findIndex((one) => one >= level)
  if (waitedForSending >= HELD_UP && idleProcessors >= IDLE) return LEVELS[at + 1] ?? level
  if (waitedForSending <= FLOWING) return LEVELS[at - 1] ?? level
  return level
}

/** Busy and idle time of all processors since the start, in any unit. */
export type ProcessorTimes = () => { readonly busy: number; readonly idle: number }

/** Watches a run and decides after every few batches. */
export class Leveller {
  level: number = LEVELS[0]
  #batches = 0
  #waitedMs = 0
  #since: { readonly ms: number; readonly busy: number; readonly idle: number }

  constructor(
    readonly clock: Clock,
    readonly processors: ProcessorTimes = processorTimes,
  ) {
    this.#since = { ms: clock.now(), ...processors() }
  }

  /** `work` is a wait for the sending of what is full. */
  async waiting(work: Promise<unknown>): Promise<void> {
    const began = this.clock.now()
    await work
    this.#waitedMs += this.clock.now() - began
  }

  batchDone(): void {
    if (++this.#batches % BATCHES !== 0) return
    const now = { ms: this.clock.now(), ...this.processors() }
    const [elapsed, busy, idle] = [now.ms - this.#since.ms, now.busy - this.#since.busy, now.idle - this.#since.idle]
    this.level = nextLevel(this.level, {
      waitedForSending: this.#waitedMs / Math.max(1, elapsed),
      idleProcessors: idle / Math.max(1, busy + idle),
    })
    this.#since = now
    this.#waitedMs = 0
  }
}

function processorTimes() {
  const times = cpus().map((one) => one.times)
  const sum = (part: (one: (typeof times)[number]) => number) => times.reduce((total, one) => total + part(one), 0)
  return { busy: sum(({ user, nice, sys, irq }) => user + nice + sys + irq), idle: sum(({ idle }) => idle) }
}
