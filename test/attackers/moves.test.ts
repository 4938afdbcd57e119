/** The coordinator, or who was it, gives the place away as it likes: real processes, and the project's own code over its state folder. */
import { once } from 'node:events'
import { cpSync } from 'node:fs'
import { createInterface } from 'node:readline'
import test from 'ava'
import { signHandover } from '../../src/keys/handover.js'
import { openHome } from '../../src/keys/home.js'
import { signMembership } from '../../src/keys/membership.js'
import { nextHandover, signHanded, takeUp } from '../../src/keys/take-up.js'
import { imager, lastLine, start, TestLab } from '../e2e/lab.js'
import { eventually } from '../fleet/fleet.js'
import { attacking } from './attacks.js'
import { joinAs } from './hands.js'
import { sendMembership } from './sending.js'

const LAST = 2 ** 53 - 1

test('the coordinator’s place goes with the word of an enroller, once, and for good: whoever had it signs nothing more', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 3)
  const { coordinator, peers, wordsFile } = lab.lab
  const office = ['--state', coordinator.state, '--json']
  const [next, other] = [await joinAs(lab, 'admin', 'next'), await joinAs(lab, 'admin', 'other')]
  const keeper = peers[0] as (typeof peers)[number]
  const given = await imager('duties', 'move', 'enroller', keeper.name, '--words-file', wordsFile, ...office)
  t.is(given.code, 0, given.stdout + given.stderr)
  await eventually(t, 'all peers know the new term', () => {
    return peers.every(({ state }) => openHome(state).membership().term === 2)
  })
  const home = openHome(coordinator.state)
  const [heir, third, enroller] = [openHome(next), openHome(other), openHome(keeper.state)]
  cpSync(coordinator.state, lab.path('old'), { recursive: true })
  const before = home.membership()
  const everywhere = (from: typeof home, bytes: Buffer) =>
    Promise.all(peers.map((peer) => sendMembership(from, peer, bytes)))
  const all = (outcome: string) => peers.map(() => outcome)

  // Without the enroller, or with a word of the coordinator's own in its stead; by the command, too.
  const enrolled = before.delegations.find(({ duty, term }) => duty === 'enroller' && term === 2)?.text ?? ''
  const own = signHandover(nextHandover(before, heir.host), home.secret)
  for (const consent of [{}, { consent: own }]) {
    const handed = { handover: own, enroller: enrolled, ...consent }
    t.deepEqual(await everywhere(home, takeUp(before, handed, home.rootSealing, heir.secret)), all('FORGED'))
  }
  t.like(lastLine(await imager('coordinator', 'move', 'next', ...office)), { code: 'NOT_ALLOWED' })
  t.like(lastLine(await imager('coordinator', 'move', 'next', '--state', next, '--json')), { code: 'NOT_ALLOWED' })
  tried('hands-over-alone', 'takes-itself')

  // The enroller types it; the host to which it goes stands by.
  const daemon = start(['coordinator', '--state', next, '--listen', '127.0.0.1:0', '--json'])
  t.teardown(() => daemon.kill('SIGKILL'))
  await once(createInterface({ input: daemon.stdout as NodeJS.ReadableStream }), 'line')
  const moved = await imager('coordinator', 'move', 'next', '--state', keeper.state, '--json')
  t.is(moved.code, 0, moved.stdout + moved.stderr)
  await eventually(t, 'all peers obey the new one', () => {
    return peers.every(({ state }) => openHome(state).membership().coordinator === heir.host)
  })
  const now = openHome(next)

  // The one that was agreed to, said of another host; another one of the same number; and whatever it signed before or since.
  const consent = signHandover(nextHandover(before, heir.host), enroller.secret)
  const { handed } = signHanded(before, heir.host, home.secret, Buffer.from(consent, 'base64'))
  const toOther = { ...handed, handover: signHandover(nextHandover(before, third.host), home.secret) }
  t.deepEqual(await everywhere(now, takeUp(before, toOther, home.rootSealing, third.secret)), all('FORGED'))
  const again = signHandover(nextHandover(before, third.host), enroller.secret)
  const second = signHanded(before, third.host, home.secret, Buffer.from(again, 'base64')).handed
  const beside = takeUp(before, second, home.rootSealing, third.secret)
  t.deepEqual(await everywhere(now, beside), all('HOST_REFUSED'), 'even where the enroller agreed to both')
  tried('hands-over-twice', 'handover-replayed')
  const late = signMembership({ ...before.draft(), sequence: LAST }, home.secret, [])
  t.deepEqual(await everywhere(now, late), all('HOST_REFUSED'))
  const named = signMembership({ ...now.membership().draft(), sequence: LAST }, home.secret, [])
  t.deepEqual(await everywhere(now, named), all('FORGED'))
  t.deepEqual(await everywhere(openHome(lab.path('old')), late), all('NOT_ALLOWED'), 'it is no member')
  tried('moved-signs-on')
  for (const { state } of peers) t.is(openHome(state).membership().coordinator, heir.host)
})
