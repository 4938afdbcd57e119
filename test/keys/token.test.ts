import { randomBytes } from 'node:crypto'
import test from 'ava'
import { decodeToken, encodeToken, type Token, TokenKey, tokenId } from '../../src/keys/token.js'
import { verifySignature } from '../../src/native.js'

const token: Token = {
  fleet: '11'.repeat(16),
  rootKey: '22'.repeat(32),
  rootSealing: '33'.repeat(32),
  coordinator: { key: '44'.repeat(32), address: '[2001:db8::1]:7420' },
  role: 'appliance',
  secret: randomBytes(32),
  expires: 1_800_000_000_000,
  term: 3,
}

test('a token survives the clipboard', (t) => {
  const text = encodeToken(token)
  t.regex(text, /^imager1\.[A-Za-z0-9_-]+$/)
  t.true(text.length < 310)
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

test("a token's key is its secret's alone, the same each time, and signs what others verify", (t) => {
  const [key, again, other] = [token.secret, token.secret, randomBytes(32)].map((secret) => new TokenKey(secret))
  const [message, signed] = [Buffer.from('message'), key?.sign(Buffer.from('message')) ?? Buffer.alloc(0)]
  t.deepEqual(key?.signingKey(), again?.signingKey())
  t.true(verifySignature(key?.signingKey() ?? Buffer.alloc(32), message, signed))
  t.false(verifySignature(other?.signingKey() ?? Buffer.alloc(32), message, signed))
  t.is(tokenId(key?.signingKey() ?? Buffer.alloc(0)).length, 32)
})
