/**
 * Listings that go on where the last answer ended. The kernel names a place in a folder by a number; here that is the
 * position among the children, and a window of children for each open folder turns it back into a name. A place
 * outside of the window is found by walking from the start: a snapshot's folders never change, so it is the same.
 */
import type { Child } from '../retrieve/reader.js'

export type FetchChildren = (after: Buffer | null, limit: number) => Promise<Child[]>

const WINDOW = 512
/** Open folders that are remembered: 128 windows of 512 names are about 10 MiB. */
const FOLDERS = 128

export interface Some<C extends Child = Child> {
  readonly children: readonly C[]
  /** The folder ends with the last of them. */
  readonly ended: boolean
}

interface Window extends Some {
  readonly first: number
}

export class Folders {
  readonly #windows = new Map<number, Window>()

  /** Some children from `position` on, at least one unless the folder ends there. */
  async from(handle: number, position: number, fetch: FetchChildren): Promise<Some> {
    let window = this.#windows.get(handle)
    if (!window || position < window.first) window = await windowAt(0, null, fetch)
    while (position >= window.first + window.children.length) {
      const last = window.children.at(-1)
      if (window.ended || !last) return { children: [], ended: true }
      window = await windowAt(window.first + window.children.length, last.name, fetch)
    }
    this.#keep(handle, window)
    return { children: window.children.slice(position - window.first), ended: window.ended }
  }

  #keep(handle: number, window: Window): void {
    this.#windows.delete(handle)
    this.#windows.set(handle, window)
    if (this.#windows.size <= FOLDERS) return
    for (const oldest of this.#windows.keys()) {
      this.#windows.delete(oldest)
      break
    }
  }
}

async function windowAt(first: number, after: Buffer | null, fetch: FetchChildren): Promise<Window> {
  const children = await fetch(after, WINDOW)
  return { first, children, ended: children.length < WINDOW }
}
