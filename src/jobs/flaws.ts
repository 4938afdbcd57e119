/** What a snapshot could not get of its source, and what it left out, as the catalog keeps it: bounded. */
import type { Flaws } from '../catalog/types.js'

/** Rows of each list in a summary, which has 64 KiB in all; the snapshot's own description has more of them. */
export const LISTED = 32
const PATH_CHARACTERS = 512

export function listed({ bytes, ranges, files }: Flaws): Flaws {
  const paths = files.slice(0, LISTED).map((path) => path.slice(0, PATH_CHARACTERS))
  return { bytes, ranges: ranges.slice(0, LISTED), files: paths }
}
