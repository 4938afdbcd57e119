/** What people type for sizes and addresses, checked before anything starts; options that several commands have. */
import { hostname } from 'node:os'
import type { Argv } from 'yargs'
import { ImagerError } from '../base/errors.js'

/** What the coordinator takes. */
const LABEL_LETTERS = 255
const SUFFIXES = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 } as const

/** `1048576`, `512M`, `1.5G`, `2TiB`: powers of 1,024. */
export function parseBytes(option: string, verb = 'peer'): (text: string | undefined) => number | undefined {
  return (text) => {
    if (text === undefined) return undefined
    const [, number, suffix] = /^(\d+(?:\.\d+)?)([KMGT])?(?:iB|B)?$/i.exec(text.trim()) ?? []
    const unit = suffix ? SUFFIXES[suffix.toUpperCase() as keyof typeof SUFFIXES] : 1
    const bytes = Math.floor(Number(number) * unit)
    if (number === undefined || !Number.isSafeInteger(bytes)) {
      throw usage(`--${option} takes a size such as 500G or 1048576, not ${JSON.stringify(text)}`, verb)
    }
    return bytes
  }
}

/** `host:port`, port 0 to 65535; where there is a usual port, `host` alone. */
export function parseAddress(
  option: string,
  verb: string,
  usualPort?: number,
): (address: string | undefined) => string | undefined {
  return (typed) => {
    if (typed === undefined) return undefined
    const alone = usualPort !== undefined && /^(?:[A-Za-z0-9._-]+|\[[^\]]*\])$/.test(typed)
    const address = alone ? `${typed}:${usualPort}` : typed
    const port = /^(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%a-z]+\]):(\d{1,5})$/.exec(address)?.[1]
    if (port === undefined || Number(port) > 65_535) {
      throw usage(`--${option} takes HOST:PORT, such as 0.0.0.0:7420, not ${JSON.stringify(address)}`, verb)
    }
    return address
  }
}

/** A label stands in every list of snapshots. */
export function parseLabel(text: string): string {
  if (text.length > LABEL_LETTERS)
    throw usage(`--label takes up to ${LABEL_LETTERS} letters, not ${text.length}`, 'snapshot')
  if (/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(text)) throw usage('--label takes one line of plain text', 'snapshot')
  return text
}

export function usage(what: string, verb: string): ImagerError {
  return new ImagerError('USAGE', { what, verb })
}

/** This computer's name as others may list it. */
export function computerName(): string {
  return (
    hostname()
      .replace(/[^A-Za-z0-9._-]/g, '-')
      .slice(0, 64) || 'host'
  )
}

/** The snapshot that a command is about, and of which disk `latest` is to be. `findSnapshot` looks it up. */
export function namingSnapshot<T>(yargs: Argv<T>) {
  return yargs
    .positional('snapshot', { type: 'string', demandOption: true, describe: 'Id, unique prefix, or latest' })
    .option('source', { type: 'string', requiresArg: true, describe: 'Of the disk that was imaged under this name' })
    .option('host', { type: 'string', requiresArg: true, describe: 'Of this host, by its name or key' })
}

/** The options of a command that makes this host a coordinator; `coordinator`: what its help calls it. */
export function asCoordinator<T>(yargs: Argv<T>, verb: string, coordinator: string) {
  return yargs
    .option('name', { type: 'string', default: computerName(), requiresArg: true, describe: 'Name of this host' })
    .option('domain', { type: 'string', requiresArg: true, describe: 'What fails together (default: this host alone)' })
    .option('listen', {
      type: 'string',
      default: '0.0.0.0:7420',
      requiresArg: true,
      coerce: parseAddress('listen', verb),
      describe: `HOST:PORT ${coordinator} will listen on`,
    })
    .option('address', {
      type: 'string',
      requiresArg: true,
      coerce: parseAddress('address', verb),
      describe: 'HOST:PORT under which others reach it (default: from --listen)',
    })
}
