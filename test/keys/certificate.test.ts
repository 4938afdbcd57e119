import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect, createServer, type TLSSocket } from 'node:tls'
import test from 'ava'
import { certificateHost, tlsIdentity } from '../../src/keys/certificate.js'
import { Secret } from '../../src/native.js'

test('OpenSSL reads it, it signs itself, and it is the same each time', (t) => {
  const secret = Secret.random()
  const identity = tlsIdentity(secret)
  const certificate = new X509Certificate(identity.cert)
  t.true(certificate.verify(certificate.publicKey))
  t.is(certificate.subject, `CN=${identity.host}`)
  t.is(new Date(certificate.validTo).getUTCFullYear(), 9999)
  t.is(certificateHost(certificate.raw), identity.host)
  t.deepEqual(tlsIdentity(secret), identity)
})

test('two hosts shake hands over TLS 1.3 and see each other', async (t) => {
  const [server, client] = [tlsIdentity(Secret.random()), tlsIdentity(Secret.random())]
  const listener = createServer({
    key: server.key,
    cert: server.cert,
    requestCert: true,
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const accepted = once(listener, 'secureConnection') as Promise<[TLSSocket]>
  const { port } = listener.address() as AddressInfo
  const socket = connect({ port, host: '127.0.0.1', key: client.key, cert: client.cert, rejectUnauthorized: false })
  await once(socket, 'secureConnect')
  const [other] = await accepted
  t.is(certificateHost(socket.getPeerCertificate().raw), server.host)
  t.is(certificateHost(other.getPeerCertificate().raw), client.host)
  t.is(socket.getProtocol(), 'TLSv1.3')
  socket.destroy()
  other.destroy()
  listener.close()
})
