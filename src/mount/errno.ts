/** Failures as the kernel wants them: a number. Whatever has no number of its own is EIO, never data. */
import { constants } from 'node:os'
import { ImagerError } from '../base/errors.js'

export const { ENOENT, EIO, ENODATA, EINVAL, EISDIR, ENOTDIR, ENAMETOOLONG, EPERM } = constants.errno

/** An answer that is no failure of ours: the caller asked for what is not there. Not logged. */
export class Refusal extends Error {
  override readonly name = 'Refusal'

  constructor(readonly errno: number) {
    super(`errno ${errno}`)
  }
}

export function errnoOf(error: unknown): number {
  if (error instanceof Refusal) return error.errno
  if (error instanceof ImagerError && error.code === 'NO_SUCH_FILE') return ENOENT
  return EIO
}
