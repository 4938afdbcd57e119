import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { watch } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import Database from 'better-sqlite3'
import { addPeers, hex, openPlain, temporaryFolder } from './harness.js'

test('kill -9 of a writer leaves every committed stripe whole and every other one unseen', async (t) => {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const setup = openPlain(folder.path)
  addPeers(setup, 6)
  const appliance = hex(32)
  const { lease, run } = await setup.begin({ appliance, volume: hex(16), source: 'x', label: '' })
  setup.close()

  const content = new Map<number, Buffer>()
  const committed = new Set<number>()
  let segments = 0
  const rounds = [
    [0, 1],
    [1, 3],
    [2, 0],
    [3, 7],
    [5, 19],
    [9, 2],
    [16, 5],
  ] as const
  for (const [round, [commits, changes]] of rounds.entries()) {
    const args = [folder.path, lease, appliance, run, String(round * 1000)]
    for (const line of await writeUntilKilled(args, commits, changes)) {
      const [word, stripe, ids] = line.split(' ')
      if (word === 'placed' && ids?.length === 400 * 64) content.set(Number(stripe), Buffer.from(ids, 'hex'))
      if (word === 'committed') committed.add(Number(stripe))
    }
    const catalog = openPlain(folder.path)
    for (const [stripe, ids] of content) {
      const births = await catalog.lookup(lease, ids, 2)
      const seen = births.filter((birth) => birth > 0n).length
      const [row] = await catalog.stripes([stripe])
      t.is(seen, row ? 400 : 0, `stripe ${stripe} is whole or unseen`)
      if (committed.has(stripe)) t.is(row?.shards.length, 6, `stripe ${stripe} was acknowledged`)
    }
    catalog.close()
    const db = new Database(join(folder.path, 'catalog', 'catalog.db'))
    t.is(db.pragma('integrity_check', { simple: true }), 'ok')
    segments = db.prepare<[], number>('SELECT max(n) FROM segment').pluck().get() ?? 0
    db.close()
  }
  t.true(committed.size >= 36)
  t.true(segments > 8, 'segments were made and merged')
})

/**
 * Lets it acknowledge so many commits, then change files of the catalog so many times more (segments made, listed, removed,
 * the journal written), and kills it in the middle; what it said.
 */
async function writeUntilKilled(args: readonly string[], commits: number, changes: number): Promise<string[]> {
  const [folder = ''] = args
  const writer = spawn(process.execPath, [join(import.meta.dirname, 'writer.js'), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  let left = changes
  const look = () => {
    if (text.split('committed').length > commits && left-- <= 0) writer.kill('SIGKILL')
  }
  const catalog = join(folder, 'catalog')
  const watchers = [catalog, join(catalog, 'signatures')].map((path) => watch(path, look))
  writer.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString()
    if (changes === 0) look()
  })
  await once(writer, 'close')
  for (const watcher of watchers) watcher.close()
  return text.split('\n')
}
