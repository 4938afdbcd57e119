/**
 * Who has an appliance, or a peer, in his hands, with its keys and its files, against the heads and bitmaps of others: what he
 * brings to a peer is refused, or changes nothing; a recovery names it, and gives back everybody else's snapshots.
 */
import { randomBytes } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { systemClock } from '../../src/base/clock.js'
import { hasCode, ImagerError } from '../../src/base/errors.js'
import { KiB, MiB } from '../../src/base/units.js'
import type { LabReport } from '../../src/daemon/lab.js'
import { planRecover, type RecoverReport, runRecover } from '../../src/jobs/recover/recover.js'
import { encodeDelta } from '../../src/keys/bitmap.js'
import { headName, openHead, signHead } from '../../src/keys/head.js'
import { openHome } from '../../src/keys/home.js'
import { ReferenceSet, Secret, type SecretHandle } from '../../src/native.js'
import { imager, lastLine, TestLab } from '../e2e/lab.js'
import { freePort } from '../free-port.js'
import { attacking } from './attacks.js'
import { joinAs, withFleet } from './hands.js'
import { finishHostile, honest, openOwn, signAs, storeHostile, tower } from './manifest.js'

const BLOCK = 64 * KiB

const storeOf = (lab: TestLab, peer: number) => (lab.lab.peers[peer] as LabReport['peers'][number]).store
const fileOf = (lab: TestLab, peer: number, kind: string, name: string) =>
  join(storeOf(lab, peer), 'documents', kind, name)

/**
 * The forms of the bitmap on the peers. One that a busy machine let count as away for a moment got neither head nor bitmap, which is
 * allowed, and would ask for the whole of the next: it is given both.
 */
function deliverAll(lab: TestLab, name: string): Set<string> {
  const forms = new Set<string>()
  const from = [0, 1, 2, 3].find((peer) => existsSync(fileOf(lab, peer, 'bitmap', name))) ?? 0
  for (const peer of [0, 1, 2, 3]) {
    for (const kind of ['head', 'bitmap']) {
      const path = fileOf(lab, peer, kind, name)
      if (!existsSync(path)) cpSync(fileOf(lab, from, kind, name), path)
    }
    forms.add(readFileSync(fileOf(lab, peer, 'bitmap', name)).toString('latin1', 0, 4))
  }
  return forms
}

async function recover(lab: TestLab, state: string) {
  const { address } = lab.lab.peers[0] as LabReport['peers'][number]
  const listen = `127.0.0.1:${await freePort()}`
  const given = ['--words-file', lab.lab.wordsFile, '--peer', address, '--listen', listen, '--state', lab.path(state)]
  const outcome = await imager('recover', ...given, '--json')
  return { outcome, report: lastLine<RecoverReport>(outcome) }
}

/** A recovery that is ended at the first page of a map: had the peers heard of it by then? */
async function isTakenOverFirst(lab: TestLab): Promise<boolean> {
  const ended = new AbortController()
  setMaxListeners(0, ended.signal)
  const seen: boolean[] = []
  const report = ({ phase }: { phase: string }) => {
    if (!phase.startsWith('reading manifest')) return
    // Earlier ones are kept beside it.
    for (const peer of lab.lab.peers.keys()) {
      const names = readdirSync(join(storeOf(lab, peer), 'documents', 'membership'))
      seen.push(names.some((name) => readFileSync(fileOf(lab, peer, 'membership', name)).includes('"term":2')))
    }
    ended.abort(new ImagerError('INTERRUPTED'))
  }
  const { address } = lab.lab.peers[1] as LabReport['peers'][number]
  const words = readFileSync(lab.lab.wordsFile, 'utf8')
  const options = {
    state: lab.path('new'),
    words,
    peer: address,
    name: 'spare',
    listen: '127.0.0.1:1',
    address: '127.0.0.1:1',
  }
  const parts = { clock: systemClock, report, signal: ended.signal }
  const plan = await planRecover(options, parts)
  try {
    await runRecover(plan, options, parts)
  } catch (error) {
    if (!hasCode(error, 'INTERRUPTED')) throw error
  } finally {
    plan.close()
  }
  return seen.length > 0 && seen.every(Boolean)
}

async function restored(t: ExecutionContext, lab: TestLab, snapshot: string, bytes: Buffer) {
  const target = lab.path(`${snapshot}.img`)
  const done = await imager(
    'restore',
    snapshot,
    '--host',
    'appliance',
    '--to',
    target,
    '--state',
    lab.path('new'),
    '--json',
  )
  t.is(done.code, 0, done.stdout + done.stderr)
  t.true(readFileSync(target).equals(bytes), `${snapshot} is what the disk was`)
}

test('compromised appliance and peer: heads and bitmaps of others stay theirs, and a recovery gives them back', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 4)
  // Every second block of the first is in the second, all but one of the second in the third.
  const versions = [randomBytes(8 * MiB)]
  for (const changed of [(block: number) => block % 2 === 0, (block: number) => block === 5]) {
    const next = Buffer.from(versions.at(-1) as Buffer)
    for (let block = 0; block * BLOCK < next.length; block++) if (changed(block)) next.writeUInt8(block, block * BLOCK)
    versions.push(next)
  }
  const appliance = openHome(lab.lab.appliance.state).host
  const own: string[] = []
  const names: string[] = []
  const forms: Set<string>[] = []
  for (const bytes of versions) {
    writeFileSync(lab.path('disk.img'), bytes)
    const snapshot = await lab.snapshot(t, lab.path('disk.img'))
    own.push(snapshot)
    names.push(headName({ appliance, snapshot }))
    forms.push(deliverAll(lab, names.at(-1) as string))
  }
  const [first, second, last] = names as [string, string, string]
  const [, , third, fourth] = lab.lab.peers.map(({ state }) => openHome(state).host)
  t.deepEqual(
    forms.map((some) => [...some]),
    [['IMRF'], ['IMRF'], ['IMRD']],
    'whole where most is new, else what changed',
  )
  const { volume } = await withFleet(lab.lab.appliance.state, ({ catalog }) => catalog.snapshot('latest'))
  const thief = await joinAs(lab, 'appliance', 'thief')
  const hostile = await withFleet(thief, async (fleet) => {
    const { home, peers } = fleet
    const [there, empty] = [peers.get(third as string), peers.get(fourth as string)]

    // What peers give to whoever may read names no disk, no time and no layout; nor does a peer's own folder.
    const stolen = (await there.fetchDocument('head', last)) as Buffer
    t.throws(() => openHead(stolen, home.fleet, (of) => home.trailerKeysOf(of)), { code: 'NOT_ALLOWED' })
    for (const key of [home.trailerKey, home.domainKey, home.manifestKey]) {
      t.throws(() => openHead(stolen, home.fleet, () => [key as SecretHandle]), { code: 'FORGED' })
    }
    const said = stolen.toString('latin1')
    t.deepEqual(said.match(/"[a-zA-Z]+":/g), ['"fleet":', '"appliance":', '"snapshot":', '"references":', '"sealed":'])
    t.false(said.includes(volume))
    tried('head-read')

    // A head of his own in the place of another's, where that is held and where it is not.
    const twice = await storeHostile(fleet, honest())
    rmSync(fileOf(lab, 3, 'head', last))
    const body = openOwn(fleet, twice.head)
    const forged = signAs(fleet, { ...body, snapshot: own[2] as string })
    for (const peer of [there, empty]) {
      await t.throwsAsync(peer.sendDocument('head', last, forged), { code: 'FORGED' }, 'under its name')
      await t.throwsAsync(peer.sendDocument('head', own[2] as string, forged), { code: 'FORGED' }, 'under its id alone')
    }
    tried('head-place')
    // Under his own name they are his own snapshots, whatever their ids: with a manifest of that id, and without.
    const same = await storeHostile(fleet, honest(), { snapshot: own[2] as string })
    const first = headName({ appliance: home.host, snapshot: own[0] as string })
    await empty.sendDocument('head', first, signAs(fleet, { ...body, snapshot: own[0] as string }))

    // A bitmap that names less, whole or as a difference.
    const less = new ReferenceSet().encode(fleet.catalog.names)
    await t.throwsAsync(empty.sendDocument('bitmap', last, less), { code: 'HOST_REFUSED' }, 'without its head')
    rmSync(fileOf(lab, 2, 'bitmap', last))
    await t.throwsAsync(there.sendDocument('bitmap', last, less), { code: 'FORGED' })
    const delta = encodeDelta(own[1] as string, less, less)
    await t.throwsAsync(there.sendDocument('bitmap', last, delta), { code: 'WHOLE_NEEDED' })
    tried('bitmap-alone', 'bitmap-less', 'bitmap-delta')

    // Manifests that no run writes.
    const endless = await storeHostile(fleet, tower())
    await finishHostile(fleet, endless)
    const unnamed = await storeHostile(fleet, honest(), { bitmap: () => less })

    // Two heads of one snapshot, on different peers, and one that he sealed for nobody.
    rmSync(fileOf(lab, 3, 'head', twice.name))
    await empty.sendDocument('head', twice.name, signAs(fleet, { ...body, time: 1 }))
    const closed = 'cd'.repeat(16)
    const sealed = signHead({ ...body, snapshot: closed }, home.secret, Secret.random())
    await empty.sendDocument('head', headName({ appliance: home.host, snapshot: closed }), sealed)
    return { endless, unnamed, twice, same, closed }
  })

  // A peer may put into its own store what it likes.
  const elsewhere = headName({ appliance, snapshot: 'ab'.repeat(16) })
  writeFileSync(fileOf(lab, 0, 'head', elsewhere), readFileSync(fileOf(lab, 1, 'head', first)))
  writeFileSync(fileOf(lab, 0, 'head', last), readFileSync(fileOf(lab, 1, 'head', first)))
  writeFileSync(fileOf(lab, 0, 'head', first), readFileSync(fileOf(lab, 1, 'head', hostile.twice.name)))
  writeFileSync(fileOf(lab, 0, 'bitmap', first), readFileSync(fileOf(lab, 1, 'bitmap', hostile.twice.name)))
  writeFileSync(fileOf(lab, 0, 'bitmap', last), Buffer.from('noise'))

  // Nobody has the second one's bitmap any more, and so nobody can make the third one's of what changed.
  for (const peer of [0, 1, 2, 3]) rmSync(fileOf(lab, peer, 'bitmap', second))

  await lab.burn()
  t.true(await isTakenOverFirst(lab), 'when a manifest is read, no peer obeys the former coordinator any more')
  const { outcome, report } = await recover(lab, 'new')
  t.is(report.term, 3, 'one that was cut short behind that is repeated')
  t.is(outcome.code, 5, outcome.stdout + outcome.stderr)
  t.is(report.suffice, '', 'no host that comes back would change that')
  const restorable = report.snapshots.filter(({ state }) => state !== 'incomplete')
  const expected = [...own.map((id) => `appliance ${id}`), `thief ${own[2]}`, `thief ${hostile.twice.begun.snapshot}`]
  t.deepEqual(restorable.map(({ applianceName, id }) => `${applianceName} ${id}`).sort(), expected.sort())
  const whyNot = new Map(report.unreadable.map((one) => [`${one.appliance} ${one.snapshot}`, one.why]))
  t.regex(whyNot.get(`thief ${hostile.endless.begun.snapshot}`) ?? '', /names one page twice/)
  t.regex(whyNot.get(`thief ${hostile.unnamed.begun.snapshot}`) ?? '', /not in its head's bitmap/)
  t.regex(whyNot.get(`thief ${own[0]}`) ?? '', /root page is of another snapshot/)
  t.regex(whyNot.get(`thief ${hostile.closed}`) ?? '', /sealed record/)
  t.is(whyNot.size, 4)
  tried('manifest-tower', 'bitmap-signed-less', 'head-stolen-root', 'head-sealed')
  t.like(report.rivals, { length: 1, 0: { snapshot: hostile.twice.begun.snapshot, appliance: 'thief', time: 1 } })
  tried('head-rivals')
  t.regex(report.notProved.join(), /check --read-data/)
  const without = own.map((id) =>
    report.notProved.some((one) => one.startsWith(id.slice(0, 8)) && /its bitmap/.test(one)),
  )
  t.deepEqual(without, [false, true, true], 'read by the other rules alone, and said')
  tried('peer-bitmap-drop')
  const ambiguous = await imager('restore', own[2] as string, '--to', lab.path('no.img'), '--state', lab.path('new'))
  t.is(ambiguous.code, 10, ambiguous.stdout)
  t.regex(ambiguous.stderr, /2 begin with it, each of another host: --host chooses/)
  for (const [at, snapshot] of own.entries()) await restored(t, lab, snapshot, versions[at] as Buffer)
  tried('head-twin', 'peer-head-swap', 'peer-bitmap-swap')
  t.false(existsSync(lab.path('new/found.db')))
  t.true(readdirSync(lab.path('new')).includes('home.json'))
})
