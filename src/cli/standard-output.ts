/**
 * Standard output of which nothing gets lost unseen. It is written by the file descriptor, all of it and at once: Node's own
 * stream takes a disk that has room for a part only as one that took everything, and tells of a full one too late.
 */
import { writeSync } from 'node:fs'

const STDOUT = 1
/** How long to wait for a reader of a pipe that somebody set to not wait. */
const PAUSE_MS = 5

/** Throws what the system said: EPIPE where the reader went away, ENOSPC, EIO. */
export function writeStdout(text: string): void {
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; ) at += writeSome(bytes, at)
}

function writeSome(bytes: Buffer, at: number): number {
  try {
    return writeSync(STDOUT, bytes, at)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS)
    return 0
  }
}
