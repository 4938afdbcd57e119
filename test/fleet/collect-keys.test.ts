import test from 'ava'
import { ImagerError } from '../../src/base/errors.js'
import { KEYS_AN_OWNER } from '../../src/base/limits.js'
import { chooseKeys, collectKeys } from '../../src/fleet/collect-keys.js'
import { entryName, makeKey, readEntry, type Sealing, sealEntry, sealToRecovery } from '../../src/keys/entry.js'
import { openMembership } from '../../src/keys/membership.js'
import { deriveRoot } from '../../src/keys/root.js'
import { Secret, type SecretHandle } from '../../src/native.js'
import type { Peers } from '../../src/peers/pool.js'
import { delegate, fleet, hostOf, makeFleet, sealingOf, signPlain } from '../keys/fleet.js'

interface Shown {
  readonly name: string
  readonly bytes: Buffer
}

function stand() {
  const root = deriveRoot(Secret.random())
  const { coordinator, appliance, peer, body } = makeFleet()
  const duties = ['coordinator', 'enroller', 'holder'] as const
  const delegations = duties.map((duty) => delegate(root.secret, hostOf(coordinator), duty))
  const membership = openMembership(signPlain({ ...body, delegations }, coordinator), fleet, root.rootKey)
  const maker = (identity: SecretHandle) => ({ fleet, term: 1, rootSealing: root.rootSealing, identity })
  return { root, coordinator, appliance, peer, membership, maker }
}

const nameOf = (bytes: Buffer) => entryName(readEntry(bytes).entry)
const shown = (...entries: Buffer[]): Shown[] => entries.map((bytes) => ({ name: nameOf(bytes), bytes }))

/** Peers that show these, in turn; an error where one stops answering. */
function peersThat(...all: (Shown | ImagerError)[][]) {
  const peers = {
    get: (host: string) => ({
      async *fetchDocuments() {
        for (const one of all[Number(host)] ?? []) {
          if (one instanceof ImagerError) throw one
          yield one
        }
      },
    }),
  }
  const reached = all.map((_, at) => ({ host: String(at) }))
  return { reached, peers: peers as unknown as Peers }
}

test('every different entry of a name is kept, and the one that opens is spread', async (t) => {
  const { root, appliance, membership, maker } = stand()
  const key = Secret.random()
  const good = sealToRecovery('manifest', key, maker(appliance))
  const { sealed: _, ...entry } = readEntry(good).entry
  const junk = sealEntry(key, { ...entry, readerSealing: sealingOf(Secret.random()) }, appliance)
  const [toSelf] = makeKey('manifest', maker(appliance)) as [Buffer]
  const gone = new ImagerError('HOST_UNREACHABLE', { host: 'pc-3' })
  for (const order of [
    [shown(junk), shown(good, toSelf)],
    [shown(good, toSelf), shown(junk)],
    [shown(junk), [...shown(good), gone], shown(good, toSelf)],
  ]) {
    const signal = new AbortController().signal
    const { reached, peers } = peersThat(...order)
    const { found, silent } = await collectKeys(reached, { membership, root, peers, signal })
    t.is(found.get(nameOf(good))?.length, 2)
    t.deepEqual(
      silent,
      order.flatMap((shows, at) => (shows.includes(gone) ? String(at) : [])),
    )
    const chosen = new Map(chooseKeys(found, membership, root).map(({ name, bytes }) => [name, bytes]))
    t.deepEqual(chosen.get(nameOf(good)), good)
    t.deepEqual(chosen.get(nameOf(toSelf)), toSelf, 'what nobody here can open')
  }
})

test('what no honest peer would hold is left out, and a peer that shows keys without end costs no more than its own', async (t) => {
  const { root, appliance, coordinator, peer, membership, maker } = stand()
  const stranger = Secret.random()
  const good = sealToRecovery('manifest', Secret.random(), maker(appliance))
  const own: Omit<Sealing, 'owner'> = {
    ...{ fleet, term: 1, purpose: 'manifest', reader: hostOf(peer), readerSealing: sealingOf(peer) },
  }
  const bad = [
    ...shown(
      sealToRecovery('manifest', Secret.random(), maker(stranger)),
      sealToRecovery('manifest', Secret.random(), maker(peer)),
      sealToRecovery('catalog', Secret.random(), maker(appliance)),
      sealToRecovery('manifest', Secret.random(), { ...maker(appliance), term: 2 }),
      sealToRecovery('manifest', Secret.random(), { ...maker(appliance), fleet: 'ee'.repeat(16) }),
      sealEntry(Secret.random(), { ...own, owner: hostOf(appliance) }, appliance),
      sealEntry(Secret.random(), { ...own, owner: hostOf(coordinator), reader: 'recovery' }, appliance),
    ),
    { name: nameOf(sealToRecovery('domain', Secret.random(), maker(appliance))), bytes: good },
    { name: nameOf(good), bytes: Buffer.concat([good.subarray(0, 90), Buffer.alloc(good.length - 90)]) },
    { name: nameOf(good), bytes: Buffer.alloc(0) },
  ]
  const many = Array.from({ length: KEYS_AN_OWNER + 5 }, () =>
    sealToRecovery('manifest', Secret.random(), maker(appliance)),
  )
  const signal = new AbortController().signal
  const { reached, peers } = peersThat(bad, shown(...many), shown(good))
  const { found } = await collectKeys(reached, { membership, root, peers, signal })
  t.is(found.size, KEYS_AN_OWNER + 1)
  t.deepEqual(found.get(nameOf(good)), [good])
})
