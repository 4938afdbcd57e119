/** Bounded concurrency. */

/** Runs `task` on each item, at most `width` at once; items are taken only as they are needed. The first failure ends it. */
export async function forEachAtOnce<T>(
  items: Iterable<T>,
  width: number,
  task: (item: T) => Promise<void>,
): Promise<void> {
  const iterator = items[Symbol.iterator]()
  let failed = false
  const work = async () => {
    for (let next = iterator.next(); !next.done && !failed; next = iterator.next()) {
      try {
        await task(next.value)
      } catch (error) {
        failed = true
        throw error
      }
    }
  }
  try {
    await Promise.all(Array.from({ length: width }, work))
  } finally {
    if (failed) iterator.return?.()
  }
}

/** At most `width` tasks at once, in the order they were given. */
export class Slots {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(width: number) {
    this.#free = width
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    try {
      return await task()
    } finally {
      const next = this.#waiting.shift()
      if (next) next()
      else this.#free++
    }
  }
}

/** The same, of which nobody has more than his share: who holds his for long keeps nobody else waiting. */
export class SharedSlots {
  readonly #all: Slots
  readonly #share: number
  readonly #byOwner = new Map<string, { readonly slots: Slots; asked: number }>()

  constructor(width: number, share: number) {
    this.#all = new Slots(width)
    this.#share = share
  }

  async run<T>(owner: string, task: () => Promise<T>): Promise<T> {
    const own = this.#byOwner.get(owner) ?? { slots: new Slots(this.#share), asked: 0 }
    this.#byOwner.set(owner, own)
    own.asked++
    try {
      return await own.slots.run(() => this.#all.run(task))
    } finally {
      own.asked--
      if (own.asked === 0) this.#byOwner.delete(owner)
    }
  }
}

/** So much of something at once. Who asks for more than is left waits, in the order in which they came. */
export class Room {
  readonly #whole: number
  #left: number
  readonly #waiting: { readonly size: number; readonly enter: () => void }[] = []

  constructor(size: number) {
    this.#whole = size
    this.#left = size
  }

  get isEmpty(): boolean {
    return this.#left === this.#whole && this.#waiting.length === 0
  }

  /** Somebody waits. */
  get isAwaited(): boolean {
    return this.#waiting.length > 0
  }

  /** `size` is at most the room's. */
  async claim(size: number): Promise<void> {
    if (this.#waiting.length > 0 || size > this.#left) {
      return new Promise((enter) => this.#waiting.push({ size, enter }))
    }
    this.#left -= size
  }

  release(size: number): void {
    this.#left += size
    for (let [next] = this.#waiting; next && next.size <= this.#left; [next] = this.#waiting) {
      this.#waiting.shift()
      this.#left -= next.size
      next.enter()
    }
  }
}
