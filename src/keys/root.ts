/** The fleet's root, as the recovery words give it. It exists during `init` and `recover` only and is never stored. */
import { hasCode, ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { Secret, type SecretHandle } from '../native.js'

export interface Root {
  readonly secret: SecretHandle
  /** Pinned by every member: verifies delegations. */
  readonly rootKey: Hex
  /** What recovery reads is sealed to it. */
  readonly rootSealing: Hex
}

/** Throws WRONG_WORDS: which word is not in the list, or that they do not belong together. */
export function rootFromWords(words: string): Root {
  try {
    return deriveRoot(Secret.fromWords(words))
  } catch (error) {
    if (!hasCode(error, 'INVALID')) throw error
    throw new ImagerError('WRONG_WORDS', { what: error.message.replace(/^t/, 'T') }, { cause: error })
  }
}

export function deriveRoot(seed: SecretHandle): Root {
  const secret = seed.derive('imager v1 root')
  return { secret, rootKey: toHex(secret.signingKey()), rootSealing: toHex(secret.sealingKey()) }
}
