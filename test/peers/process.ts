/** A peer as a process of its own, for tests that kill it: `node process.js FOLDER MEMBERSHIP KEY FLEET ROOTKEY`. */
import { readFileSync } from 'node:fs'
import { systemClock } from '../../src/base/clock.js'
import { tlsIdentity } from '../../src/keys/certificate.js'
import { openMembership } from '../../src/keys/membership.js'
import { Secret } from '../../src/native.js'
import { Peers } from '../../src/peers/pool.js'
import { servePeer } from '../../src/peers/server.js'
import { ShardStore } from '../../src/peers/store.js'
import { Witness } from '../../src/peers/witness.js'

const [folder = '', members = '', key = '', fleet = '', rootKey = ''] = process.argv.slice(2)
const membership = openMembership(readFileSync(members), fleet, rootKey)
const secret = Secret.load(key)
const tls = tlsIdentity(secret)
const trust = { fleet, rootKey, membership: () => membership, watchMembership: () => {} }
const store = await ShardStore.open({ folder, keepFree: 0, name: 'pc-1' })
const { address } = await servePeer({
  tls,
  listen: '127.0.0.1:0',
  host: tls.host,
  secret,
  trust,
  store,
  clock: systemClock,
  witness: await Witness.open({ folder, trust, secret, clock: systemClock, store }),
  others: new Peers(tls, () => [], systemClock),
  adopt: () => {},
})
process.stdout.write(`${address}\n`)
// For bench/carry.ts: microseconds of processor time so far.
process.on('message', () => {
  const { user, system } = process.cpuUsage()
  process.send?.(user + system)
})
