/** The other tools, each with its defaults unless a comment says why not. A further one is one more object at the end. */
import { join } from 'node:path'
import type { Contender } from './contenders.js'
import type { Command } from './measure.js'
import type { Source } from './sources.js'

/** The whole image. */
const whole = ({ sizeBytes }: Source, path: string) => ({ path, startBytes: 0, endBytes: sizeBytes })

/** A file name under a folder, as tools show it that keep whole paths. */
const under = (folder: string, source: Source) => join(folder, source.path)

const restic = (repository: string, ...args: string[]): Command => ({
  argv: ['restic', '--repo', repository, '--cache-dir', `${repository}.cache`, '--quiet', ...args],
  env: { RESTIC_PASSWORD: 'measured' },
})

const RESTIC: Contender = {
  name: 'restic',
  version: ['restic', 'version'],
  oldest: '0.15',
  files: true,
  create: (repository) => restic(repository, 'init'),
  backup: (repository, { path }, label, unread) =>
    restic(repository, 'backup', '--tag', label, ...(unread ? [] : ['--force']), path),
  restore: (repository, label, folder) =>
    restic(repository, 'restore', 'latest', '--tag', label, '--sparse', '--target', folder),
  restored: (source, folder) => whole(source, under(folder, source)),
  mount: (repository, label, mountpoint) => restic(repository, 'mount', '--tag', label, mountpoint),
  mounted: (source, label, mountpoint) => under(join(mountpoint, 'tags', label, 'latest'), source),
}

const borg = (repository: string, ...args: string[]): Command => ({
  argv: ['borg', ...args],
  env: { BORG_PASSPHRASE: 'measured', BORG_BASE_DIR: `${repository}.cache`, BORG_REPO: repository },
})

const BORG: Contender = {
  name: 'borg',
  version: ['borg', '--version'],
  oldest: '1.2',
  files: true,
  create: (repository) => borg(repository, 'init', '--encryption', 'repokey-blake2'),
  backup: (repository, { path }, label, unread) =>
    borg(repository, 'create', ...(unread ? [] : ['--files-cache', 'disabled']), `::${label}`, path),
  restore: (repository, label, folder) => ({
    ...borg(repository, 'extract', '--sparse', `::${label}`),
    cwd: folder,
  }),
  restored: (source, folder) => whole(source, under(folder, source)),
  mount: (repository, label, mountpoint) => borg(repository, 'mount', '--foreground', `::${label}`, mountpoint),
  mounted: (source, _, mountpoint) => under(mountpoint, source),
}

const kopia = (repository: string, ...args: string[]): Command => ({
  argv: ['kopia', '--config-file', `${repository}.cache/config`, '--log-dir', `${repository}.cache/log`, ...args],
  env: { KOPIA_PASSWORD: 'measured', KOPIA_CHECK_FOR_UPDATES: 'false' },
})

/** Its default does not compress. It wants folders: an image is alone in one. */
const KOPIA: Contender = {
  name: 'kopia',
  version: ['kopia', '--version'],
  files: true,
  create: (repository) => {
    const cache = ['--cache-directory', `${repository}.cache/content`]
    const create = kopia(repository, 'repository', 'create', 'filesystem', '--path', repository, ...cache)
    const policy = kopia(repository, 'policy', 'set', '--global', '--compression', 'zstd-fastest')
    const script = `${create.argv.map(quoted).join(' ')} && ${policy.argv.map(quoted).join(' ')}`
    return { ...create, argv: ['sh', '-c', script] }
  },
  backup: (repository, { folder }, _, unread) => {
    const force = unread ? [] : ['--force-hash=100']
    return kopia(repository, 'snapshot', 'create', '--json', '--no-progress', ...force, folder)
  },
  handle: (stdout) => (JSON.parse(stdout.slice(stdout.indexOf('{'))) as { rootEntry: { obj: string } }).rootEntry.obj,
  restore: (repository, object, folder) =>
    kopia(repository, 'restore', '--write-sparse-files', '--no-progress', object, folder),
  restored: (source, folder) => whole(source, join(folder, inside(source))),
  mount: (repository, object, mountpoint) => kopia(repository, 'mount', object, mountpoint),
  mounted: (source, _, mountpoint) => join(mountpoint, inside(source)),
  caches: (repository) => [`${repository}.cache/content`],
}

const quoted = (word: string) => `'${word}'`
const inside = (source: Source) => source.path.slice(source.folder.length)

const desync = (verb: string, repository: string, label: string, ...args: string[]): Command => ({
  argv: [
    'desync',
    verb,
    '--store',
    join(repository, 'store'),
    ...args.slice(0, -1),
    index(repository, label),
    ...args.slice(-1),
  ],
})
const index = (repository: string, label: string) => join(repository, `${label}.caibx`)

/** Two at once, as there are cores; its default is ten. */
const DESYNC: Contender = {
  name: 'desync',
  version: ['desync', '--help'],
  files: false,
  create: (repository) => ({ argv: ['mkdir', join(repository, 'store')] }),
  backup: (repository, { image }, label) => desync('make', repository, label, '--concurrency', '2', image),
  restore: (repository, label, folder) =>
    desync('extract', repository, label, '--concurrency', '2', join(folder, 'image')),
  restored: (source, folder) => whole(source, join(folder, 'image')),
  mount: (repository, label, mountpoint) => desync('mount-index', repository, label, mountpoint),
  mounted: (_, label, mountpoint) => join(mountpoint, label),
}

/** Words after the script are its $1, $2, ... */
const shell = (script: string, ...args: string[]): Command => ({ argv: ['sh', '-ec', script, 'sh', ...args] })
const packed = (repository: string, label: string) => join(repository, `${label}.zst`)

/** The whole image, holes included, without memory of the last one. */
const DD: Contender = {
  name: 'dd + zstd',
  version: ['zstd', '--version'],
  oldest: '1.4',
  files: false,
  backup: (repository, { image }, label) =>
    shell('dd if="$1" bs=1M status=none | zstd -q -1 -T2 -o "$2"', image, packed(repository, label)),
  restore: (repository, label, folder) =>
    shell('zstd -q -d --sparse "$1" -o "$2"', packed(repository, label), join(folder, 'image')),
  restored: (source, folder) => whole(source, join(folder, 'image')),
}

/** The used blocks of the one partition. */
const PARTCLONE: Contender = {
  name: 'partclone + zstd',
  version: ['partclone.ext4', '-v'],
  oldest: '0.3',
  files: false,
  backup: (repository, { partition }, label) =>
    shell(
      'partclone.ext4 -q -c -L "$3.log" -s "$1" -o - | zstd -q -1 -T2 -o "$2"',
      partition,
      packed(repository, label),
      `${repository}.cache/${label}`,
    ),
  restore: (repository, label, folder) =>
    shell(
      'zstd -q -d -c "$1" | partclone.restore -q -C -W -L "$2.log" -s - -o "$2"',
      packed(repository, label),
      join(folder, 'image'),
    ),
  restored: ({ startBytes, endBytes }, folder) => ({ path: join(folder, 'image'), startBytes, endBytes }),
}

export const NEIGHBOURS: readonly Contender[] = [RESTIC, BORG, KOPIA, DESYNC, DD, PARTCLONE]

const FLOOR_PROGRAM = 'native/target/release/examples/floor'

/** The bare steps (native/examples/floor.rs); restores nothing. */
export const FLOOR_CONTENDER: Contender = {
  name: 'floor',
  version: ['test', '-x', FLOOR_PROGRAM],
  files: false,
  backup: (repository, { image }) => ({ argv: [FLOOR_PROGRAM, image, repository] }),
}
