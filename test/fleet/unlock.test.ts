import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { ImagerError } from '../../src/base/errors.js'
import { toHex } from '../../src/base/ids.js'
import { unlocking } from '../../src/fleet/unlock.js'
import { entryName, type KeyEntry, RECOVERY, readEntry, sealEntry, sealToRecovery } from '../../src/keys/entry.js'
import type { Home } from '../../src/keys/home.js'
import { Secret } from '../../src/native.js'
import type { Document } from '../../src/peers/client.js'
import type { Peers } from '../../src/peers/pool.js'
import { TestFleet } from './fleet.js'

type Answer = (signal: AbortSignal) => AsyncGenerator<Document>

/** A fleet of a coordinator, an appliance and peers that answer as they are told; `unlock`: of the coordinator, with the words. */
async function stand(t: ExecutionContext, ...answers: Answer[]) {
  const fleet = await TestFleet.found(t)
  await fleet.coordinator()
  const appliance = await fleet.add('server', 'appliance')
  const byHost = new Map<string, Answer>()
  for (const [index, answer] of answers.entries()) byHost.set((await fleet.add(`pc-${index}`, 'peer')).host, answer)
  const peers = {
    get: (host: string) => ({
      fetchDocuments: (_kind: string, { signal }: { signal: AbortSignal }) => byHost.get(host)?.(signal),
    }),
  } as unknown as Peers
  const parts = { home: fleet.home, clock: fleet.clock, peers }
  const unlock = (words: string | undefined = fleet.words, patienceMs?: number) =>
    unlocking(parts, words, new AbortController().signal, patienceMs)(appliance.host)
  return { fleet, appliance, unlock, homes: [fleet.home, appliance] as const }
}

async function* keysOf(homes: readonly Home[]): AsyncGenerator<Document> {
  for (const bytes of homes.flatMap((home) => home.ownEntries())) yield { name: nameOf(bytes), bytes }
}

const nameOf = (bytes: Buffer) => entryName(readEntry(bytes).entry)

test('the words open the keys that any peer holds, whatever others send; without them the keys are locked', async (t) => {
  let homes: readonly Home[] = []
  /** Of the right name, and it opens for nobody. */
  const forged = () => {
    const server = homes[1] as Home
    const { secret } = server
    const all = server.ownEntries().map((bytes) => readEntry(bytes).entry)
    const { sealed: _, ...entry } = all.find((one) => one.purpose === 'manifest' && one.reader === RECOVERY) as KeyEntry
    return sealEntry(Secret.random(), { ...entry, readerSealing: toHex(secret.sealingKey()) }, secret)
  }
  async function* junk(): AsyncGenerator<Document> {
    for (const bytes of [randomBytes(100), Buffer.alloc(0)]) yield { name: '0'.repeat(128), bytes }
    yield { name: nameOf(forged()), bytes: forged() }
    throw new ImagerError('HOST_LIED', { host: 'pc', what: 'junk' })
  }
  const { unlock, homes: own } = await stand(
    t,
    junk,
    () => keysOf(homes.slice(0, 1)),
    () => keysOf(homes.slice(1)),
  )
  homes = own
  const { manifests, domains } = await unlock()
  const [home, server] = own
  t.deepEqual(
    manifests.map((key) => key.id()),
    [server.manifestKey?.id()],
  )
  t.deepEqual(domains[0]?.id(), server.domainKey?.id())
  t.is(home.manifestKey, undefined, 'nothing is kept')
  const locked = await t.throwsAsync(
    unlocking(
      { home, clock: { now: () => 0 }, peers: {} as Peers },
      undefined,
      new AbortController().signal,
    )(server.host),
    { code: 'KEYS_LOCKED', message: /the snapshots of server$/ },
  )
  t.is((locked as ImagerError).exit, 12)
})

test('words of another fleet are refused before anybody is asked', async (t) => {
  const { unlock } = await stand(t, () => {
    throw new Error('asked')
  })
  await t.throwsAsync(async () => unlock(Secret.random().words()), { code: 'WRONG_WORDS' })
  await t.throwsAsync(async () => unlock('abandon'), { code: 'WRONG_WORDS' })
})

test('what is lacking is said: who is silent, or that nobody has it', async (t) => {
  let homes: readonly Home[] = []
  const silent = () => {
    throw new ImagerError('HOST_UNREACHABLE', { host: 'pc-0', address: 'a', why: 'off' })
  }
  const away = await stand(t, silent, () => keysOf(homes))
  await t.throwsAsync(away.unlock(), { code: 'NOT_RESTORABLE', message: /1 host does not answer: pc-0/ })
  const none = await stand(t, () => keysOf(homes))
  homes = [none.fleet.home]
  await t.throwsAsync(none.unlock(), { code: 'CORRUPT', message: /No peer holds the keys of server/ })
})

test('a peer that sends keys without end is silent, and keeps nobody', async (t) => {
  let homes: readonly Home[] = []
  let isCutOff = false
  async function* endless(signal: AbortSignal): AsyncGenerator<Document> {
    const { fleet, rootSealing } = homes[0] as Home
    for (;;) {
      isCutOff = signal.aborted
      signal.throwIfAborted()
      const identity = Secret.random()
      const bytes = sealToRecovery('manifest', Secret.random(), { fleet, term: 1, rootSealing, identity })
      yield { name: nameOf(bytes), bytes }
      await sleep(1)
    }
  }
  const { unlock, homes: own } = await stand(t, endless, () => keysOf(homes))
  homes = own
  t.is((await unlock(undefined, 300)).manifests.length, 1)
  // It sends for ever: nothing but the patience that was given ends it.
  t.true(isCutOff)
})
