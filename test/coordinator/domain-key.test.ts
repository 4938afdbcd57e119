import test, { type ExecutionContext } from 'ava'
import { toHex } from '../../src/base/ids.js'
import { KEYS_A_DAY } from '../../src/base/limits.js'
import { openEntry, partsOfEntryName, RECOVERY, readEntry } from '../../src/keys/entry.js'
import { openHome } from '../../src/keys/home.js'
import { FLEET, type Office, openOffice } from './harness.js'

type Member = ReturnType<Office['member']>

async function given(office: Office, { host, secret, catalog }: Member, volume = 'a0'.repeat(16)) {
  const { domainKey } = await catalog.begin({ appliance: host, volume, source: '/dev/sda', label: '' })
  if (!domainKey) return undefined
  const accept = (signer: string) => signer === office.home.host
  const { key, entry } = openEntry(domainKey, { fleet: FLEET, reader: host, secret, accept })
  return { id: toHex(key.id()), rotation: entry.rotation, bytes: domainKey }
}

async function open(t: ExecutionContext, ...names: string[]) {
  const office = await openOffice(t)
  const admin = office.member('admin', 'admin')
  return { office, admin, servers: names.map((name) => office.member('appliance', name)) }
}

test('who is removed and had the key is not given the next one; the others are, each once, and the words open it', async (t) => {
  const { office, admin, servers } = await open(t, 'one', 'two')
  const [one, two] = servers as [Member, Member]
  const first = toHex(office.domainKey.id())
  const before = await given(office, one)
  t.like(before, { id: first, rotation: 0 })
  t.deepEqual((await given(office, one, 'b0'.repeat(16)))?.bytes, before?.bytes, 'the same entry each time')
  await given(office, two)
  await admin.catalog.remove('one', true)
  const after = await given(office, two)
  t.not(after?.id, first)
  t.is(after?.rotation, 1)
  await t.throwsAsync(given(office, one))
  t.is(openHome(office.state).domainEntry?.key, after?.id, 'also after a restart')
  t.deepEqual(
    openHome(office.state).domainKeys.map((key) => toHex(key.id())),
    [after?.id as string, first],
  )

  const readers = office.catalog.registry
    .documents('key')
    .filter(({ name }) => partsOfEntryName(name).key === after?.id)
    .map(({ bytes }) => readEntry(bytes).entry.reader)
  t.deepEqual(readers.sort(), [office.home.host, RECOVERY].sort(), 'peers get what they keep, and nothing for others')
  t.deepEqual(
    office.documents.filter(({ kind }) => kind === 'key').map(({ name }) => partsOfEntryName(name).key),
    [after?.id, after?.id],
  )
  const root = { fleet: FLEET, reader: RECOVERY, secret: office.root, accept: () => true }
  const words = office.documents.find(({ kind, bytes }) => kind === 'key' && bytes.includes('"recovery"'))
  t.is(words && toHex(openEntry(words.bytes, root).key.id()), after?.id)
  const sentences = office.catalog.registry.events().map(({ sentence }) => sentence)
  t.true(sentences.includes('New blocks are sealed under another key: one had the former one'), sentences.join('\n'))
})

test('who never had the newest key changes nothing by leaving; who joins later is given the newest alone', async (t) => {
  const { office, admin, servers } = await open(t, 'one', 'two', 'three')
  const [one, two, three] = servers as [Member, Member, Member]
  await given(office, one)
  await admin.catalog.remove('two', true)
  t.is((await given(office, one))?.id, toHex(office.domainKey.id()), 'it had none')
  await admin.catalog.remove('one', true)
  const newest = await given(office, three)
  t.is(newest?.rotation, 1)
  const held = office.catalog.registry.documents('given').map(({ name }) => name)
  t.deepEqual(
    held.filter((name) => name.endsWith(three.host)),
    [`${newest?.id}${three.host}`],
  )
  t.false(held.some((name) => name.endsWith(two.host)))
})

test('no more keys a day than peers take; what is due is made up for by the next run', async (t) => {
  const names = Array.from({ length: KEYS_A_DAY + 2 }, (_, at) => `server-${at}`)
  const { office, admin, servers } = await open(t, ...names, 'last')
  const last = servers.at(-1) as Member
  const rotations: (number | undefined)[] = []
  for (const [at, name] of names.entries()) {
    await given(office, servers[at] as Member)
    await admin.catalog.remove(name, true)
    rotations.push((await given(office, last))?.rotation)
  }
  t.deepEqual(rotations, [1, 2, 3, 4, 4, 4])
  office.clock.time += 25 * 3_600_000
  t.is((await given(office, last))?.rotation, 5)
})
