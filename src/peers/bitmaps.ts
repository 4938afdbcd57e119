/**
 * Reference bitmaps beside the heads. Nothing in them is signed: a peer keeps one only where it holds the head of that name, and
 * what comes out of the bitmap, applied to those that it holds already, has the hash that the head says. So whoever brings one can
 * bring no wrong one, and what builds on others can always be put together from this peer alone.
 */
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { expandBitmap, parentOf, wholeNeeded } from '../keys/bitmap.js'
import { readHead } from '../keys/head.js'
import { hash } from '../native.js'
import type { PeerParts } from './rights.js'

const APPLIANCE_DIGITS = 64

/**
 * Durable when it returns. Throws WHOLE_NEEDED where it builds on what is not here, or is wrong here; HOST_REFUSED without its head,
 * FORGED for another bitmap than the head's, CORRUPT, UNSUPPORTED, HOST_FULL.
 */
export async function keepBitmap({ trust, store }: PeerParts, name: string, bytes: Buffer): Promise<void> {
  const head = await store.document('head', name)
  if (!head) throw new ImagerError('HOST_REFUSED', { host: store.name, why: 'it holds no head of that bitmap' })
  const references = Buffer.from(readHead(head, trust.fleet).references, 'hex')
  const documentOf = (snapshot: Hex) => store.document('bitmap', name.slice(0, APPLIANCE_DIGITS) + snapshot)
  const isRight = async (one: Buffer) => hash((await expandBitmap(one, documentOf)).whole).equals(references)

  const held = await store.document('bitmap', name)
  // Another form of the same bitmap is as good; a damaged one gives way.
  if (held && (await isRight(held).catch(() => false))) return store.putDocument('bitmap', name, held, () => {})
  if (!(await isRight(bytes))) {
    // What it builds on may have rotted here.
    if (parentOf(bytes) !== undefined)
      throw wholeNeeded('with what is held here it gives another bitmap than its head says')
    throw new ImagerError('FORGED', { what: "A reference bitmap is not its head's" })
  }
  await store.requireRoom(bytes.length)
  await store.putDocument('bitmap', name, bytes, () => {})
}
