import { readFileSync } from 'node:fs'
import test from 'ava'
import * as v from 'valibot'
import { hasCode, ImagerError } from '../../src/base/errors.js'
import { toHex } from '../../src/base/ids.js'
import { openStatement, STATEMENT_BYTES, signStatement, statementKind } from '../../src/keys/statement.js'
import { Secret } from '../../src/native.js'

const Schema = v.strictObject({ text: v.string(), count: v.number() })
const golden = () => readFileSync(new URL('../../../fixtures/golden/statement-v1.bin', import.meta.url))
const goldenBody = { text: 'Bücher, 本', count: 7 }
const goldenWords = `${'abandon '.repeat(23)}art`

const signer = Secret.random()
const statement = () => signStatement('note', goldenBody, signer)

test('golden: these bytes are version 1, for ever', (t) => {
  const secret = Secret.fromWords(goldenWords)
  t.deepEqual(openStatement('note', Schema, golden()), { body: goldenBody, signer: toHex(secret.signingKey()) })
  t.deepEqual(signStatement('note', goldenBody, secret), golden())
})

test('what was signed opens, as a view into a larger buffer too', (t) => {
  const bytes = statement()
  const padded = Buffer.concat([Buffer.alloc(5), bytes, Buffer.alloc(3)])
  const view = padded.subarray(5, 5 + bytes.length)
  t.deepEqual(openStatement('note', Schema, view).body, goldenBody)
  t.is(openStatement('note', Schema, bytes).signer, toHex(signer.signingKey()))
  t.is(statementKind(bytes), 'note')
  t.is(statementKind(Buffer.from('IM')), undefined)
})

test('truncated at any length, or longer, it is refused', (t) => {
  const bytes = statement()
  for (let length = 0; length < bytes.length; length++) {
    t.throws(() => openStatement('note', Schema, bytes.subarray(0, length)), { instanceOf: ImagerError })
  }
  t.throws(() => openStatement('note', Schema, Buffer.concat([bytes, Buffer.alloc(1)])), { message: /lengths say/ })
})

test('any flipped bit is found, in every region', (t) => {
  const bytes = statement()
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = Buffer.from(bytes)
    flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
    const error = t.throws(() => openStatement('note', Schema, flipped), { instanceOf: ImagerError })
    if (!hasCode(error, 'CORRUPT', 'UNSUPPORTED', 'FORGED')) t.fail(`bit ${bit}: ${String(error)}`)
  }
})

test('an unknown version and unknown features are named', (t) => {
  const version = statement()
  version.writeUInt16LE(2, 4)
  t.throws(() => openStatement('note', Schema, version), { code: 'UNSUPPORTED', message: /version 2/ })
  const features = statement()
  features.writeUInt16LE(0x0140, 6)
  t.throws(() => openStatement('note', Schema, features), { code: 'UNSUPPORTED', message: /features 0x0140/ })
})

test('a statement of another kind is refused though its signature holds', (t) => {
  const error = t.throws(() => openStatement('grant', Schema, statement()), { code: 'FORGED' })
  t.regex(error?.message ?? '', /"note", not grant/)
})

test('another host cannot put its key in front of the signature', (t) => {
  const bytes = statement()
  Secret.random()
    .signingKey()
    .copy(bytes, 9 + 'note'.length)
  t.throws(() => openStatement('note', Schema, bytes), { code: 'FORGED' })
})

test('a signed body that is malformed is refused, with the place', (t) => {
  const extra = signStatement('note', { ...goldenBody, more: true }, signer)
  t.throws(() => openStatement('note', Schema, extra), { code: 'CORRUPT', message: /more/ })
  const wrong = signStatement('note', { text: 'a', count: 'seven' }, signer)
  t.throws(() => openStatement('note', Schema, wrong), { code: 'CORRUPT', message: /count/ })
})

test('nothing above the cap is signed or parsed', (t) => {
  t.throws(() => signStatement('note', { text: 'x'.repeat(STATEMENT_BYTES), count: 1 }, signer), { code: 'INVALID' })
  t.throws(() => openStatement('note', Schema, Buffer.alloc(STATEMENT_BYTES + 1)), { message: /over the cap/ })
})
