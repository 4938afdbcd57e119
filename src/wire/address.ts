/** Addresses and ranges as they are written: `host:port`, `[v6]:port`, `bytes=first-last`. */
import { ImagerError } from '../base/errors.js'

export function parseAddress(address: string): { host: string; port: number } {
  const [, bracketed, plain, digits] = /^(?:\[([0-9A-Fa-f:.%A-Za-z]+)\]|([^[\]:\s]+)):(\d{1,5})$/.exec(address) ?? []
  const host = bracketed ?? plain
  const port = Number(digits)
  if (!host || port > 65_535) throw new ImagerError('INVALID', { what: `${address} is not an address like host:port` })
  return { host, port }
}

/** One range with both ends, which is all that our clients send. End exclusive. */
export function parseRange(header: string | undefined): readonly [start: number, end: number] | undefined {
  if (header === undefined) return undefined
  const [, first, last] = /^bytes=(\d{1,15})-(\d{1,15})$/.exec(header) ?? []
  const range = [Number(first), Number(last) + 1] as const
  if (!(range[0] < range[1])) throw new ImagerError('PROTOCOL', { what: `range ${JSON.stringify(header)}` })
  return range
}

export function formatRange([start, end]: readonly [start: number, end: number]): string {
  return `bytes=${start}-${end - 1}`
}
