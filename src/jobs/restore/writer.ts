/** Fetches what a plan names, by pack, and writes it to the target as it comes; nothing that does not verify. */
import { Slots } from '../../base/queue.js'
import type { PlanLocatedHandle, Target, VaultHandle } from '../../native.js'
import type { OpenSnapshot } from '../../retrieve/open.js'
import type { Meter } from '../progress.js'

/** Stripes being fetched and written. */
const STRIPES_IN_FLIGHT = 4

export interface WriterParts {
  readonly signal: AbortSignal
}

export class Writer {
  readonly #snapshot: OpenSnapshot
  readonly #plan: PlanLocatedHandle
  readonly #target: InstanceType<typeof Target>
  readonly #vault: VaultHandle
  readonly #parts: WriterParts
  readonly #meter: Meter
  #written = 0

  constructor(
    snapshot: OpenSnapshot,
    plan: PlanLocatedHandle,
    target: InstanceType<typeof Target>,
    parts: WriterParts,
    meter: Meter,
  ) {
    this.#snapshot = snapshot
    this.#plan = plan
    this.#target = target
    this.#vault = snapshot.vault
    this.#parts = parts
    this.#meter = meter
  }

  /** `finished` hears of each stripe whose pieces are written. */
  async run(finished: (stripe: number) => Promise<void>): Promise<number> {
    const slots = new Slots(STRIPES_IN_FLIGHT)
    const stripes = this.#plan.stripes()
    await this.#snapshot.packs.prepare(stripes)
    let failure: { error: unknown } | undefined
    await Promise.all(
      stripes.map((stripe) =>
        slots.run(async () => {
          if (failure) return
          try {
            await this.#writeStripe(stripe)
            await finished(stripe)
          } catch (error) {
            failure ??= { error }
          }
        }),
      ),
    )
    if (failure) throw failure.error
    return this.#written
  }

  async #writeStripe(stripe: number): Promise<void> {
    const { signal } = this.#parts
    signal.throwIfAborted()
    const { packs } = this.#snapshot
    const plan = this.#plan
    await packs.open(
      plan.ranges(stripe),
      {
        placed: (blocks) => plan.placed(blocks),
        sought: (blocks) => plan.sought(blocks),
        open: async (pieces, placed) => {
          const [starts, bodies] = [pieces.map(({ start }) => start), pieces.map(({ body }) => body)]
          const { bytes, bad } = await plan.write(stripe, starts, bodies, placed, this.#vault, this.#target)
          this.#written += bytes
          this.#meter.add(bytes)
          return bad
        },
      },
      { signal },
    )
  }
}
