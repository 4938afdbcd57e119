/** What a host is: `home.json` in its state folder. */
import { crc32 } from 'node:zlib'
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { readWhole } from './durable.js'
import { Address, Id, Key, Name, Role } from './fields.js'

const Config = v.strictObject({
  version: v.literal(1),
  fleet: Id,
  rootKey: Key,
  rootSealing: Key,
  role: Role,
  name: Name,
  coordinator: v.strictObject({ key: Key, address: Address }),
  /** Where this host's daemon listens unless told otherwise; null where it has none. */
  listen: v.nullable(Address),
  /** CRC-32 of the rest, 8 hexadecimal digits. */
  check: v.string(),
})
export type HomeConfig = Omit<v.InferOutput<typeof Config>, 'version' | 'check'>

/** At the end of an address: take a free one. */
const ANY_PORT = ':0'

/** The same one where it names a port already. `taken`: the address that is listened on. Pure. */
export function settlePort(config: HomeConfig, taken: string): HomeConfig {
  const { listen, coordinator } = config
  if (!listen?.endsWith(ANY_PORT)) return config
  const port = taken.slice(taken.lastIndexOf(':'))
  const settle = (address: string) =>
    address.endsWith(ANY_PORT) ? `${address.slice(0, -ANY_PORT.length)}${port}` : address
  return { ...config, listen: settle(listen), coordinator: { ...coordinator, address: settle(coordinator.address) } }
}

export function encodeConfig(config: HomeConfig): Buffer {
  const fields = { version: 1, ...config }
  return Buffer.from(`${JSON.stringify({ ...fields, check: checkOf(fields) }, null, 2)}\n`)
}

const checkOf = (fields: object): string => crc32(JSON.stringify(fields)).toString(16).padStart(8, '0')

/** Throws CORRUPT. */
export function readConfig(path: string): HomeConfig {
  const damaged = (cause: unknown) => new ImagerError('CORRUPT', { what: `${path} is damaged` }, { cause })
  // A disk that fails has damaged nothing.
  const text = readWhole(path).toString()
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw damaged(cause)
  }
  const result = v.safeParse(Config, json)
  if (!result.success) throw damaged(result.issues[0].message)
  const { check, version: _, ...config } = result.output
  const { check: _check, ...asWritten } = json as Record<string, unknown>
  if (check !== checkOf(asWritten)) throw damaged('its checksum differs')
  return config
}
