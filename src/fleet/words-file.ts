/**
 * The 24 words in a file of their owner: made here, 0600, and never over one that holds words already. A founding that was
 * cut short behind it goes on with the words that are there; nobody else's are taken for them.
 */
import { closeSync, fsyncSync, lstatSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { ImagerError } from '../base/errors.js'
import { syncFolder } from '../keys/durable.js'
import { hasHome, unfinishedRoot } from '../keys/home.js'
import { deriveRoot } from '../keys/root.js'
import { refuseExposed } from '../keys/secret-files.js'
import { Secret, type SecretHandle } from '../native.js'
import type { InitOptions } from './init.js'

/** What `initFleet` needs to keep the words in `file`. Throws STATE_EXISTS, WORDS_FILE, SECRET_EXPOSED. */
export function wordsInFile(file: string, state: string): Pick<InitOptions, 'seed' | 'keepWords'> {
  const seed = seedLeftIn(file, state)
  if (seed) return { seed, keepWords: () => undefined }
  return { keepWords: (words) => writeNew(file, `${words}\n`) }
}

/** The seed whose words a founding of this state folder left there before it was cut short; undefined: there is no file. */
function seedLeftIn(file: string, state: string): SecretHandle | undefined {
  if (hasHome(state)) throw new ImagerError('STATE_EXISTS', { state })
  const there = lstatSync(file, { throwIfNoEntry: false })
  if (!there) return undefined
  const root = unfinishedRoot(state)
  if (!there.isFile() || root === undefined) throw taken(file)
  if (there.size === 0) {
    // Its words were on their way. An empty file holds nobody's.
    rmSync(file)
    return undefined
  }
  refuseExposed(file)
  const seed = readSeed(file)
  if (!seed || deriveRoot(seed).rootKey !== root) throw taken(file)
  return seed
}

function readSeed(file: string): SecretHandle | undefined {
  try {
    return Secret.fromWords(readFileSync(file, 'utf8'))
  } catch {
    return undefined
  }
}

/** Follows no link, as the name must be free. */
function writeNew(file: string, text: string): void {
  const descriptor = openSync(file, 'wx', 0o600)
  try {
    writeFileSync(descriptor, text)
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
  syncFolder(dirname(file))
}

function taken(file: string): ImagerError {
  return new ImagerError('WORDS_FILE', { file })
}
