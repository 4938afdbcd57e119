/** Whoever reaches the ports of a fleet: without a key of it, with what was overheard or used before, or in a crowd. */
import { once } from 'node:events'
import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import test, { type ExecutionContext } from 'ava'
import { CALL_NAMES } from '../../src/coordinator/calls.js'
import { signAdmission } from '../../src/keys/admission.js'
import { tlsIdentity } from '../../src/keys/certificate.js'
import { openHome } from '../../src/keys/home.js'
import { decodeToken, TokenKey } from '../../src/keys/token.js'
import { DATA_PREAMBLE, Secret } from '../../src/native.js'
import { encodeMessage } from '../../src/wire/message.js'
import { imager, TestLab } from '../e2e/lab.js'
import { hostOf, sealingOf } from '../keys/fleet.js'
import { attacking } from './attacks.js'
import { coordinatorOf, Hands, outcomeOf, peerOf, type Target, withFleet } from './hands.js'

const portOf = ({ address }: Target) => Number(address.split(':').at(-1))

/** What answers to these first bytes, until it hangs up or half a second is over. */
async function answerTo(t: ExecutionContext, target: Target, bytes: string | Buffer): Promise<string> {
  const socket = connectTcp(portOf(target), '127.0.0.1')
  t.teardown(() => socket.destroy())
  return heard(socket, 'connect', bytes)
}

async function heard(socket: Socket, ready: string, bytes: string | Buffer): Promise<string> {
  let said = ''
  socket.on('data', (some: Buffer) => (said += some.toString('latin1')))
  socket.on('error', () => {})
  await Promise.race([once(socket, ready), once(socket, 'close')])
  socket.write(bytes as string, 'latin1')
  await Promise.race([once(socket, 'close'), new Promise((resolve) => setTimeout(resolve, 500))])
  return said
}

test('whoever reaches the ports without a key of the fleet, or with a used one, gets nothing, and keeps nobody from anything', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 3)
  const { coordinator } = lab.lab
  const [office, ...peers] = [coordinatorOf(lab), peerOf(lab, 0), peerOf(lab, 1), peerOf(lab, 2)]
  const every = [office, ...peers]
  const secret = Secret.random()
  const stranger = new Hands(t, secret)
  const disk = lab.makeDisk('disk.img', 8)
  await lab.snapshot(t, disk)

  // Without a certificate, and with one that nobody let in.
  for (const target of every) {
    const socket = connectTls({ host: '127.0.0.1', port: portOf(target), rejectUnauthorized: false })
    t.teardown(() => socket.destroy())
    t.regex(await heard(socket, 'secureConnect', 'GET /v1/state HTTP/1.1\r\nhost: x\r\n\r\n'), /^HTTP\/1\.1 403 /)
  }
  for (const target of peers) {
    const paths = ['/v1/state', '/v1/shards', '/v1/documents/membership', '/v1/documents/head', '/v1/documents/key']
    for (const path of paths) {
      t.is(await outcomeOf(stranger.connect(target).request('GET', path, { maxBytes: 4096 })), 'NOT_ALLOWED', path)
    }
  }
  // What it shows proves itself, or is nothing.
  for (const call of CALL_NAMES.filter((name) => name !== 'join' && name !== 'show')) {
    const asked = stranger.connect(office).request('POST', `/v1/${call}`, { body: encodeMessage({}), maxBytes: 4096 })
    t.is(await outcomeOf(asked), 'NOT_ALLOWED', call)
  }
  tried('stranger-no-certificate', 'stranger-reads', 'stranger-calls')

  // What was overheard: a signed document of a member, brought by another.
  const victim = openHome(lab.lab.appliance.state)
  const address = victim.membership().bytes
  for (const target of peers) {
    t.is(await outcomeOf(stranger.peer(target).sendDocument('membership', victim.fleet, address)), 'NOT_ALLOWED')
  }
  const pretender = new Hands(t, secret)
  t.is(
    await outcomeOf(pretender.connect({ ...office, host: hostOf(secret) }).request('GET', '/', { maxBytes: 0 })),
    'HOST_LIED',
  )
  tried('stranger-replays', 'stranger-pinned')

  // A token, and what it signed.
  const { token: text } = await withFleet(coordinator.state, (fleet) => fleet.invite('peer'))
  const token = decodeToken(text)
  const key = new TokenKey(token.secret)
  const asked = { name: 'pc', domain: 'pc', addresses: ['127.0.0.1:7421'], key }
  const admissionOf = (who: typeof secret, role: 'peer' | 'admin', signer = key) =>
    signAdmission({ fleet: token.fleet, term: token.term, host: hostOf(who), sealing: sealingOf(who), role }, signer)
  const join = (admission: Buffer, from = stranger) => outcomeOf(from.catalog(office).join({ ...asked, admission }))
  const member = Secret.random()
  t.is(await join(admissionOf(member, 'peer')), 'WRONG_KEY', "another's admission")
  t.is(await join(admissionOf(secret, 'admin')), 'WRONG_KEY', 'a higher role')
  t.is(await join(admissionOf(secret, 'peer', new TokenKey(Buffer.alloc(32, 7)))), 'WRONG_KEY', 'a key of its own')
  for (const one of ['169.254.1.1:7421', '[fe80::1]:7421', '224.0.0.1:7421', '10.0.0.1:0', 'nonsense']) {
    const far = stranger.catalog(office).join({ ...asked, addresses: [one], admission: admissionOf(secret, 'peer') })
    t.is(await outcomeOf(far), 'PROTOCOL', one)
  }
  tried('admission-foreign', 'admission-role', 'admission-forged', 'join-nowhere')
  const joined = new Hands(t, member)
  t.is(await join(admissionOf(member, 'peer'), joined), 'taken')
  t.is(await join(admissionOf(secret, 'peer')), 'WRONG_KEY', 'the token is used')
  t.is((await imager('remove', 'pc', '--state', coordinator.state)).code, 0)
  t.is(await join(admissionOf(member, 'peer'), joined), 'WRONG_KEY', 'what let it in once')
  t.is(await outcomeOf(joined.catalog(office).self()), 'NOT_ALLOWED')
  for (const target of peers) t.is(await outcomeOf(joined.peer(target).fetchState()), 'NOT_ALLOWED')
  tried('token-twice', 'admission-again', 'removed-calls')

  // Noise and absurd sizes, on both kinds of connection; then a crowd that holds its connections.
  const preamble = Buffer.from([DATA_PREAMBLE]).toString('latin1')
  const noise = ['', '\0'.repeat(4096), 'GET / HTTP/1.1\r\n\r\n', 'imager/1', preamble, `${preamble}\xff\xff\xff\xff`]
  for (const target of every) for (const bytes of noise) t.notRegex(await answerTo(t, target, bytes), /imager|shard/i)
  const tls = tlsIdentity(secret)
  const huge = (path: string) => `${path} HTTP/1.1\r\nhost: x\r\ncontent-length: ${2 ** 53}\r\n\r\n`
  for (const target of every) {
    const socket = connectTls({ host: '127.0.0.1', port: portOf(target), rejectUnauthorized: false, ...pick(tls) })
    t.teardown(() => socket.destroy())
    const path = target === office ? 'POST /v1/join' : `PUT /v1/shards/${'00'.repeat(16)}`
    t.regex(
      await heard(socket, 'secureConnect', huge(path)),
      target === office ? /^HTTP\/1\.1 400 / : /^HTTP\/1\.1 403 /,
    )
  }
  tried('noise', 'absurd-length')
  const crowd = every.flatMap((target) => Array.from({ length: 150 }, () => connectTcp(portOf(target), '127.0.0.1')))
  for (const [at, socket] of crowd.entries()) {
    socket.on('error', () => {})
    if (at % 2 === 0) socket.write('\x16\x03\x01')
  }
  await lab.snapshot(t, disk)
  await lab.restoreLatest(t, disk)
  for (const socket of crowd) socket.destroy()
  tried('crowd')
})

const pick = ({ key, cert }: ReturnType<typeof tlsIdentity>) => ({ key, cert })
