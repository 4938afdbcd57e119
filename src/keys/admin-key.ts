/**
 * The key of an admin: a file of a person, 32 bytes, for the owner's eyes only. It belongs to no host and to no state folder; what
 * makes it an admin's is the root's word in a membership (admins.ts).
 */
import { existsSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { ImagerError } from '../base/errors.js'
import { keepMemoryPrivate, Secret, type SecretHandle } from '../native.js'
import { syncFolder } from './durable.js'
import { refuseExposed } from './secret-files.js'

/** Throws NOT_ADMIN where there is no such file, SECRET_EXPOSED where others may read it, CORRUPT where it is no key. */
export function loadAdminKey(path: string): SecretHandle {
  if (!existsSync(path)) throw new ImagerError('NOT_ADMIN', { what: `There is no key of an admin in ${path}` })
  keepMemoryPrivate()
  refuseExposed(path)
  return Secret.load(path)
}

/** The one that lies there, or a new one: who could not finish says the same again. */
export function makeAdminKey(path: string): SecretHandle {
  if (existsSync(path)) return loadAdminKey(path)
  keepMemoryPrivate()
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const key = Secret.random()
  key.save(path)
  syncFolder(dirname(path))
  return key
}
