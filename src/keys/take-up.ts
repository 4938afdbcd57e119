/**
 * The two ends of a handover: what the coordinator signs that leaves, and the first membership of the one that comes, which signs anew
 * what rested on the other's word. From then on the key of the one that left counts for nothing. Pure.
 */
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import type { SecretHandle } from '../native.js'
import { admit, signRemoval } from './admission.js'
import { isPrivate, openEntry, readEntry, sealEntry } from './entry.js'
import { type Handed, type Handover, MOST_HANDOVERS, openConsent, signHandover } from './handover.js'
import { chooseWitnesses, type Membership, readersOf, type SignedDelegation, signMembership } from './membership.js'

/** What both sign. Throws USAGE where it cannot be. */
export function nextHandover(membership: Membership, to: Hex): Handover {
  const { fleet, term, coordinator: from, handovers } = membership
  const wrong = (what: string) => new ImagerError('USAGE', { what, verb: 'coordinator move' })
  const host = membership.find(to)
  const name = host?.name ?? to.slice(0, 8)
  if (to === from) throw wrong(`${name} is the coordinator already`)
  if (host?.role !== 'admin') {
    const instead = 'Let its machine in once more, with a folder of its own: `imager invite --role admin`'
    throw wrong(
      `Only a host that joined as admin becomes coordinator; ${name} is ${host?.role ?? 'no member'}. ${instead}`,
    )
  }
  if (handovers.length === MOST_HANDOVERS) {
    throw wrong(`It has moved ${MOST_HANDOVERS} times in this term; \`imager duties move\` begins another`)
  }
  return { fleet, term, number: handovers.length + 1, from, to }
}

/**
 * By the coordinator; `consent` is what an enroller signed. Throws NOT_ALLOWED where it lacks one, FORGED where that agreed to
 * something else.
 */
export function signHanded(
  membership: Membership,
  to: Hex,
  coordinator: SecretHandle,
  consent?: Buffer,
): { handed: Handed; handover: Handover } {
  const { term, coordinator: from, enrollers } = membership
  const handover = nextHandover(membership, to)
  const said = consent && openConsent(consent, (signer) => enrollers.includes(signer))
  const agreed = said?.signer ?? enrollers.find((host) => host === from)
  if (agreed === undefined) {
    const names = enrollers.map((host) => membership.find(host)?.name ?? host.slice(0, 16)).join(' or ')
    const what = `The coordinator moves with the word of the enroller: type this on ${names}`
    throw new ImagerError('NOT_ALLOWED', { what, role: 'enroller' })
  }
  const isOf = !said || (said.term === term && said.to === to && said.from === from && said.number === handover.number)
  if (!isOf || (said && said.fleet !== membership.fleet)) {
    throw new ImagerError('FORGED', { what: 'An enroller agreed to another handover' })
  }
  const isAgreed = ({ duty, host, ...one }: SignedDelegation) =>
    duty === 'enroller' && host === agreed && one.term === term
  const enroller = membership.delegations.find(isAgreed)?.text ?? ''
  const signed = signHandover(handover, coordinator)
  const handed = { handover: signed, enroller, ...(said && agreed !== from && { consent: consent.toString('base64') }) }
  return { handed, handover }
}

/** As the host to whom the place went, over the last membership of the one that left; `before` with names. */
export function takeUp(before: Membership, handed: Handed, rootSealing: Hex, identity: SecretHandle): Buffer {
  const { fleet, term, coordinator: left, admins, parts } = before
  const own = toHex(identity.signingKey())
  const draft = before.draft()
  const members = before.hosts.filter(({ host }) => host !== left)
  const hosts = before.hosts.flatMap(({ host, sealing, role, name, domain }, at) => {
    if (host === left) return []
    const isTheirs = parts.admittedBy.get(host) === left
    const anew = isTheirs ? { ...admit({ fleet, term, host, sealing, role }, identity), name, domain } : draft.hosts[at]
    return anew ? [anew] : []
  })
  const said = [...new Set(before.body.removals)]
  const removals = parts.removals.flatMap(({ host, admission, signer }, at) => {
    if (signer !== left) return said[at] ?? []
    return signRemoval({ fleet, term, host, admission }, identity).toString('base64')
  })
  const enrollers = before.enrollers.map((host) => (host === left ? own : host))
  const next = {
    ...{ ...draft, sequence: before.sequence + 1, hosts, removals },
    handovers: [...(before.body.handovers ?? []), handed],
    witnesses: chooseWitnesses(members, before.witnesses),
  }
  return signMembership(next, identity, readersOf(members, enrollers, rootSealing, admins))
}

/** All that a coordinator reads, sealed to the one that comes; none that is an appliance's own. */
export function sealForNext(
  { host, fleet, secret, keyStatements }: { host: Hex; fleet: Hex; secret: SecretHandle; keyStatements: Buffer[] },
  reader: Hex,
  readerSealing: Hex,
): Buffer[] {
  return keyStatements.flatMap((bytes) => {
    const { entry } = readEntry(bytes)
    if (entry.reader !== host || entry.purpose === 'manifest' || isPrivate(entry)) return []
    const { sealed: _, key: __, ...named } = entry
    const { key } = openEntry(bytes, { fleet, reader: host, secret, accept: () => true })
    return [sealEntry(key, { ...named, reader, readerSealing }, secret)]
  })
}
