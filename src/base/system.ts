/** What the operating system refuses, in words and with the path that it was about. */
import { ImagerError } from './errors.js'

/** The refusals that people meet. */
const REFUSALS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file or folder',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EISDIR: 'that is a folder, not a file',
  ENOTDIR: 'that is a file, not a folder',
  ENOSPC: 'the disk is full',
  EROFS: 'that file system is read-only',
  EIO: 'the device answers with an error',
  EFBIG: 'it is too large for that file system',
  EDQUOT: 'the quota there is used up',
  EMFILE: 'this process has too many files and connections open',
  ENFILE: 'this computer has too many files and connections open',
}
const LIMITS = ['EMFILE', 'ENFILE', 'ENOMEM', 'ENOBUFS', 'EAGAIN', 'EADDRNOTAVAIL']

/** Undefined where there are no better words than the system's own. */
export function whyRefused(error: unknown): string | undefined {
  const { code } = error as NodeJS.ErrnoException
  return code === undefined ? undefined : REFUSALS[code]
}

/** Whether this computer has no more of something: whoever was to be asked knows nothing of it. */
export function isLimit(error: unknown): boolean {
  return LIMITS.includes((error as NodeJS.ErrnoException).code ?? '')
}

/** SYSTEM, DENIED, EXHAUSTED or NO_WORKING_FOLDER; undefined for what is no refusal of the operating system. `path`: for people. */
export function systemError(error: unknown, path = (error as NodeJS.ErrnoException).path): ImagerError | undefined {
  if (!(error instanceof Error) || error instanceof ImagerError || !('syscall' in error)) return undefined
  const { code = '', syscall } = error as NodeJS.ErrnoException
  if (syscall === 'uv_cwd') return new ImagerError('NO_WORKING_FOLDER', {}, { cause: error })
  const why = whyRefused(error)
  const what = why === undefined ? error.message : `${path === undefined ? '' : `${path}: `}${why}`
  const kind = isLimit(error) ? 'EXHAUSTED' : ['EACCES', 'EPERM'].includes(code) ? 'DENIED' : 'SYSTEM'
  return new ImagerError(kind, { what }, { cause: error })
}

/** Node names the path where a file is opened, and not where it is read or written. */
export function atPath<T>(path: string, task: () => T): T {
  try {
    return task()
  } catch (error) {
    if (error instanceof Error && 'syscall' in error && !('path' in error)) Object.assign(error, { path })
    throw error
  }
}
