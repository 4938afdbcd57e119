/**
 * What people call the hosts, sealed: a membership lies on every peer, and a PC that is stolen names nobody. Each membership has a
 * new key, sealed to each host that needs names and to the recovery words; under it the name and the failure domain of each host.
 *
 *   sealed: AES-256-GCM of the padded JSON [name, domain]; its key is the keyed BLAKE3 of "imager v1 label\0" and the host's key, used
 *   once, so the nonce is zero. The last 16 bytes are the tag.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto'
import * as v from 'valibot'
import { hasCode } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { Secret, type SecretHandle } from '../native.js'
import { Base64, Key, Name } from './fields.js'

/** The reader that the recovery words stand for. */
export const WORDS = 'recovery'

export interface Label {
  readonly name: string
  /** Hosts that fail together share a domain: a site, a switch, a room. */
  readonly domain: string
}

/** Who may read names: a host or WORDS, and the X25519 key of that reader. */
export interface NameReader {
  readonly reader: string
  readonly sealing: Hex
}

/** The same, with what opens it: a host's identity, or the root. */
export interface ReadsNames {
  readonly reader: string
  readonly secret: SecretHandle
}

export const SealedTo = v.strictObject({ reader: v.union([Key, v.literal(WORDS)]), sealed: Base64(256) })
export type SealedTo = v.InferOutput<typeof SealedTo>
/** Two names of 64 characters, each of up to 12 bytes in JSON. */
export const SealedLabel = Base64(2048)

const Content = v.strictTuple([Name, Name])
const CIPHER = 'aes-256-gcm'
const NONCE = Buffer.alloc(12)
const TAG_BYTES = 16
/** A label's length tells no name's. */
const STEP_BYTES = 64

export class LabelKey {
  readonly #key: SecretHandle

  private constructor(key: SecretHandle) {
    this.#key = key
  }

  static make(): LabelKey {
    return new LabelKey(Secret.random())
  }

  /** Undefined for whom it is not sealed. */
  static open(sealed: readonly SealedTo[], fleet: Hex, { reader, secret }: ReadsNames): LabelKey | undefined {
    const own = sealed.find((one) => one.reader === reader)
    if (!own) return undefined
    try {
      return new LabelKey(secret.openSealed(Buffer.from(own.sealed, 'base64'), binding(fleet, reader)))
    } catch (error) {
      if (hasCode(error, 'FORGED', 'CORRUPT', 'INVALID')) return undefined
      throw error
    }
  }

  sealTo(readers: readonly NameReader[], fleet: Hex): SealedTo[] {
    return readers.map(({ reader, sealing }) => {
      const sealed = this.#key.sealTo(Buffer.from(sealing, 'hex'), binding(fleet, reader))
      return { reader, sealed: sealed.toString('base64') }
    })
  }

  seal(host: Hex, { name, domain }: Label): string {
    const text = Buffer.from(JSON.stringify([name, domain]))
    const padded = Buffer.alloc(Math.ceil(text.length / STEP_BYTES) * STEP_BYTES, ' ')
    text.copy(padded)
    const cipher = createCipheriv(CIPHER, this.#keyOf(host), NONCE)
    return Buffer.concat([cipher.update(padded), cipher.final(), cipher.getAuthTag()]).toString('base64')
  }

  /** Undefined where it is damaged, or another host's. */
  open(host: Hex, sealed: string): Label | undefined {
    const bytes = Buffer.from(sealed, 'base64')
    if (bytes.length < TAG_BYTES) return undefined
    const decipher = createDecipheriv(CIPHER, this.#keyOf(host), NONCE)
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
    try {
      const text = Buffer.concat([decipher.update(bytes.subarray(0, -TAG_BYTES)), decipher.final()]).toString()
      const { output, success } = v.safeParse(Content, JSON.parse(text))
      return success ? { name: output[0], domain: output[1] } : undefined
    } catch {
      return undefined
    }
  }

  #keyOf(host: Hex): Buffer {
    return this.#key.tag(Buffer.from(`imager v1 label\0${host}`))
  }
}

/** For who cannot read names: the beginning of its key, and a domain of its own. */
export function withoutLabel(host: Hex): Label {
  return { name: host.slice(0, 8), domain: host }
}

function binding(fleet: Hex, reader: string): Buffer {
  return Buffer.from(`imager v1 names\0${fleet} ${reader}`)
}
