/**
 * A folder of this host into which names from elsewhere are written. Every call goes through the open folder's descriptor
 * (`/proc/self/fd/N/name`, the kernel's openat for programs that have none), one name at a time, and follows no symbolic
 * link; so nothing can lead outside, whatever lies in the target or is put there meanwhile.
 */
import { closeSync, constants, lstatSync, mkdirSync, openSync, renameSync, type Stats, unlinkSync } from 'node:fs'
import { ImagerError, reason } from '../base/errors.js'

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants

/** Why a name may not be written; undefined where it may. */
export function refusedName(name: Buffer): string | undefined {
  if (name.length === 0) return 'its name is empty'
  if (name.includes(0x2f) || name.includes(0)) return 'its name holds a slash or a zero byte'
  const text = name.toString('latin1')
  return text === '.' || text === '..' ? `its name is ${JSON.stringify(text)}` : undefined
}

export class Folder {
  readonly #descriptor: number
  readonly #prefix: Buffer

  private constructor(descriptor: number) {
    this.#descriptor = descriptor
    this.#prefix = Buffer.from(`/proc/self/fd/${descriptor}/`)
  }

  /** The folder that a person named: links in its path are followed. It is made where there is none. */
  static open(path: string): Folder {
    try {
      mkdirSync(path, { recursive: true })
      return new Folder(openSync(path, O_RDONLY | O_DIRECTORY))
    } catch (cause) {
      throw new ImagerError('TARGET_MISSING', { path, why: reason(cause) }, { cause })
    }
  }

  /** A folder below, name by name. Throws what the system says where one is missing, a link or no folder. */
  descend(names: readonly Buffer[]): Folder {
    let at: Folder = new Folder(openSync(this.path(SELF), O_RDONLY | O_DIRECTORY))
    for (const name of names) {
      try {
        const next = new Folder(openSync(at.path(checked(name)), O_RDONLY | O_DIRECTORY | O_NOFOLLOW))
        at.close()
        at = next
      } catch (error) {
        at.close()
        throw error
      }
    }
    return at
  }

  /** False where a folder of that name was there. */
  make(name: Buffer): boolean {
    try {
      mkdirSync(this.path(checked(name)), 0o700)
      return true
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      return false
    }
  }

  /** For calls that do not follow a link in the last part of a path. */
  path(name: Buffer): Buffer {
    return Buffer.concat([this.#prefix, name])
  }

  /** The folder itself, for calls that take a path. */
  get self(): Buffer {
    return this.path(SELF)
  }

  find(name: Buffer): Stats | undefined {
    return lstatSync(this.path(checked(name)), { throwIfNoEntry: false })
  }

  /** Gives what was made under `temporary` its name. Throws EEXIST where that is taken and not to be replaced. */
  settle(temporary: Buffer, name: Buffer, replace: boolean): void {
    if (!replace && this.find(name)) throw Object.assign(new Error('it exists already'), { code: 'EEXIST' })
    renameSync(this.path(temporary), this.path(checked(name)))
  }

  /** Removes a name if it is there. */
  drop(name: Buffer): void {
    try {
      unlinkSync(this.path(checked(name)))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }

  close(): void {
    closeSync(this.#descriptor)
  }
}

const SELF = Buffer.from('.')

/** Whoever plans leaves such names out; this is the wall behind. */
function checked(name: Buffer): Buffer {
  const why = refusedName(name)
  if (why) throw new ImagerError('INVALID', { what: `${JSON.stringify(name.toString())} cannot be written: ${why}` })
  return name
}
