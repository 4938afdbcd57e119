/** A process of its own that places and commits stripes as fast as it can until it is killed; see crash.test.ts. */
import { runName, stripeOf } from '../../src/stripes/names.js'
import { held, ids, openPlain, placement, recordsOf, TurnedClock } from './harness.js'

/** `run`: writer and run of the lease; `from`: the first number in it that is free. */
const [, , folder = '', lease = '', writer = '', run = '', from = ''] = process.argv
/** Every commit makes a segment, so that the kill meets writing, listing and merging of them. */
const catalog = openPlain(folder, new TurnedClock(), { youngRows: 100 })
const peers = (await catalog.hosts()).filter((row) => row.storage !== '').map((row) => row.host)
for (let number = Number(from); ; number++) {
  const stripe = stripeOf(catalog.names.number(runName(writer, run)), number)
  const request = placement(4, 2, peers, stripe)
  const content = ids(400)
  await catalog.place(lease, request)
  process.stdout.write(`placed ${stripe} ${content.toString('hex')}\n`)
  const { k, m, packBytes } = request
  await catalog.commit(lease, { stripe, k, m, packBytes, records: recordsOf(content), shards: held(request) })
  process.stdout.write(`committed ${stripe}\n`)
}
