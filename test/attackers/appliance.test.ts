/**
 * Root on a server, against the shards, leases, bitmaps and addresses of others: it has a sound identity, joined as any other, and
 * sends what the project's own code would never send. Beside it another server, whose snapshot is to stay as it is.
 */
import { randomBytes } from 'node:crypto'
import test from 'ava'
import { RECORDS_PER_STRIPE } from '../../src/catalog/types.js'
import { CALL_NAMES } from '../../src/coordinator/calls.js'
import type { Fleet } from '../../src/fleet/open.js'
import { signAddress } from '../../src/keys/address.js'
import { encodeDelta } from '../../src/keys/bitmap.js'
import { type Grant, signGrant } from '../../src/keys/grant.js'
import { type Head, headName } from '../../src/keys/head.js'
import { openHome } from '../../src/keys/home.js'
import { hash, inspectShard, ReferenceSet, shardId } from '../../src/native.js'
import { runName, stripeOf } from '../../src/stripes/names.js'
import { signReceipt } from '../../src/stripes/receipt.js'
import { encodeMessage } from '../../src/wire/message.js'
import { summary } from '../catalog/harness.js'
import { imager, TestLab } from '../e2e/lab.js'
import { attacking } from './attacks.js'
import { coordinatorOf, Hands, joinAs, outcomeOf, peerOf, withFleet } from './hands.js'
import { honest, openOwn, signAs, storeHostile } from './manifest.js'

/** One run of the thief's, with leave to store the shards of its first stripe. */
async function beginRun({ home, catalog }: Fleet, lengthBytes: number) {
  const volume = randomBytes(16).toString('hex')
  const begun = await catalog.begin({ appliance: home.host, volume, source: '/dev/hostile', label: '' })
  const name = runName(home.host, begun.run)
  const peers = home.membership().hosts.filter(({ role }) => role === 'peer')
  const shards = peers.slice(0, 2).map(({ host }, index) => ({ index, host }))
  const stripe = stripeOf(catalog.names.number(name), 0)
  const placed = { k: 1, m: 1, packBytes: lengthBytes - 4096, stripe }
  const grants = await catalog.place(begun.lease, { ...placed, lengthBytes, shards })
  return { begun, name, shards, placed, grants: grants as [string, string] }
}

/** With one field of its descriptor changed (docs/formats/shard.md), and signed again by whoever it is. */
function resign(file: Buffer, { home }: Fleet, change: (descriptor: Buffer) => void): Buffer {
  const bytes = Buffer.from(file)
  const slices = Math.ceil(bytes.readUInt32LE(8) / 65_536)
  const at = 48 + 32 * slices
  const { k, m } = { k: bytes.readUInt8(at + 60), m: bytes.readUInt8(at + 61) }
  const end = at + 98 + 32 * (k + m)
  change(bytes.subarray(at, end))
  home.secret.sign(Buffer.concat([Buffer.from('imager v1 stripe\0'), bytes.subarray(at, end)])).copy(bytes, end)
  return bytes
}

test('root on a server sends what it may not, to peers and to the coordinator: nobody else loses anything', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 4)
  const disk = lab.makeDisk('disk.img', 8)
  const snapshot = await lab.snapshot(t, disk)
  const victim = openHome(lab.lab.appliance.state)
  const thief = await joinAs(lab, 'appliance', 'thief')
  const hands = new Hands(t, openHome(thief).secret)
  const office = coordinatorOf(lab)
  const targets = [0, 1, 2, 3].map((at) => peerOf(lab, at))
  const targetOf = (host: string) => targets.find((one) => one.host === host) ?? office

  await withFleet(thief, async (fleet) => {
    const { home, catalog, peers } = fleet
    // All peers know it.
    const own = await storeHostile(fleet, honest())

    // A shard of the other's, as any reader may fetch it.
    const [foreignId, foreign] = await firstShardOf(fleet, victim.host)
    const { begun, name: run, shards, placed, grants } = await beginRun(fleet, foreign.length)
    const [first, second] = shards.map(({ host }) => targetOf(host)) as [typeof office, typeof office]
    const ownId = shardId(run, 0, 0)
    const put = (id: string, file: Buffer, grant: string, target = first) =>
      outcomeOf(hands.peer(target).sendShard(id, file, grant))

    // Under which name, and made by whom.
    t.is(await put(foreignId, foreign, grants[0]), 'NOT_ALLOWED', 'its grant is for its own run')
    t.is(await put(ownId, foreign, grants[0]), 'FORGED', "another's shard under the own name")
    const claimed = resign(foreign, fleet, () => {})
    t.is(await put(ownId, claimed, grants[0]), 'CORRUPT', "another's descriptor under the own signature")
    tried('shard-foreign-name', 'shard-foreign-bytes', 'shard-foreign-signature')

    // A descriptor of the own run that does not fit its bytes, or anything.
    const rename = (descriptor: Buffer) => run.copy(descriptor, 16)
    const renumber = (descriptor: Buffer) => {
      rename(descriptor)
      descriptor.writeUInt32LE(0, 56)
    }
    const flipped = resign(foreign, fleet, renumber)
    flipped.writeUInt8(flipped.readUInt8(5000) ^ 1, 5000)
    t.is(await put(ownId, flipped, grants[0]), 'CORRUPT')
    const wrongRoot = resign(foreign, fleet, (descriptor) => {
      renumber(descriptor)
      hash(descriptor).copy(descriptor, 98)
      hash(descriptor).copy(descriptor, 130)
    })
    t.is(await put(ownId, wrongRoot, grants[0]), 'CORRUPT')
    for (const [k, m] of [
      [0, 1],
      [31, 31],
      [255, 255],
    ] as const) {
      const wide = resign(foreign, fleet, renumber)
      const place = 48 + 32 * Math.ceil(wide.readUInt32LE(8) / 65_536) + 60
      wide.writeUInt8(k, place)
      wide.writeUInt8(m, place + 1)
      t.is(await put(ownId, wide, grants[0]), 'CORRUPT', `${k}+${m}`)
    }
    t.is(await put(ownId, randomBytes(foreign.length), grants[0]), 'CORRUPT')
    tried('shard-flipped', 'shard-wrong-root', 'shard-too-wide', 'shard-noise')

    // With whose leave.
    const leave: Grant = {
      ...{
        fleet: home.fleet,
        term: 1,
        operation: 'put',
        lease: begun.lease,
        writer: home.host,
        run: begun.run,
        number: 0,
      },
      ...{ index: 0, lengthBytes: foreign.length, host: first.host, bearer: home.host },
    }
    const sound = resign(foreign, fleet, renumber)
    t.is(await put(ownId, sound, signGrant(leave, home.secret).toString('base64')), 'NOT_ALLOWED')
    t.is(await put(ownId, sound, grants[0], second), 'NOT_ALLOWED', 'the grant of another peer')
    t.is(await put(ownId, sound, grants[1], first), 'NOT_ALLOWED', 'the grant of another shard')
    const other = new Hands(t, openHome(lab.lab.appliance.state).secret)
    t.is(await outcomeOf(other.peer(first).sendShard(ownId, sound, grants[0])), 'NOT_ALLOWED', 'borne by another')
    t.is(await put(ownId, Buffer.concat([sound, Buffer.alloc(1)]), grants[0]), 'NOT_ALLOWED', 'of another length')
    tried('grant-own', 'grant-other-peer', 'grant-other-shard', 'grant-borne', 'grant-length')

    // Its own name means one thing: what it stored first stays.
    t.is(await put(ownId, sound, grants[0]), 'taken')
    const again = resign(sound, fleet, (descriptor) => descriptor.fill(8, 66, 98))
    t.is(await put(ownId, again, grants[0]), 'HOST_REFUSED')
    tried('shard-twice')

    // Leases, and what is handed in under them.
    const { begun: theirs } = await withFleet(lab.lab.appliance.state, (one) => beginRun(one, foreign.length))
    const finish = (lease: string, head: Buffer, references: Uint8Array) =>
      outcomeOf(catalog.finish(lease, { head, references, asked: false, summary: summary() }))
    // Its own word for a host's: nothing was sent there.
    const receipt = (index: number) => {
      const said = { stripe: '00'.repeat(32), index, lengthBytes: foreign.length, store: '00'.repeat(16), sequence: 1 }
      const of = { fleet: home.fleet, shard: shardId(run, 0, index), root: hash(foreign).toString('hex') }
      return signReceipt(said, of, home.secret).toString('base64')
    }
    const root = { root: hash(foreign).toString('hex'), receipt: receipt(0) }
    const commit = (lease: string, hosts = shards.slice(0, 1)) =>
      outcomeOf(
        catalog.commit(lease, {
          ...placed,
          records: Buffer.alloc(0),
          shards: hosts.map((one) => ({ ...one, ...root })),
        }),
      )
    t.is(await outcomeOf(catalog.lookup(theirs.lease, randomBytes(32), 1)), 'NOT_ALLOWED')
    t.is(await commit(theirs.lease), 'NOT_ALLOWED')
    t.is(await finish(theirs.lease, own.head, own.bitmap), 'NOT_ALLOWED')
    t.is(await outcomeOf(catalog.abandon(theirs.lease, 'NO')), 'NOT_ALLOWED')
    const inItsName = { appliance: victim.host, volume: randomBytes(16).toString('hex'), source: '', label: '' }
    t.is(await outcomeOf(catalog.begin(inItsName)), 'NOT_ALLOWED')
    tried('lease-foreign', 'lease-in-foreign-name')
    const body: Head = openOwn(fleet, own.head)
    t.is(await finish(begun.lease, own.head, own.bitmap), 'PROTOCOL', "a head that is not the lease's")
    const last = signAs(fleet, { ...body, ...begunOf(begun), sequence: 2 ** 53 - 1 })
    t.is(await finish(begun.lease, last, own.bitmap), 'PROTOCOL', 'the highest sequence')
    const unnamed = signAs(fleet, {
      ...body,
      ...begunOf(begun),
      references: hash(namesOpen(fleet, placed.stripe)).toString('hex'),
    })
    t.is(
      await finish(begun.lease, unnamed, namesOpen(fleet, placed.stripe)),
      'PROTOCOL',
      'a stripe that is not committed',
    )
    const stolen = (await peers
      .get(targets[0]?.host ?? '')
      .fetchDocument('head', headName({ appliance: victim.host, snapshot }))) as Buffer
    t.not(await finish(begun.lease, stolen, own.bitmap), 'taken', "another's head")
    tried('finish-other-head', 'finish-last-number', 'finish-uncommitted', 'finish-foreign-head')
    const elsewhere = [
      { index: 0, host: (targets.find(({ host }) => !shards.some((one) => one.host === host)) ?? office).host },
    ]
    t.is(await commit(begun.lease, elsewhere), 'PROTOCOL', 'where nothing was placed')
    const never = shards.map((one) => ({ ...one, ...root, receipt: receipt(one.index) }))
    t.is(await commit(begun.lease, never), 'FORGED', 'shards that were never sent')
    const { receipt: _none, ...bare } = { ...never[0]! }
    const without = encodeMessage({ lease: begun.lease, ...placed, stripe: undefined, number: 0, shards: [bare] })
    const send = hands.connect(office).request('POST', '/v1/commit', { body: without, maxBytes: 4096 })
    t.is(await outcomeOf(send), 'PROTOCOL', 'without the word of its host')
    tried('commit-never-sent')
    const many = Buffer.alloc(40 * (RECORDS_PER_STRIPE + 2000))
    t.is(
      await outcomeOf(catalog.commit(begun.lease, { ...placed, records: many, shards: [{ ...shards[0]!, ...root }] })),
      'PROTOCOL',
    )
    const million = {
      runs: [],
      findings: Array(1_000_000).fill({ stripe: 1, shard: ownId, fact: 'missing' }),
      inspected: [],
    }
    t.is(
      await outcomeOf(
        hands.connect(office).request('POST', '/v1/learn', { body: encodeMessage(million), maxBytes: 4096 }),
      ),
      'PROTOCOL',
    )
    tried('commit-unplaced', 'commit-too-many', 'entries-million')

    // Bitmaps that build on each other, or on themselves.
    const less = new ReferenceSet().encode(catalog.names)
    const circle = encodeDelta(own.begun.snapshot, less, less)
    for (const target of targets) {
      t.regex(
        await outcomeOf(hands.peer(target).sendDocument('bitmap', own.name, circle)),
        /taken|WHOLE_NEEDED|FORGED|CORRUPT/,
      )
      t.deepEqual(await peers.get(target.host).fetchDocument('bitmap', own.name), own.bitmap, 'as it was')
    }
    tried('bitmap-circle')

    // Where others are.
    const where = (host: string, addresses: string[]) =>
      signAddress({ fleet: home.fleet, host, sequence: Date.now(), addresses }, home.secret)
    const nowhere = ['169.254.1.1:7421', '224.0.0.1:7421', '0.0.0.0:7421', '[fe80::1]:7421', '10.0.0.1:0']
    for (const target of targets) {
      const bring = (host: string, bytes: Buffer) => outcomeOf(hands.peer(target).sendDocument('address', host, bytes))
      t.is(await bring(victim.host, where(victim.host, ['10.0.0.1:7421'])), 'FORGED')
      t.is(await bring(victim.host, where(home.host, ['10.0.0.1:7421'])), 'FORGED')
      for (const one of nowhere) t.is(await bring(home.host, where(home.host, [one])), 'CORRUPT', one)
    }
    const space = { freeBytes: 1, usedBytes: 0, capacityBytes: 1, storage: '', store: null }
    const beat = (bytes: Buffer) => outcomeOf(hands.catalog(office).heartbeat(space, bytes))
    t.is(await beat(where(victim.host, ['10.0.0.1:7421'])), 'FORGED')
    t.is(await beat(where(home.host, ['169.254.1.1:7421'])), 'CORRUPT')
    tried('address-foreign', 'address-nowhere')

    // A list of its own for the witnesses, and what only others may ask for.
    const offer = encodeMessage({})
    for (const target of targets) {
      const asked = hands
        .connect(target)
        .request('PUT', `/v1/checkpoints/${home.fleet}`, { body: offer, maxBytes: 4096 })
      t.is(await outcomeOf(asked), 'NOT_ALLOWED')
    }
    tried('checkpoint-own')
    const mayNot = CALL_NAMES.filter((call) =>
      ['invite', 'remove', 'rename', 'retire', 'setPolicy', 'adopt', 'events'].includes(call),
    )
    for (const call of mayNot) {
      const asked = hands.connect(office).request('POST', `/v1/${call}`, { body: encodeMessage({}), maxBytes: 4096 })
      t.is(await outcomeOf(asked), 'NOT_ALLOWED', call)
    }
    t.deepEqual(
      (await catalog.snapshots()).map(({ appliance }) => appliance).filter((one) => one !== home.host),
      [],
    )
    t.is(await outcomeOf(catalog.snapshot(snapshot)), 'NO_SUCH_SNAPSHOT')
    t.is(await outcomeOf(catalog.snapshotStripes(snapshot)), 'NO_SUCH_SNAPSHOT')
    tried('calls-of-others', 'snapshots-of-others')

    // What began later ends what began before it.
    const { volume, source, label } = { volume: body.volume, source: '/dev/hostile', label: '' }
    const [old] = [await catalog.begin({ appliance: home.host, volume, source, label })]
    await catalog.begin({ appliance: home.host, volume, source, label })
    t.is(
      await outcomeOf(
        catalog.place(old.lease, {
          ...placed,
          lengthBytes: foreign.length,
          shards,
          stripe: stripeOf(catalog.names.number(runName(home.host, old.run)), 0),
        }),
      ),
      'LEASE_ENDED',
    )
    tried('lease-ended')
  })
  const { stdout } = await imager('events', '--state', lab.lab.coordinator.state)
  t.regex(stdout, /Refused thief: .*belongs to another appliance/, 'and it is said')
  await lab.restoreLatest(t, disk)
})

const begunOf = ({ snapshot, sequence, parent }: { snapshot: string; sequence: number; parent: string | null }) => ({
  snapshot,
  sequence,
  parent,
})

/** The first shard of a stripe of that writer, by its name and whole. */
async function firstShardOf({ home, peers }: Fleet, writer: string): Promise<[id: string, file: Buffer]> {
  for (const { host } of home.membership().hosts.filter(({ role }) => role === 'peer')) {
    const peer = peers.get(host)
    for (const { shard } of (await peer.fetchInventory()).shards) {
      const file = (await peer.fetchBody(shard)).take()
      const { stripe } = await inspectShard(file)
      if (stripe.writer === writer && file.readUInt8(12) === 0) return [shard, file]
    }
  }
  throw new Error('it has none')
}

/** The bitmap of one record in a stripe of which nothing was committed. */
function namesOpen({ catalog }: Fleet, stripe: number): Buffer {
  const name = catalog.names.name(Math.floor(stripe / 2 ** 24)) as Buffer
  return Buffer.concat([Buffer.from([...Buffer.from('IMRF'), 1, 0, 0, 0]), name, Buffer.from([1, 0, 1])])
}
