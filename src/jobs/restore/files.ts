/**
 * `imager restore --files`: some files of a snapshot into a folder, as `DIR/<n>/<path>`. First a plan (`files-plan.ts`), with
 * everything that can be refused before a byte is written; then files under temporary names, links and nodes after all of
 * them, attributes of folders last. One file that cannot be had does not keep back the others: it is listed.
 */
import { lstatSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../../base/clock.js'
import { Exit, ImagerError, reason } from '../../base/errors.js'
import type { Hex } from '../../base/ids.js'
import { Slots } from '../../base/queue.js'
import { systemError } from '../../base/system.js'
import { Folder } from '../../disk/folder.js'
import { requireRoom } from '../../disk/target.js'
import { decompressUnit } from '../../native.js'
import { joinPath } from '../../retrieve/paths.js'
import { StreamReader } from '../../retrieve/stream.js'
import { tellDamage } from '../../retrieve/tell-damage.js'
import { Meter, type Report } from '../progress.js'
import { type Opened, openReader, type ReaderParts } from '../reader.js'
import { type DamagedShard, damagedShards } from './damaged.js'
import { FileWriter, looksRestored } from './file-writer.js'
import {
  type Failure,
  type FilesPlan,
  type PlannedFile,
  type PlannedFolder,
  planFiles,
  shownPath,
} from './files-plan.js'
import { Leftovers } from './leftovers.js'

const FOLDERS_AT_ONCE = 8
const FILES_AT_ONCE = 16
/** What no other file could escape either. */
const FATAL = ['ENOSPC', 'EDQUOT', 'EROFS', 'EMFILE', 'ENFILE', 'EXHAUSTED', 'COORDINATOR_UNREACHABLE', 'INTERRUPTED']
const EXISTING_SHOWN = 3

export interface FilesOptions {
  readonly snapshot: string
  /** A file of paths `/<n>/<path>`; `-` is stdin. */
  readonly files: string
  /** The paths are separated by zero bytes, not by line breaks. */
  readonly nul: boolean
  readonly to: string
  /** Replace files that exist. */
  readonly force: boolean
}

export interface FilesParts extends ReaderParts {
  readonly clock: Clock
  readonly report: Report
  readonly signal: AbortSignal
}

export interface FilesReport {
  readonly snapshot: Hex
  readonly target: string
  readonly files: number
  readonly bytes: number
  readonly seconds: number
  /** A run that was cut short went on. */
  readonly resumed: boolean
  readonly corrected: number
  readonly damaged: readonly DamagedShard[]
  readonly notes: readonly string[]
  readonly missing: readonly string[]
  readonly failed: readonly Failure[]
  /** Files that were written, with a marked pattern for so many bytes that the source did not give. */
  readonly unreadable: readonly { readonly path: string; readonly bytes: number }[]
  /** 0 where every path of the list was restored. */
  readonly exit: number
}

export interface RestoreFilesPlan extends FilesPlan {
  readonly opened: Opened
  readonly leftovers: Leftovers
  /** A run that was cut short goes on. */
  readonly resumed: boolean
}

/** Throws USAGE for an empty list, TARGET_NOT_EMPTY, TARGET_TOO_SMALL, TARGET_MISSING and what opening a snapshot throws. */
export async function planRestoreFiles(options: FilesOptions, parts: FilesParts): Promise<RestoreFilesPlan> {
  const { to, force, files } = options
  const paths = readList(files, options.nul)
  if (paths.length === 0) {
    const list = files === '-' ? 'The list on stdin' : `The list ${files}`
    throw new ImagerError('USAGE', { what: `${list} names no file and no folder`, verb: 'restore' })
  }
  const opened = await openReader(options.snapshot, parts, parts.signal)
  const plan = await planFiles(opened.reader, paths, parts.signal)
  const leftovers = new Leftovers(to, parts.home.host, opened.row.id, paths)
  const target = statSync(to, { throwIfNoEntry: false })
  const resumed = target?.isDirectory() ? withFolder(to, (folder) => leftovers.areIn(folder)) : false
  if (target && !force) await refuseExisting(plan, opened.reader, to, resumed)
  requireRoom(to, plan.bytes, 0)
  return { ...plan, opened, leftovers, resumed }
}

function withFolder<T>(path: string, task: (folder: Folder) => T): T {
  const folder = Folder.open(path)
  try {
    return task(folder)
  } finally {
    folder.close()
  }
}

export async function runRestoreFiles(
  plan: RestoreFilesPlan,
  options: FilesOptions,
  parts: FilesParts,
): Promise<FilesReport> {
  const { clock, report } = parts
  const started = clock.now()
  const { reader, row, damaged } = plan.opened
  const streams = new StreamReader(reader, decompressUnit)
  const meter = new Meter('restore', plan.bytes, clock, report)
  const { leftovers, resumed } = plan
  const writer = new FileWriter({ streams, meter, leftovers, resumed, force: options.force, signal: parts.signal })
  const run = new FilesRun(plan, writer, options.to, parts.signal)
  try {
    await run.all()
  } finally {
    await tellDamage(damaged, parts.catalog)
  }
  const failed = [...plan.failed, ...run.failed]
  const complete = plan.missing.length === 0 && failed.length === 0
  return {
    snapshot: row.id,
    target: options.to,
    files: run.files,
    bytes: writer.bytes,
    seconds: (clock.now() - started) / 1000,
    resumed,
    corrected: damaged.size,
    damaged: damagedShards(damaged, parts),
    notes: writer.notes(),
    missing: plan.missing,
    failed,
    unreadable: run.unreadable,
    exit: complete
      ? run.unreadable.length > 0
        ? Exit.sourceDamaged
        : Exit.done
      : run.notRestorable
        ? Exit.notRestorable
        : Exit.failed,
  }
}

function readList(path: string, nul: boolean): Buffer[] {
  const bytes = readFileSync(path === '-' ? 0 : path)
  const separator = nul ? 0 : 0x0a
  const paths: Buffer[] = []
  for (let from = 0; from < bytes.length; ) {
    const found = bytes.indexOf(separator, from)
    const end = found < 0 ? bytes.length : found
    if (end > from) paths.push(bytes.subarray(from, end))
    from = end + 1
  }
  return paths
}

/** What an earlier run of the same restore may have written does not count. */
async function refuseExisting(
  { folders }: FilesPlan,
  reader: Opened['reader'],
  to: string,
  resumed: boolean,
): Promise<void> {
  const existing: string[] = []
  for (const { volume, names, files } of folders) {
    const folder = Buffer.concat([Buffer.from(to), ...names.flatMap((name) => [Buffer.from('/'), name])])
    if (!lstatSync(folder, { throwIfNoEntry: false })) continue
    for (const { name, number } of files.values()) {
      const path = Buffer.concat([folder, Buffer.from('/'), name])
      if (!lstatSync(path, { throwIfNoEntry: false })) continue
      const row = resumed ? await reader.file(volume, number) : undefined
      if (!row || !looksRestored(path, row)) existing.push(path.toString('utf8'))
    }
  }
  if (existing.length === 0) return
  const more = existing.length - EXISTING_SHOWN
  const what = `${existing.slice(0, EXISTING_SHOWN).join(', ')}${more > 0 ? ` and ${more} more` : ''} would be overwritten`
  throw new ImagerError('TARGET_NOT_EMPTY', { path: to, what, loss: 'these files are replaced, all others stay' })
}

/** One restore of files: what was written so far, and what failed. */
class FilesRun {
  readonly failed: Failure[] = []
  readonly unreadable: { path: string; bytes: number }[] = []
  files = 0
  /** A file failed because too many hosts are missing. */
  notRestorable = false
  readonly #plan: RestoreFilesPlan
  readonly #writer: FileWriter
  readonly #root: Folder
  readonly #to: string
  readonly #signal: AbortSignal
  readonly #done = new Set<PlannedFile>()
  readonly #made = new Set<PlannedFolder>()

  constructor(plan: RestoreFilesPlan, writer: FileWriter, to: string, signal: AbortSignal) {
    this.#plan = plan
    this.#writer = writer
    this.#signal = signal
    this.#to = to
    this.#root = Folder.open(to)
  }

  async all(): Promise<void> {
    const { leftovers, folders } = this.#plan
    try {
      const madeBefore = leftovers.begin(this.#root)
      for (const folder of folders) await this.#try(folder, undefined, async () => this.#makeFolder(folder, madeBefore))
      await this.#eachFolder((file) => !file.link && file.kind === 'file')
      await this.#eachFolder((file) => !file.link && file.kind !== 'file')
      await this.#eachFolder((file) => file.link !== undefined)
      for (const folder of [...this.#made].reverse()) {
        await this.#try(folder, undefined, () =>
          this.#within(folder, async (at) => this.#writer.finishFolder(at, await this.#row(folder, folder.number))),
        )
      }
      leftovers.end(this.#root)
    } finally {
      this.#root.close()
    }
  }

  /** One that an earlier run made is as good as made now. */
  #makeFolder(folder: PlannedFolder, madeBefore: ReadonlySet<string>): void {
    const { leftovers } = this.#plan
    const name = folder.names.at(-1) as Buffer
    const path = joinPath(folder.volume, folder.names.slice(1)).toString('latin1')
    const parent = this.#root.descend(folder.names.slice(0, -1))
    try {
      if (!parent.find(name)) leftovers.making(this.#root, path)
      if (parent.make(name) || madeBefore.has(path)) this.#made.add(folder)
      if (!this.#plan.resumed) return
      const at = parent.descend([name])
      try {
        leftovers.sweep(at)
      } finally {
        at.close()
      }
    } finally {
      parent.close()
    }
  }

  /** The files of every folder for which `wanted`; after the first fatal failure no more are begun. */
  async #eachFolder(wanted: (file: PlannedFile) => boolean): Promise<void> {
    const folderSlots = new Slots(FOLDERS_AT_ONCE)
    const fileSlots = new Slots(FILES_AT_ONCE)
    let fatal: { error: unknown } | undefined
    const one = async (folder: PlannedFolder, at: Folder, file: PlannedFile) => {
      if (fatal) return
      await this.#try(folder, file, () => this.#write(folder, at, file)).catch((error: unknown) => {
        fatal ??= { error }
      })
    }
    const whole = async (folder: PlannedFolder) => {
      const files = [...folder.files.values()].filter(wanted).sort((a, b) => a.disk - b.disk)
      if (files.length === 0 || fatal) return
      const at = this.#open(folder, files)
      if (!at) return
      await Promise.all(files.map((file) => fileSlots.run(() => one(folder, at, file))))
      at.close()
    }
    await Promise.all(this.#plan.folders.map((folder) => folderSlots.run(() => whole(folder))))
    if (fatal) throw fatal.error
  }

  /** Undefined where it is no folder of the target, or reached through a link: then none of its files can be written. */
  #open(folder: PlannedFolder, files: readonly PlannedFile[]): Folder | undefined {
    try {
      return this.#root.descend(folder.names)
    } catch (error) {
      for (const file of files) this.#fail(folder, file, error)
      return undefined
    }
  }

  async #write(folder: PlannedFolder, at: Folder, file: PlannedFile): Promise<void> {
    const { link } = file
    if (!link) {
      const row = await this.#row(folder, file.number)
      if (await this.#writer.write(at, file, row)) this.#count(file)
      const bytes = this.#writer.unreadable.get(row)
      if (bytes) this.unreadable.push({ path: this.#shown(folder, file), bytes })
    } else if (this.#done.has(link.file)) {
      const row = await this.#row(link.folder, link.file.number)
      await this.#within(link.folder, async (first) => this.#writer.link(first, link.file.name, at, file.name, row))
      this.#count(file)
    } else {
      throw new ImagerError('IO', { what: `it is the same file as ${this.#shown(link.folder, link.file)}` })
    }
  }

  #count(file: PlannedFile): void {
    this.#done.add(file)
    this.files++
  }

  async #row(folder: PlannedFolder, number: number) {
    const row = await this.#plan.opened.reader.file(folder.volume, number)
    if (!row) throw new ImagerError('CORRUPT', { what: 'its record is missing in the snapshot' })
    return row
  }

  async #within(folder: PlannedFolder, task: (at: Folder) => Promise<void>): Promise<void> {
    const at = this.#root.descend(folder.names)
    try {
      await task(at)
    } finally {
      at.close()
    }
  }

  /** Lists a failure and goes on, unless nothing else could be written either. */
  async #try(folder: PlannedFolder, file: PlannedFile | undefined, task: () => Promise<void>): Promise<void> {
    try {
      this.#signal.throwIfAborted()
      await task()
    } catch (error) {
      this.#signal.throwIfAborted()
      const code = (error as { code?: unknown }).code
      if (typeof code !== 'string') throw error
      if (FATAL.includes(code)) throw systemError(error, join(this.#to, this.#shown(folder, file))) ?? error
      this.#fail(folder, file, error)
    }
  }

  #fail(folder: PlannedFolder, file: PlannedFile | undefined, error: unknown): void {
    if (error instanceof ImagerError && error.code === 'NOT_RESTORABLE') this.notRestorable = true
    this.failed.push({ path: this.#shown(folder, file), why: this.#why(error) })
  }

  #shown({ volume, names }: PlannedFolder, file: PlannedFile | undefined): string {
    return shownPath(volume, [...names.slice(1), ...(file ? [file.name] : [])])
  }

  /** Without the descriptors that Node puts into its sentences. */
  #why(error: unknown): string {
    const code = (error as { code?: unknown }).code
    if (code === 'ELOOP' || code === 'ENOTDIR') {
      return `in ${join(this.#to)} a symbolic link or a file stands where its folder belongs`
    }
    return reason(error).replace(/'\/proc\/self\/fd\/\d+\/([^']*)'/g, "'$1'")
  }
}
