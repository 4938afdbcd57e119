import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { lockCatalog } from '../../../src/catalog/schema.js'
import { lockPlace } from '../../../src/jobs/recover/heal.js'

test('a coordinator that looks at its damaged catalog for a moment keeps nobody from healing it; one that runs does', async (t) => {
  const state = mkdtempSync(join(tmpdir(), 'imager-heal-'))
  t.teardown(() => rmSync(state, { recursive: true }))
  const folder = join(state, 'catalog')
  mkdirSync(folder)
  const looking = lockCatalog(folder)
  t.truthy(looking)
  const healing = lockPlace(state)
  await sleep(200)
  looking?.release()
  const unlock = await healing
  t.is(lockCatalog(folder), undefined, 'it is locked now')
  await t.throwsAsync(lockPlace(state), { code: 'USAGE', message: /A coordinator runs/ })
  unlock()
  ;(await lockPlace(state))()
})
