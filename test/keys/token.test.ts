import { randomBytes } from 'node:crypto'
import test from 'ava'
import { checkJoinProof, decodeToken, encodeToken, joinProof, type Token, tokenId } from '../../src/keys/token.js'

const token: Token = {
  fleet: '11'.repeat(16),
  rootKey: '22'.repeat(32),
  rootSealing: '33'.repeat(32),
  coordinator: { key: '44'.repeat(32), address: '[2001:db8::1]:7420' },
  role: 'appliance',
  secret: randomBytes(32),
  expires: 1_800_000_000_000,
}

test('a token survives the clipboard', (t) => {
  const text = encodeToken(token)
  t.regex(text, /^imager1\.[A-Za-z0-9_-]+$/)
  t.true(text.length < 300)
  t.deepEqual(decodeToken(`  ${text}\n`), token)
})

test('nonsense, a lost character and a typing error are told apart from a refusal', (t) => {
  const text = encodeToken(token)
  for (const wrong of ['', 'hello', 'imager1.', 'imager2.abc', text.slice(0, -1), text.slice(0, 40), `${text}AAAA`]) {
    t.throws(() => decodeToken(wrong), { code: 'WRONG_KEY' }, wrong)
  }
  const index = 60
  const typo = text.slice(0, index) + (text[index] === 'A' ? 'B' : 'A') + text.slice(index + 1)
  t.throws(() => decodeToken(typo), { code: 'WRONG_KEY', message: /typing error/ })
})

test('a proof holds for one secret, one TLS session and one host', (t) => {
  const exporter = randomBytes(32)
  const host = '55'.repeat(32)
  const proof = joinProof(token.secret, exporter, host)
  t.true(checkJoinProof(proof, token.secret, exporter, host))
  t.false(checkJoinProof(proof, randomBytes(32), exporter, host))
  t.false(checkJoinProof(proof, token.secret, randomBytes(32), host))
  t.false(checkJoinProof(proof, token.secret, exporter, '66'.repeat(32)))
  t.false(checkJoinProof(proof.subarray(1), token.secret, exporter, host))
  t.is(tokenId(token.secret).length, 32)
})
