/** How many lost stripes are still looked for elsewhere, and from where on it is hosts that are missing. */
import test from 'ava'
import { STRIPE_PAGE } from '../../../src/coordinator/calls.js'
import { isElsewhere, MOST_LOST } from '../../../src/jobs/restore/elsewhere.js'
import { Locator } from '../../../src/retrieve/locator.js'
import type { OpenSnapshot } from '../../../src/retrieve/open.js'

/** An empty disk, of which nothing is in any stripe; counts how often its map was read. */
function emptyDisk() {
  const asked = { map: 0 }
  const nothing = () => Promise.reject(new Error('nothing is to be located'))
  const snapshot = {
    description: { sizeBytes: 0 },
    manifest: { locator: new Locator({ records: nothing, locate: nothing }) },
    tree: () => void asked.map++,
  } as unknown as OpenSnapshot
  return { snapshot, asked }
}

async function look(lost: number) {
  const { snapshot, asked } = emptyDisk()
  const parts = { catalog: { stripes: async () => [] }, signal: new AbortController().signal }
  const stripes = Array.from({ length: lost }, (_, at) => at + 1)
  return { found: await isElsewhere(snapshot, stripes, new Set(), parts), read: asked.map }
}

test('as many lost stripes as one question may except are looked for; of more the map is not even read', async (t) => {
  t.deepEqual(await look(MOST_LOST), { found: true, read: 1 })
  t.deepEqual(await look(MOST_LOST + 1), { found: false, read: 0 })
  t.true(MOST_LOST <= STRIPE_PAGE, 'a coordinator takes the question')
})
