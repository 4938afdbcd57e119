/**
 * One error class, one table of codes. Callers switch on `code`; people read the sentence and what to do.
 * `docs/errors.md` lists the same codes, held equal by `test/base/errors.test.ts`. Secrets never enter `details`.
 */

/** Process exit codes, a contract of the command line. */
export const Exit = {
  done: 0,
  failed: 1,
  usage: 2,
  sourceDamaged: 3,
  belowTarget: 4,
  notRestorable: 5,
  damaged: 6,
  noStaticView: 7,
  notSafe: 8,
  notFound: 10,
  notAllowed: 12,
  interrupted: 130,
} as const

type Details = Record<string, string | number | boolean | null | readonly string[]>

interface Meaning {
  readonly exit: number
  readonly retryable: boolean
  /** What happened; `{name}` is filled from the details. */
  readonly sentence: string
  /** What the person can do. */
  readonly remedy: string
}

const meaning = (exit: number, sentence: string, remedy: string, retryable = false): Meaning => ({
  exit,
  retryable,
  sentence,
  remedy,
})

export const ERRORS = {
  // The addon's own six, and SYSTEM where a disk is full; `what` comes from there.
  IO: meaning(Exit.failed, '{what}', 'Look at the device and its cable; the system log may say more.', true),
  DENIED: meaning(
    Exit.notAllowed,
    '{what}',
    'Run it as root (`sudo`), or as the user whom the file belongs to; if you are root, look at its mode and its file system.',
  ),
  UNSUPPORTED: meaning(Exit.failed, '{what}', 'This version does not read that; a newer one may.'),
  CORRUPT: meaning(Exit.failed, '{what}', 'The bytes are damaged; another copy is needed.'),
  FORGED: meaning(Exit.failed, '{what}', 'The bytes were changed, or the key belongs to something else.'),
  INVALID: meaning(Exit.usage, '{what}', 'See `imager --help`.'),
  // Usage and state.
  SYSTEM: meaning(Exit.failed, '{what}', 'Check the path, its permissions, and the free space there.'),
  EXHAUSTED: meaning(
    Exit.failed,
    'This computer has reached a limit of its own: {what}',
    'No other host is at fault. Close other programs, or raise the limit: `ulimit -n`, of a service `LimitNOFILE=`.',
    true,
  ),
  ADDRESS_IN_USE: meaning(
    Exit.failed,
    'Something listens on {address} already',
    'Is the daemon running already? Else choose another address with --listen.',
  ),
  USAGE: meaning(Exit.usage, '{what}', 'See `imager {verb} --help`.'),
  NO_FLEET: meaning(
    Exit.notFound,
    'No fleet in {state}',
    'Run `imager init` there, or `imager join`, or name another folder with --state.',
  ),
  STATE_EXISTS: meaning(Exit.failed, '{state} already belongs to a fleet', 'Choose another folder with --state.'),
  WORDS_FILE: meaning(
    Exit.usage,
    '{file} exists already: it may hold the words of another fleet',
    'Name a file that does not exist.',
  ),
  SECRET_EXPOSED: meaning(
    Exit.notAllowed,
    '{file} is a secret, and others may read or change it (mode {mode})',
    'Run `chmod 600 {quoted}`. If others had the time to read it, found or join anew in another state folder.',
  ),
  NOT_ALLOWED: meaning(
    Exit.notAllowed,
    '{what}',
    'That takes the role `{role}`: use a host that has it, or `imager invite` on the coordinator.',
  ),
  NOT_ADMIN: meaning(
    Exit.notAllowed,
    '{what}',
    'List the admins with `imager admin list`; name the file with the key of one with --admin-key.',
  ),
  REMOVED: meaning(
    Exit.notAllowed,
    'The coordinator does not know this host any more: it was removed from the fleet',
    'To let it in again type `imager invite` on the coordinator, and here `imager join --state FOLDER` with a new folder. Else end its daemon and delete its store.',
  ),
  PLACE_TAKEN: meaning(
    Exit.notAllowed,
    'This host is no member any more: {heir} took its place, and has its backups',
    'If that was right, delete this state folder. Else type `imager invite --role appliance` on the coordinator, and here `imager join --state FOLDER` with a new folder.',
  ),
  STILL_ALIVE: meaning(
    Exit.failed,
    '{name} is there: it called the coordinator {ago} ago',
    'Only a host that is gone has its place taken. End what it runs and wait a minute; or say --even-if-alive: then it is refused from that moment on.',
  ),
  NAME_TAKEN: meaning(
    Exit.failed,
    'Another host is called {name} already',
    'Choose another name; `imager hosts` and `imager admin list` show those that are taken.',
  ),
  WRONG_KEY: meaning(
    Exit.notAllowed,
    '{what}',
    'A token works once, within an hour; `imager invite` on the coordinator makes another.',
  ),
  WRONG_WORDS: meaning(
    Exit.notAllowed,
    '{what}',
    'Compare the words with the paper, letter by letter and in their order; ask another peer if they are right.',
  ),
  KEYS_LOCKED: meaning(
    Exit.notAllowed,
    'This host holds no key to the snapshots of {appliance}{why}',
    'Type `{todo}`, with the file that holds the 24 words; with - instead of a file they are asked for. They are used for that one command.',
  ),
  OUTPUT_LOST: meaning(
    Exit.failed,
    'The output cannot be written: {why}',
    'Send it to where there is room, and run the same command again.',
  ),
  NO_WORKING_FOLDER: meaning(
    Exit.failed,
    'The folder in which this was started does not exist any more',
    'Go to another one (`cd`), and run it again.',
  ),
  INTERRUPTED: meaning(Exit.interrupted, 'Interrupted', 'Nothing is lost: run the same command again.'),
  BUSY: meaning(
    Exit.failed,
    'A run of {source} goes on already ({who})',
    'Wait for its end, or repeat with --wait: then this one begins when that one has ended.',
    true,
  ),
  // Source and target.
  SOURCE_MISSING: meaning(Exit.failed, 'The source {path} does not exist', 'Check the name with `lsblk`.'),
  SOURCE_UNREADABLE: meaning(
    Exit.failed,
    'The source {path} cannot be opened: {why}',
    'Name a disk, a partition or an image file that may be read. A disk takes root: run it again with `sudo`.',
  ),
  SOURCE_CHANGED: meaning(
    Exit.noStaticView,
    'The source {path} changed while it was read ({what})',
    'Unmount it or stop what writes to it, then run again.',
    true,
  ),
  NO_STATIC_VIEW: meaning(
    Exit.noStaticView,
    'No quiet moment on {path}: it was written to for {seconds} s',
    'Unmount it or stop what writes to it, then run again.',
    true,
  ),
  VIEW_REFUSED: meaning(
    Exit.noStaticView,
    'No {view} view of {path}: {why}',
    'Leave out --view, and imager takes the best that the source allows.',
  ),
  VIEW_LOST: meaning(
    Exit.noStaticView,
    'The LVM snapshot of {path} is lost: {why}',
    'Give the volume group more free space, or run it when less is written.',
    true,
  ),
  TARGET_TOO_SMALL: meaning(
    Exit.failed,
    'The target {path} has room for {targetBytes} bytes, {neededBytes} are needed',
    'Choose a larger disk, or free space on it.',
  ),
  TARGET_MOUNTED: meaning(
    Exit.failed,
    'The target {path} is in use ({use})',
    'Is it the right one? If so, end that use first (`umount`).',
  ),
  TARGET_NOT_EMPTY: meaning(
    Exit.failed,
    'The target {path} is not empty ({what})',
    'Is it the right one? If so, repeat with --force: {loss}.',
  ),
  NOT_CONFIRMED: meaning(Exit.failed, 'Nothing was written', 'Run it again and answer yes, or say --yes.'),
  TARGET_MISSING: meaning(Exit.failed, 'The target {path} cannot be used: {why}', 'Check the name with `lsblk`.'),
  NO_SUCH_SNAPSHOT: meaning(Exit.notFound, 'No snapshot {snapshot}', 'List them with `imager snapshots`.'),
  NO_SUCH_HOST: meaning(Exit.notFound, 'No host {host}', 'List them with `imager hosts`.'),
  NO_SUCH_VOLUME: meaning(Exit.notFound, 'No snapshot is of {name}', 'List what there is with `imager policy show`.'),
  NO_SUCH_FILE: meaning(Exit.failed, '{path} is not in snapshot {snapshot}', 'Browse with `imager ls {snapshot}`.'),
  NOT_MAPPED: meaning(
    Exit.failed,
    '{path} is not among the files of {source}',
    'List them with `imager map {source} --json`.',
  ),
  NOT_READ: meaning(
    Exit.sourceDamaged,
    '{length} bytes at {offset} of the source could not be read when the snapshot was taken',
    'No snapshot of that run holds them; an older one may. A restore fills them with a marked pattern.',
  ),
  NOT_STORED: meaning(
    Exit.sourceDamaged,
    '{length} bytes at {offset} of the source were left out of the snapshot on purpose',
    'This snapshot does not hold them. A restore of the whole disk fills them with a marked pattern.',
  ),
  // Peers and stripes.
  HOST_UNREACHABLE: meaning(
    Exit.failed,
    '{host} at {address} does not answer: {why}',
    'Is it switched on, and its daemon running? Another host may do as well: `imager hosts`.',
    true,
  ),
  HOST_REFUSED: meaning(Exit.failed, '{host} refused: {why}', 'See `imager hosts`.'),
  MEMBERSHIP_SHRINKS: meaning(
    Exit.notAllowed,
    'The coordinator signed a membership without {gone} of {peers} peers: so many do not leave at once',
    'If nobody removed them, the coordinator is in foreign hands: end it, and run `imager recover` on another host.',
  ),
  HOST_LIED: meaning(
    Exit.failed,
    '{host} answered with bytes that do not verify ({what})',
    "Run `imager check --read-data`; look at that host's disk.",
  ),
  PROTOCOL: meaning(Exit.failed, 'Bad message: {what}', 'Do both hosts run the same version of imager?'),
  HOST_FULL: meaning(
    Exit.failed,
    '{host} has no space left for imager: {why}',
    'Give it more with `--max-bytes`, or add a host.',
  ),
  TOO_MANY_KEYS: meaning(
    Exit.failed,
    '{host} takes no more new keys of host {owner}: {why}',
    'What it holds stays. A host needs a few keys in its life: one that makes more may be in wrong hands. Look at it, or take it out with `imager remove`.',
  ),
  HOST_UNFIT: meaning(
    Exit.failed,
    '{host} cannot hold new data now: {why}',
    'See `imager hosts`; another host is taken where there is one.',
    true,
  ),
  WHOLE_NEEDED: meaning(
    Exit.failed,
    'A reference bitmap is needed whole: {why}',
    'Nothing: imager sends it whole by itself then.',
  ),
  SHARD_MISSING: meaning(Exit.failed, '{host} does not hold shard {shard}', 'Run `imager check`.'),
  SHARD_CORRUPT: meaning(
    Exit.damaged,
    'Shard {shard} on {host} is damaged',
    'Its content is rebuilt from the others as long as enough are left.',
  ),
  TOO_FEW_HOSTS: meaning(
    Exit.failed,
    'Hosts fit to hold data: {fit}; needed: {needed} ({why})',
    'See `imager hosts`. Give who is full more with `--max-bytes`, add some with `imager invite`, or ask for less with --tolerate.',
  ),
  NOT_PLACED: meaning(
    Exit.failed,
    'Only {placed} of {total} hosts took what they were sent, {needed} are needed (the last said: {why})',
    'See `imager hosts`. Give who is full more with `--max-bytes`, or add some with `imager invite`; what was stored is reused by the next run.',
    true,
  ),
  NOT_RESTORABLE: meaning(Exit.notRestorable, '{what}. What is left is not enough', '{todo}.', true),
  WOULD_LOSE: meaning(Exit.notRestorable, '{what}', '{todo}.'),
  // Ours.
  COORDINATOR_UNREACHABLE: meaning(
    Exit.failed,
    'The coordinator at {address} does not answer: {why}',
    'Start it there with `imager coordinator`. If it is lost, rebuild it here: `imager recover --help`.',
    true,
  ),
  COORDINATOR_READ_ONLY: meaning(Exit.failed, 'The coordinator cannot write: {why}', '{todo}.', true),
  REPLACED: meaning(
    Exit.notAllowed,
    'This coordinator was replaced: {name} at {address} is the coordinator of its fleet (term {term})',
    'End it: its fleet goes on there. Servers and PCs follow by themselves.',
  ),
  COORDINATOR_MOVING: meaning(
    Exit.failed,
    'The coordinator is moving to {name}',
    'Wait: it goes on there by itself. If that host was switched off meanwhile, start `imager coordinator` on it.',
    true,
  ),
  NOT_STANDING_BY: meaning(
    Exit.failed,
    '{name} does not stand by to become the coordinator: {why}',
    'Type `imager coordinator` there, in its own state folder, leave it running, and type this again. Nothing has changed.',
  ),
  NOT_MOVED: meaning(
    Exit.failed,
    'The coordinator has not moved to {name}: {why}',
    'It goes on where it is. Once that is mended, type this again.',
  ),
  ROLLED_BACK: meaning(
    Exit.failed,
    'The coordinator shows an older state than this host has seen: checkpoint {shown}, and {seen} was seen',
    'It was set back. It catches up by itself from the PCs, with `imager status` saying how far it is; until then nothing new is stored.',
    true,
  ),
  STATE_DAMAGED: meaning(
    Exit.failed,
    '{path} is damaged: {why}',
    'On that host type `{todo}`, with the file that holds the 24 words. The damaged files are kept beside.',
  ),
  LEASE_ENDED: meaning(
    Exit.failed,
    'This snapshot run is over: {why}',
    'Run `imager snapshot` again; what was sent is kept and reused.',
  ),
  MOUNT_FAILED: meaning(
    Exit.failed,
    'Cannot mount on {path}: {why}',
    'The mount point must be an empty folder outside the state folder, and FUSE must be available.',
  ),
  NOT_MOUNTED: meaning(
    Exit.failed,
    'No snapshot is mounted on {path}',
    'List the mounts with `findmnt -t fuse.imager`.',
  ),
  LAB: meaning(Exit.failed, '{what}', '{todo}.'),
} as const satisfies Record<string, Meaning>

export type ErrorCode = keyof typeof ERRORS

export class ImagerError extends Error {
  override readonly name = 'ImagerError'

  constructor(
    readonly code: ErrorCode,
    readonly details: Details = {},
    options?: ErrorOptions,
  ) {
    super(fill(ERRORS[code].sentence, details), options)
  }

  get exit(): number {
    return ERRORS[this.code].exit
  }

  get retryable(): boolean {
    return ERRORS[this.code].retryable
  }

  get remedy(): string {
    const remedy = fill(ERRORS[this.code].remedy, this.details)
    return this.details.also === undefined ? remedy : `${remedy}\n${String(this.details.also)}`
  }

  /** The same failure, with what a person should know besides. */
  also(what: string): ImagerError {
    return new ImagerError(this.code, { ...this.details, also: what }, { cause: this })
  }
}

function fill(template: string, details: Details): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = details[name]
    return Array.isArray(value) ? value.join(', ') : String(value ?? name)
  })
}

/** For `catch`: is it one of ours, with this code? */
export function hasCode(error: unknown, ...codes: ErrorCode[]): error is ImagerError {
  return error instanceof ImagerError && codes.includes(error.code)
}

/** For `catch`: did another host fail? Neither this computer, nor a bug of ours. */
export function isOfHost(error: unknown): error is ImagerError {
  return error instanceof ImagerError && error.code !== 'EXHAUSTED' && error.code !== 'INTERRUPTED'
}

/** The message of anything thrown. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
