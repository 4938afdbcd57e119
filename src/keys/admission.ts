/**
 * How a host becomes a member, and is one no more: statements of an enroller or an admin, in the term in which the root made it one. The
 * coordinator signs the membership that holds them, so that neither lets anybody in without the other
 * (docs/formats/membership.md).
 *
 *   voucher    by an enroller or an admin: who holds this token's key may become a member in this role
 *   admission  by a token's key, with the voucher for it: this host, with these keys; or by one of these or the root, without
 *   removal    by an enroller or an admin: this admission is over, for good
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { hash, type SecretHandle } from '../native.js'
import { Base64, Id, Key, Role, Term, Time } from './fields.js'
import { openStatement, type Signer, signStatement } from './statement.js'

/** What each of the three begins with: for whom it counts, and how long. */
const OF_A_TERM = { fleet: Id, term: Term }

const VoucherBody = v.strictObject({
  ...OF_A_TERM,
  /** The public key of the token. */
  token: Key,
  role: Role,
  /** The coordinator takes it until then, by its clock. */
  expires: Time,
})
export type Voucher = v.InferOutput<typeof VoucherBody>

const AdmissionBody = v.strictObject({
  ...OF_A_TERM,
  host: Key,
  /** X25519: keys for this host are sealed to it. */
  sealing: Key,
  role: Role,
})
export type AdmissionBody = v.InferOutput<typeof AdmissionBody>

const RemovalBody = v.strictObject({
  ...OF_A_TERM,
  host: Key,
  /** BLAKE3 of the admission statement that does not count any more. */
  admission: Key,
})
export type Removal = v.InferOutput<typeof RemovalBody>

/** What a membership holds of one host. */
export const Admitted = v.strictObject({
  admission: Base64(1024),
  voucher: v.exactOptional(Base64(1024)),
})
export type Admitted = v.InferOutput<typeof Admitted>

/** Who may let hosts in: the fleet's root, and its enrollers and admins in this term. */
export interface Admitters {
  readonly fleet: Hex
  readonly term: number
  mayAdmit(signer: Hex): boolean
}

export function signVoucher(voucher: Voucher, enroller: SecretHandle): Buffer {
  return signStatement('voucher', voucher, enroller)
}

/** Throws FORGED where it is no enroller's, another fleet's or another term's. */
export function openVoucher(bytes: Uint8Array, by: Admitters): Voucher {
  const { signer: _, ...voucher } = readVoucher(bytes, by)
  return voucher
}

function readVoucher(bytes: Uint8Array, by: Admitters): Voucher & { signer: Hex } {
  const { body, signer } = openStatement('voucher', VoucherBody, bytes)
  requireOf('voucher', body, by)
  requireAdmitter('voucher', signer, by)
  return { ...body, signer }
}

export function signAdmission(admission: AdmissionBody, signer: Signer): Buffer {
  return signStatement('admission', admission, signer)
}

/** In base64, as a membership has it. */
export function admit(admission: AdmissionBody, signer: Signer): Admitted {
  return { admission: signAdmission(admission, signer).toString('base64') }
}

export interface OpenedRemoval extends Removal {
  readonly signer: Hex
}

export interface OpenedAdmission extends AdmissionBody {
  /** Whose word lets it in. */
  readonly by: Hex
  /** BLAKE3 of the statement. */
  readonly admission: Hex
  /** The key of the token by which it joined; undefined: it took none. */
  readonly token: Hex | undefined
}

/** Throws FORGED where neither an enroller nor a token that one vouched for signed it, or for another role. */
export function openAdmission({ admission, voucher }: Admitted, by: Admitters): OpenedAdmission {
  const bytes = Buffer.from(admission, 'base64')
  const { body, signer } = openStatement('admission', AdmissionBody, bytes)
  requireOf('admission', body, by)
  const own = { ...body, admission: toHex(hash(bytes)) }
  if (voucher === undefined) {
    requireAdmitter('admission', signer, by)
    return { ...own, by: signer, token: undefined }
  }
  const vouched = readVoucher(Buffer.from(voucher, 'base64'), by)
  if (vouched.token !== signer) throw new ImagerError('FORGED', { what: 'An admission is not signed by its token' })
  if (vouched.role !== body.role) throw new ImagerError('FORGED', { what: 'An admission is for another role' })
  return { ...own, by: vouched.signer, token: signer }
}

/** Of what was opened before, or is being made. */
export function hostOf({ admission }: Admitted): Hex {
  return openStatement('admission', AdmissionBody, Buffer.from(admission, 'base64')).body.host
}

export function signRemoval(removal: Removal, enroller: SecretHandle): Buffer {
  return signStatement('removal', removal, enroller)
}

/** Throws FORGED where it is no enroller's, another fleet's or another term's. */
export function openRemoval(bytes: Uint8Array, by: Admitters): OpenedRemoval {
  const { body, signer } = openStatement('removal', RemovalBody, bytes)
  requireOf('removal', body, by)
  requireAdmitter('removal', signer, by)
  return { ...body, signer }
}

function requireOf(kind: string, { fleet, term }: { fleet: Hex; term: number }, by: Admitters): void {
  if (fleet !== by.fleet) throw new ImagerError('FORGED', { what: `A ${kind} belongs to another fleet` })
  if (term !== by.term) throw new ImagerError('FORGED', { what: `A ${kind} is of another term` })
}

function requireAdmitter(kind: string, signer: Hex, { mayAdmit }: Admitters): void {
  if (!mayAdmit(signer))
    throw new ImagerError('FORGED', { what: `A ${kind} is signed by a host that may not admit hosts` })
}
