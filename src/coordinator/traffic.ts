/** Bytes of bodies that a coordinator received and sent, by call: what "no block data passes through it" is measured with. */
import type { CallName } from './calls.js'

export interface Passed {
  calls: number
  receivedBytes: number
  sentBytes: number
}

export class Traffic {
  readonly byCall: Partial<Record<CallName, Passed>> = {}

  add(call: CallName, received: Uint8Array, sent: Uint8Array): void {
    const passed = this.byCall[call] ?? { calls: 0, receivedBytes: 0, sentBytes: 0 }
    this.byCall[call] = passed
    passed.calls++
    passed.receivedBytes += received.length
    passed.sentBytes += sent.length
  }

  get total(): Passed {
    const sum = { calls: 0, receivedBytes: 0, sentBytes: 0 }
    for (const { calls, receivedBytes, sentBytes } of Object.values(this.byCall)) {
      sum.calls += calls
      sum.receivedBytes += receivedBytes
      sum.sentBytes += sentBytes
    }
    return sum
  }
}
