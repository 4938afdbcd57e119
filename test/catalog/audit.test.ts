/** What looks through a catalog must not take a commit that comes in between for damage. */
import { join } from 'node:path'
import test from 'ava'
import { findSchemaFlaw, useChecksums } from '../../src/catalog/checksums.js'
import { Sqlite } from '../../src/catalog/sqlite.js'
import { openPlain, temporaryFolder } from './harness.js'

test('the numbers given are looked at as of one moment, while the daemon goes on', (t) => {
  const folder = temporaryFolder()
  t.teardown(() => folder.remove())
  openPlain(folder.path).close()
  const path = join(folder.path, 'catalog', 'catalog.db')
  const [looking, writing] = [new Sqlite(path, { readonly: true }), new Sqlite(path)]
  t.teardown(() => [looking, writing].forEach((db) => void db.close()))
  useChecksums(writing, () => t.fail() as never)
  const write = () => writing.prepare(`INSERT INTO young (rows) VALUES (x'00')`).run()
  write()
  t.is(findSchemaFlaw(looking), undefined)
  const prepare = looking.prepare.bind(looking)
  let commits = 0
  looking.prepare = ((sql: string) => {
    if (/sqlite_sequence/.test(sql)) commits += write().changes
    return prepare(sql)
  }) as typeof prepare
  t.is(findSchemaFlaw(looking), undefined)
  t.is(commits, 1)
  looking.prepare = prepare
  writing.exec(`UPDATE sqlite_sequence SET seq = 9`)
  t.regex(findSchemaFlaw(looking) ?? '', /the last number given in the table young/)
})
