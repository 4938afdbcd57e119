/** Small private files that are either wholly there or not at all, also after a power cut: 0600, in folders of 0700. */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { atPath } from '../base/system.js'

export function makeFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 })
}

/** Replaces `path` in one step. */
export function writeDurable(path: string, bytes: Uint8Array): void {
  const folder = dirname(path)
  const temporary = join(folder, `.${basename(path)}.${process.pid}.new`)
  try {
    // What a process of that number left there is of no use to anybody.
    rmSync(temporary, { force: true })
    const file = openSync(temporary, 'wx', 0o600)
    try {
      atPath(temporary, () => {
        writeFileSync(file, bytes)
        fsyncSync(file)
      })
    } finally {
      closeSync(file)
    }
    renameSync(temporary, path)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
  syncFolder(folder)
}

/** The whole file. A disk that fails is told with the path. */
export function readWhole(path: string): Buffer {
  return atPath(path, () => readFileSync(path))
}

export function syncFolder(path: string): void {
  const folder = openSync(path, 'r')
  try {
    atPath(path, () => fsyncSync(folder))
  } finally {
    closeSync(folder)
  }
}
