import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { isPlausible, openAddress, signAddress } from '../../src/keys/address.js'
import { AddressBook } from '../../src/keys/address-book.js'
import { Secret } from '../../src/native.js'
import { fleet, hostOf, otherFleet } from './fleet.js'

const identity = Secret.random()
const host = hostOf(identity)
const body = { fleet, host, sequence: 5, addresses: ['192.168.1.20:7421'] }

test('a host says where it is, and nobody else does', (t) => {
  t.deepEqual(openAddress(signAddress(body, identity), fleet), body)
  t.throws(() => openAddress(signAddress(body, Secret.random()), fleet), { code: 'FORGED', message: /by its host/ })
  t.throws(() => openAddress(signAddress(body, identity), otherFleet), { code: 'FORGED' })
  const many = { ...body, addresses: Array<string>(17).fill('10.0.0.1:1') }
  t.throws(() => openAddress(signAddress(many, identity), fleet), { code: 'CORRUPT' })
})

test('only where a host can be', (t) => {
  const good = ['127.0.0.1:1', '10.0.0.1:65535', '[2001:db8::1]:7420', '[::1]:7421', 'pc-1.example:7420', 'pc:1']
  for (const one of good) t.true(isPlausible(one), one)
  const bad = ['0.0.0.0:1', '0.1.2.3:1', '169.254.7.7:1', '224.0.0.1:1', '239.1.1.1:1', '255.255.255.255:1']
  bad.push('[::]:1', '[fe80::1]:1', '[fe80::1%eth0]:1', '[ff02::1]:1', '[::ffff:224.0.0.1]:1')
  bad.push('10.0.0.1:0', '10.0.0.1:65536', '10.0.0.1')
  for (const one of bad) t.false(isPlausible(one), one)
})

test('the same addresses are the same statement; new ones have a higher sequence, whatever the clock says', (t) => {
  const state = mkdtempSync(join(tmpdir(), 'imager-book-'))
  t.teardown(() => rmSync(state, { recursive: true, force: true }))
  const say = (address: string, now: number) => new AddressBook(state).own(fleet, host, [address], now, identity)
  const first = say('10.0.0.1:1', 1000)
  t.is(openAddress(first, fleet).sequence, 1000)
  t.deepEqual(say('10.0.0.1:1', 2000), first)
  t.is(openAddress(say('10.0.0.2:1', 3000), fleet).sequence, 3000)
  t.is(openAddress(say('10.0.0.3:1', 7), fleet).sequence, 3001, 'a clock that was set back')
})

test('a book keeps what was heard; a damaged one is empty', (t) => {
  const state = mkdtempSync(join(tmpdir(), 'imager-book-'))
  t.teardown(() => rmSync(state, { recursive: true, force: true }))
  const book = new AddressBook(state)
  book.learn([[host, ['10.0.0.1:1']]])
  book.learn([[host, []]])
  t.deepEqual(new AddressBook(state).of(host), ['10.0.0.1:1'])
  t.deepEqual(new AddressBook(state).of('00'), [])
  const path = join(state, 'addresses.json')
  const sound = readFileSync(path)
  for (let bit = 0; bit < sound.length * 8; bit++) {
    const flipped = Buffer.from(sound)
    flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7))
    writeFileSync(path, flipped)
    const heard = new AddressBook(state).of(host)
    t.true(heard.length === 0 || heard[0] === '10.0.0.1:1', `bit ${bit}: ${heard.join()}`)
  }
  writeFileSync(path, sound.subarray(0, 20))
  t.deepEqual(new AddressBook(state).of(host), [])
})

test('what a third host says parts nobody: the place where a host was reached last stays', (t) => {
  const state = mkdtempSync(join(tmpdir(), 'imager-book-'))
  t.teardown(() => rmSync(state, { recursive: true, force: true }))
  const book = new AddressBook(state)
  book.hear([[host, ['10.0.0.1:1']]])
  t.deepEqual(book.of(host), ['10.0.0.1:1'])
  for (let lie = 1; lie <= 3; lie++) book.hear([[host, Array.from({ length: 16 }, (_, at) => `10.${lie}.0.${at}:1`)]])
  t.is(book.of(host).length, 16)
  t.deepEqual([book.of(host)[0], book.of(host).at(-1)], ['10.3.0.0:1', '10.0.0.1:1'])
  book.reached(host, '10.3.0.2:1')
  t.is(book.of(host).at(-1), '10.3.0.2:1')
  book.hear([[host, ['10.0.0.9:1']]])
  t.deepEqual(new AddressBook(state).of(host), ['10.0.0.9:1', '10.3.0.2:1'])
  book.learn([[host, ['10.0.0.9:1']]])
  t.deepEqual(book.of(host), ['10.0.0.9:1'], 'what it says itself counts')
})
