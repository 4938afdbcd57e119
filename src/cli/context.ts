/**
 * What a command works with: the state folder, the output, the signal of Ctrl-C, and the fleet, opened when first asked
 * for and closed once at the end.
 */
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { hasCode, ImagerError } from '../base/errors.js'
import { shellWord } from '../base/shell.js'
import type { Fleet } from '../fleet/open.js'
import type { Home } from '../keys/home.js'
import type { Output } from './output.js'

const ROOT_STATE = '/var/lib/imager'

export class Context {
  readonly state: string
  readonly #byDefault: boolean
  #home: Home | undefined
  #fleet: Fleet | undefined

  constructor(
    args: Record<string, unknown>,
    readonly output: Output,
    /** Aborted by Ctrl-C and SIGTERM. */
    readonly signal: AbortSignal,
    /** The file that `node` runs: for processes that are to outlive this one. */
    readonly program: string,
    /** The words of this command line, after `imager`. */
    readonly typed: readonly string[] = [],
  ) {
    const named = typeof args.state === 'string' ? args.state : undefined
    this.state = resolve(named ?? defaultState())
    this.#byDefault = named === undefined && !process.env.IMAGER_STATE
    output.state = named
  }

  /** A plain user, on a host whose fleet is root's, must not be told to found another. What lacks the words is typed again with them. */
  explain(error: unknown, roots = ROOT_STATE): unknown {
    if (hasCode(error, 'KEYS_LOCKED')) {
      const todo = ['imager', ...this.typed.map(shellWord), '--words-file words.txt'].join(' ')
      return new ImagerError('KEYS_LOCKED', { ...error.details, todo }, { cause: error })
    }
    const lost = hasCode(error, 'NO_FLEET') && this.#byDefault && this.state !== roots && existsSync(roots)
    if (!lost) return error
    return new ImagerError('DENIED', { what: `The fleet of this host is root's (${roots})` }, { cause: error })
  }

  /** Throws NO_FLEET. */
  async home(): Promise<Home> {
    if (!this.#home) {
      const { openHome } = await import('../keys/home.js')
      this.#home = openHome(this.state)
    }
    return this.#home
  }

  /** The catalog and the peers, as this host may reach them. */
  async fleet(): Promise<Fleet> {
    if (!this.#fleet) {
      const [{ openFleet }, home] = await Promise.all([import('../fleet/open.js'), this.home()])
      this.#fleet = await openFleet(home, undefined, this.output.warn)
    }
    return this.#fleet
  }

  async close(): Promise<void> {
    await this.#fleet?.close()
  }
}

export function defaultState(): string {
  if (process.env.IMAGER_STATE) return process.env.IMAGER_STATE
  if (process.getuid?.() === 0) return ROOT_STATE
  return join(process.env.XDG_STATE_HOME ?? join(homedir(), '.local', 'state'), 'imager')
}
