import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { toHex } from '../../src/base/ids.js'
import { heedCheckpoint } from '../../src/fleet/seen-checkpoint.js'
import {
  type CheckpointBody,
  encodeCosigned,
  openCheckpoint,
  signCheckpoint,
  signCosignature,
} from '../../src/keys/checkpoint.js'
import type { Home } from '../../src/keys/home.js'
import { openMembership } from '../../src/keys/membership.js'
import { hash, Secret, type SecretHandle } from '../../src/native.js'
import { delegate, fleet, hostOf, makeFleet, member, signPlain } from '../keys/fleet.js'

const members = makeFleet()
const { root, rootKey, coordinator } = members
const witnesses = [members.peer, Secret.random(), Secret.random()] as const
const hosts = [...members.body.hosts, member(witnesses[1], 'pc-2', 'peer'), member(witnesses[2], 'pc-3', 'peer')]
const body = { ...members.body, sequence: 2, hosts, witnesses: witnesses.map(hostOf) }
const membership = openMembership(signPlain(body, coordinator), fleet, rootKey)
const none = { count: 0, root: '00'.repeat(32) }

function cosigned(over: Partial<CheckpointBody> = {}, by: readonly SecretHandle[] = witnesses.slice(0, 2)): Buffer {
  const { term = 1 } = over
  const bytes = signCheckpoint(
    {
      ...{ fleet, term, sequence: 5, previous: null, membership: toHex(hash(membership.bytes)), heads: none },
      ...{ removals: none, policy: null, time: 1 },
      delegation: delegate(root, hostOf(coordinator), 'coordinator', term),
      ...over,
    },
    coordinator,
  )
  const checkpoint = openCheckpoint(bytes, fleet, rootKey)
  return encodeCosigned({ checkpoint: bytes, cosignatures: by.map((who) => signCosignature(checkpoint, 2, who)) })
}

function host(t: ExecutionContext, of = membership): Home {
  const state = mkdtempSync(join(tmpdir(), 'imager-seen-'))
  t.teardown(() => rmSync(state, { recursive: true, force: true }))
  return { state, fleet, rootKey, membership: () => of } as unknown as Home
}

const codeOf = (home: Home, shown: Buffer) => heedCheckpoint(home, shown)?.code

test('what a host has seen it does not take back: older, beside it, or none at all', (t) => {
  const home = host(t)
  const five = cosigned()
  t.is(codeOf(home, Buffer.alloc(0)), undefined, 'nothing was seen yet')
  t.is(codeOf(home, five), undefined)
  t.is(codeOf(home, five), undefined)
  t.is(codeOf(home, cosigned({ sequence: 4 })), 'ROLLED_BACK')
  t.is(codeOf(home, cosigned({ time: 9 })), 'ROLLED_BACK')
  t.is(codeOf(home, Buffer.alloc(0)), 'ROLLED_BACK')
  t.regex(
    heedCheckpoint(home, cosigned({ sequence: 4 }))?.message ?? '',
    /checkpoint 4 of term 1, and 5 of term 1 was seen/,
  )
  t.is(codeOf(home, cosigned({ sequence: 6 })), undefined)
  t.is(codeOf(home, five), 'ROLLED_BACK')
  t.is(codeOf(home, cosigned({ term: 2, sequence: 1 })), undefined, 'a new term begins anew')
})

test('without a quorum it counts for nothing', (t) => {
  const home = host(t)
  t.is(codeOf(home, cosigned({}, witnesses.slice(0, 1))), 'ROLLED_BACK')
  t.is(codeOf(home, cosigned({}, [Secret.random(), Secret.random(), Secret.random()])), 'ROLLED_BACK')
  t.is(codeOf(home, cosigned({ sequence: 3 })), undefined, 'it was not kept')
  const other = { sequence: 9, membership: '77'.repeat(32) }
  t.is(codeOf(home, cosigned(other, [])), 'ROLLED_BACK', 'of members that nobody knows')
  t.is(codeOf(home, cosigned({ sequence: 4 })), undefined, 'that was not kept either')
  t.regex(heedCheckpoint(home, Buffer.from('xxxxxx'))?.message ?? '', /one that does not verify/)
})

test('others watch since the members changed: those of before count until these have signed', (t) => {
  const home = host(t)
  t.is(codeOf(home, cosigned()), undefined)
  const others = [members.peer, Secret.random(), Secret.random()]
  const more = others.slice(1).map((one, at) => member(one, `new-${at}`, 'peer'))
  const changed = { ...body, sequence: 3, hosts: [...members.body.hosts, ...more], witnesses: others.map(hostOf) }
  const later = openMembership(signPlain(changed, coordinator), fleet, rootKey)
  const now = { state: home.state, fleet, rootKey, membership: () => later } as unknown as Home
  t.is(codeOf(now, cosigned({ sequence: 6 })), undefined, 'one of three of now, two of three of before')
  t.is(codeOf(now, cosigned({ sequence: 7 }, [witnesses[2]])), 'ROLLED_BACK')
  t.is(codeOf(now, cosigned({ sequence: 7, membership: toHex(hash(later.bytes)) })), 'ROLLED_BACK', 'it is of now')
  const fresh = host(t, later)
  t.is(codeOf(fresh, cosigned({ sequence: 6 }, [witnesses[2]])), undefined, 'who has seen nothing cannot tell')
  writeFileSync(join(home.state, 'watched.bin'), 'rot')
  t.is(codeOf(now, cosigned({ sequence: 7 }, [witnesses[2]])), undefined, 'nor who lost what it saw')
})

test('what rotted in the state folder was never seen; where nobody watches nothing is expected', (t) => {
  const home = host(t)
  heedCheckpoint(home, cosigned())
  writeFileSync(join(home.state, 'checkpoint.bin'), 'rot')
  t.is(codeOf(home, cosigned({ sequence: 2 })), undefined)
  const few = host(t, members.membership)
  t.is(codeOf(few, cosigned({ membership: toHex(hash(members.membership.bytes)) })), undefined)
  t.is(codeOf(few, Buffer.alloc(0)), undefined)
})
