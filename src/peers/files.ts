/** A file that is whole or absent, also after a power cut: temporary name, fsync, rename, fsync of the folder. */
import { open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { ImagerError, reason } from '../base/errors.js'

/** Durable when it returns; where it throws, neither file is there. `temporary` is on the same file system. */
export async function writeWhole(temporary: string, path: string, bytes: Uint8Array): Promise<void> {
  await writeSynced(temporary, bytes)
  await moveWhole(temporary, path)
}

/** A new file, its bytes durable when it returns; its name is not. */
export async function writeSynced(temporary: string, bytes: Uint8Array): Promise<void> {
  try {
    const file = await open(temporary, 'wx', 0o600)
    try {
      await file.writeFile(bytes)
      await file.sync()
    } finally {
      await file.close()
    }
  } catch (error) {
    // After a failed fsync nobody knows what the disk holds, so it does not stay.
    await rm(temporary, { force: true }).catch(() => {})
    throw error
  }
}

/** The same for a file that was written and synced under its temporary name. */
export async function moveWhole(temporary: string, path: string): Promise<void> {
  let made = temporary
  try {
    await rename(temporary, path)
    made = path
    await syncFolder(dirname(path))
  } catch (error) {
    await rm(made, { force: true }).catch(() => {})
    throw error
  }
}

export async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path)
  } catch (error) {
    if (isMissing(error)) return undefined
    throw new ImagerError('IO', { what: reason(error) }, { cause: error })
  }
}

export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

export function isMissing(error: unknown): boolean {
  return codeOf(error) === 'ENOENT'
}

export function isNoSpace(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(codeOf(error) ?? '')
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code
}
