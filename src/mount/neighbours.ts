/**
 * Who reads some small files of one neighbourhood of the disk reads the others there too: tar, cp -r, a virus scanner. File
 * systems lay the files of a folder side by side, so the whole neighbourhood comes in a few ranges. Only a hint.
 */
import { MiB } from '../base/units.js'
import { LruCache } from '../retrieve/cache.js'

const AREA_BYTES = 2 * MiB
/** Whole files read in an area before the rest of it is asked for. */
const ENOUGH = 3
const AREAS = 1024

export class Neighbours {
  readonly #read = new LruCache<number, number>(AREAS)

  constructor(readonly prefetch: (offset: number, length: number) => void) {}

  /** A whole file was read that lies at this offset of the disk, in bytes. */
  read(disk: number): void {
    const area = Math.floor(disk / AREA_BYTES)
    const times = (this.#read.get(area) ?? 0) + 1
    this.#read.set(area, times)
    if (times === ENOUGH) this.prefetch(area * AREA_BYTES, AREA_BYTES)
  }
}
