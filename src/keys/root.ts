/** The fleet's root, as the recovery words give it. It exists during `init` and `recover` only and is never stored. */
import { type Hex, toHex } from '../base/ids.js'
import type { SecretHandle } from '../native.js'

export interface Root {
  readonly secret: SecretHandle
  /** Pinned by every member: verifies delegations. */
  readonly rootKey: Hex
  /** What recovery reads is sealed to it. */
  readonly rootSealing: Hex
}

export function deriveRoot(seed: SecretHandle): Root {
  const secret = seed.derive('imager v1 root')
  return { secret, rootKey: toHex(secret.signingKey()), rootSealing: toHex(secret.sealingKey()) }
}
