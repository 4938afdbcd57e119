/**
 * A file that a person asked for: wholly there under its name, or not at all. Nothing that was there is lost without a
 * word, and never what is no plain file.
 */
import {
  closeSync,
  fsyncSync,
  linkSync,
  lstatSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { ImagerError, reason } from '../base/errors.js'

export interface OutputOptions {
  /** Replace a file of that name. */
  readonly force: boolean
  /** What must not be written over, whatever is asked for. */
  readonly source: string
}

/** Throws TARGET_MISSING or TARGET_NOT_EMPTY. */
export function inspectOutput(path: string, { force, source }: OutputOptions): void {
  const there = lstatSync(path, { throwIfNoEntry: false })
  if (!there) return
  if (!there.isFile()) throw new ImagerError('TARGET_MISSING', { path, why: 'it is there, and is no regular file' })
  const from = statSync(source, { throwIfNoEntry: false })
  if (there.dev === from?.dev && there.ino === from.ino)
    throw new ImagerError('TARGET_MISSING', { path, why: 'it is the source' })
  if (!force)
    throw new ImagerError('TARGET_NOT_EMPTY', {
      path,
      what: 'a file of that name is there',
      loss: 'it will be replaced',
    })
}

/** Throws what `inspectOutput` throws, also where the name was taken in the meantime. */
export function writeOutput(path: string, text: string, options: OutputOptions): void {
  inspectOutput(path, options)
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.new`)
  try {
    const file = openSync(temporary, 'wx')
    try {
      writeFileSync(file, text)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    // A link, unlike a rename, does not replace what is there.
    if (options.force) renameSync(temporary, path)
    else linkSync(temporary, path)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') inspectOutput(path, options)
    throw new ImagerError('TARGET_MISSING', { path, why: reason(cause) }, { cause })
  } finally {
    rmSync(temporary, { force: true })
  }
}
