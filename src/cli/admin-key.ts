/** The option of commands that an admin types with his own key, on any machine of the fleet. */
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Argv } from 'yargs'
import type { SecretHandle } from '../native.js'
import type { Context } from './context.js'

export function takingAdminKey<T>(yargs: Argv<T>) {
  return yargs.option('admin-key', {
    type: 'string',
    requiresArg: true,
    describe:
      'File with the key of an admin, who signs it (left out: ~/.config/imager/admin.key, if this host may not itself)',
  })
}

export function usualAdminKey(): string {
  return join(process.env.XDG_CONFIG_HOME ?? join(homedir(), '.config'), 'imager', 'admin.key')
}

/**
 * The key that is named; else, where the host itself may not (`mayItself`), the usual one, if that is an admin's here. `enrolls`: this
 * host is an enroller, or one that the coordinator obeys, who is. Throws NOT_ADMIN.
 */
export async function readAdminKey(
  named: string | undefined,
  context: Context,
  mayItself: (enrolls: boolean) => boolean,
): Promise<SecretHandle | undefined> {
  const { loadAdminKey } = await import('../keys/admin-key.js')
  if (named !== undefined) return loadAdminKey(resolve(named))
  const home = await context.home()
  const membership = home.membership()
  const asker = home.role === 'admin' ? membership.coordinator : home.host
  if (mayItself(membership.delegated(asker, 'enroller')) || !existsSync(usualAdminKey())) return undefined
  const key = loadAdminKey(usualAdminKey())
  return membership.adminsBy(home.rootKey).isAdmin(key.signingKey().toString('hex')) ? key : undefined
}
