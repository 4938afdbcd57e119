/** Which files of a state folder are secrets, and that nobody but their owner may read or change them. */
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { ImagerError } from '../base/errors.js'
import { shellWord } from '../base/shell.js'

/** Folders of the state folder, and which of their files are secrets. */
const SECRETS: readonly (readonly [folder: string, names: RegExp])[] = [
  ['.', /^(identity\.key|held-.+\.bin|opened-.+\.bin)$/],
  ['keys', /\.bin$/],
  ['catalog', /\.db(-wal|-shm)?$/],
]
const OTHERS = 0o077

/** Throws SECRET_EXPOSED where others than its owner may read the file, or change it. */
export function refuseExposed(file: string): void {
  const mode = statSync(file).mode & 0o777
  if ((mode & OTHERS) === 0) return
  throw new ImagerError('SECRET_EXPOSED', { file, quoted: shellWord(file), mode: mode.toString(8).padStart(4, '0') })
}

/** Throws SECRET_EXPOSED for the first secret of a state folder that others may read or change. */
export function refuseExposedSecrets(state: string): void {
  for (const [folder, names] of SECRETS) {
    const path = join(state, folder)
    if (!existsSync(path)) continue
    for (const name of readdirSync(path)) if (names.test(name)) refuseExposed(join(path, name))
  }
}
