/**
 * Where each host was reached last, as far as this one heard: hints, for whoever answers proves its key. A book that cannot be read
 * is an empty one, and one in which a bit flipped too: its addresses are printed in lines to type. Beside it lies what this host said
 * of itself last.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { hasCode } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { hash, type SecretHandle } from '../native.js'
import { type AddressBody, openAddress, signAddress } from './address.js'
import { writeDurable } from './durable.js'
import { Address, Key } from './fields.js'

/** Addresses of one host. */
const MOST = 16

const Book = v.strictObject({
  version: v.literal(1),
  /** `sumOf` the hosts. */
  sum: Key,
  hosts: v.record(Key, v.pipe(v.array(Address), v.maxLength(MOST))),
})

const BOOK = 'addresses.json'
const OWN = 'address.bin'

export class AddressBook {
  readonly #state: string
  #hosts: Map<Hex, readonly string[]> | undefined

  constructor(state: string) {
    this.#state = state
  }

  of(host: Hex): readonly string[] {
    return this.#read().get(host) ?? []
  }

  /** Keeps what is new. Where the state folder takes nothing, it is known until the process ends. */
  learn(heard: Iterable<readonly [Hex, readonly string[]]>): void {
    this.#keep((hosts) => {
      for (const [host, addresses] of heard) if (addresses.length > 0) hosts.set(host, addresses)
    })
  }

  /** The same of what a third host says: the last place, where it was reached, stays. Else a liar would part two hosts for good. */
  hear(said: Iterable<readonly [Hex, readonly string[]]>): void {
    this.#keep((hosts) => {
      for (const [host, addresses] of said) {
        const last = hosts.get(host)?.at(-1)
        const others = addresses.filter((one) => one !== last).slice(0, MOST - 1)
        if (addresses.length > 0) hosts.set(host, last === undefined ? others : [...others, last])
      }
    })
  }

  /** The host has proved itself there. */
  reached(host: Hex, address: string): void {
    const others = this.of(host).filter((one) => one !== address)
    this.learn([[host, [...others.slice(0, MOST - 1), address]]])
  }

  #keep(change: (hosts: Map<Hex, readonly string[]>) => void): void {
    const hosts = this.#read()
    const before = JSON.stringify([...hosts])
    change(hosts)
    if (JSON.stringify([...hosts]) === before) return
    const book = { version: 1, sum: sumOf(Object.fromEntries(hosts)), hosts: Object.fromEntries(hosts) }
    keep(join(this.#state, BOOK), Buffer.from(JSON.stringify(book)))
  }

  /** What this host says of itself: the same statement as long as the addresses are the same. */
  own(fleet: Hex, host: Hex, addresses: readonly string[], now: number, identity: SecretHandle): Buffer {
    const path = join(this.#state, OWN)
    const last = existsSync(path) ? readFileSync(path) : undefined
    const said = last && soundAddress(last, fleet)
    if (last && said?.host === host && JSON.stringify(said.addresses) === JSON.stringify(addresses)) return last
    const sequence = Math.max((said?.sequence ?? 0) + 1, now)
    const bytes = signAddress({ fleet, host, sequence, addresses: [...addresses] }, identity)
    keep(path, bytes)
    return bytes
  }

  #read(): Map<Hex, readonly string[]> {
    this.#hosts ??= new Map(Object.entries(readBook(join(this.#state, BOOK))))
    return this.#hosts
  }
}

/** A disk that is full or read-only keeps nobody from reaching others. */
function keep(path: string, bytes: Uint8Array): void {
  try {
    writeDurable(path, bytes)
  } catch {
    // It is learned again.
  }
}

/** Undefined where it is not to be believed. */
export function soundAddress(bytes: Uint8Array, fleet: Hex): AddressBody | undefined {
  try {
    return openAddress(bytes, fleet)
  } catch (error) {
    if (hasCode(error, 'CORRUPT', 'FORGED', 'UNSUPPORTED')) return undefined
    throw error
  }
}

function sumOf(hosts: Record<Hex, readonly string[]>): Hex {
  return toHex(hash(Buffer.from(JSON.stringify(hosts))))
}

function readBook(path: string): Record<Hex, string[]> {
  try {
    const { output, success } = v.safeParse(Book, JSON.parse(readFileSync(path, 'utf8')))
    return success && sumOf(output.hosts) === output.sum ? output.hosts : {}
  } catch {
    return {}
  }
}
