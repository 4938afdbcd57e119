/**
 * Other tools on the same disk in the same run. One object each: how to tell that it is installed, how to make a
 * repository, back a disk image up and get it back. A further tool is one more object in CONTENDERS.
 */
import { spawnSync } from 'node:child_process'
import type { Command } from './measure.js'

export interface Contender {
  readonly name: string
  readonly version: readonly string[]
  /** The oldest one that knows the options used here. */
  readonly oldest: string
  create(repository: string): Command
  backup(repository: string, image: string): Command
  /** Into an empty folder. */
  restore(repository: string, folder: string): Command
}

const restic = (repository: string, ...args: string[]): Command => ({
  argv: ['restic', '--repo', repository, '--cache-dir', `${repository}.cache`, '--quiet', ...args],
  env: { RESTIC_PASSWORD: 'measured' },
})

const CONTENDERS: readonly Contender[] = [
  {
    name: 'restic',
    version: ['restic', 'version'],
    oldest: '0.15',
    create: (repository) => restic(repository, 'init'),
    backup: (repository, image) => restic(repository, 'backup', image),
    restore: (repository, folder) => restic(repository, 'restore', 'latest', '--sparse', '--target', folder),
  },
]

/** Those that are installed and not too old, with their version. */
export function installedContenders(): { contender: Contender; version: string }[] {
  return CONTENDERS.flatMap((contender) => {
    const [command = '', ...args] = contender.version
    const answer = spawnSync(command, args, { encoding: 'utf8' })
    const version = /\d+(\.\d+)+/.exec(answer.stdout ?? '')?.[0]
    return version && isAtLeast(version, contender.oldest) ? [{ contender, version }] : []
  })
}

/** `0.18.0` is at least `0.15`; `0.9` is not. */
export function isAtLeast(version: string, oldest: string): boolean {
  return version.localeCompare(oldest, 'en', { numeric: true }) >= 0
}
