/**
 * What a newcomer asks, and the files whose names must answer. A question whose file is gone or renamed is asked anew: is the
 * new name as good an answer? Somebody who has not seen the code gets the list of files and the questions, no more.
 */
import { existsSync } from 'node:fs'
import test from 'ava'

const QUESTIONS: Record<string, readonly string[]> = {
  'Which host gets a shard?': ['src/stripes/place.ts'],
  'What is the format of a pack, a record, a page, a root key?': [
    'native/src/formats/pack.rs',
    'native/src/formats/record.rs',
    'native/src/formats/page.rs',
    'native/src/formats/root_key.rs',
    'docs/formats/README.md',
  ],
  'Where would I add HFS+?': ['native/src/fs/file_system.rs', 'native/src/fs/mod.rs', 'CONTRIBUTING.md'],
  'Where does a mount read become a network request?': [
    'native/src/mount/image.rs',
    'native/src/retrieve/disk_reader.rs',
    'native/src/retrieve/parts.rs',
    'src/retrieve/packs.ts',
  ],
  'Where is a lookup batched?': ['src/jobs/snapshot/pipeline.ts', 'native/src/snapshot/batch.rs'],
  'What happens on Ctrl-C?': ['src/cli/main.ts'],
  'Where does retention go, prune, repair?': ['src/catalog', 'src/jobs', 'docs/overview.md'],
  'When is a host away?': ['src/catalog/hosts.ts'],
  'Where are blocks cut, sealed?': ['native/src/map/cut.rs', 'native/src/formats/record.rs'],
  'When is a snapshot visible?': ['src/catalog/snapshots.ts'],
  'What does a peer do with a shard?': ['src/peers/store.ts'],
  'Where is a mounted target refused?': ['src/disk/target.ts'],
  'Where is a lost shard computed?': ['native/src/stripes/erasure.rs'],
  'Where does a restore write bytes?': ['native/src/restore/target.rs'],
  'Which file counts as unchanged?': ['native/src/snapshot/changed.rs'],
  'How does a restore go on?': ['src/jobs/restore/journal.ts'],
  'Who says NOT SAFE?': ['src/fleet/status.ts', 'src/cli/commands/status.ts'],
  'What if a parser panics?': ['native/src/disk/sandbox.rs'],
}

for (const [question, answers] of Object.entries(QUESTIONS)) {
  test(question, (t) => {
    t.deepEqual(
      answers.filter((path) => !existsSync(path)),
      [],
    )
  })
}
