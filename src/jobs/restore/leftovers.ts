/**
 * What a restore of files leaves in its target when it is killed: files under temporary names, and a mark with the folders that it
 * made. Their names say which restore it was (of this host, this snapshot and this list) and which process: the same command knows
 * them by that, removes them and goes on. Nobody else's file has such a name.
 *
 * The mark lies in the target itself: a restore of files needs no state folder that can be written. It holds the paths of folders
 * that were made, each ended by a zero byte: these get their attributes at the end, all others stay as they were found.
 */
import { appendFileSync, lstatSync, readdirSync, readFileSync } from 'node:fs'
import { ImagerError } from '../../base/errors.js'
import { type Hex, toHex } from '../../base/ids.js'
import { markProcess } from '../../base/process-mark.js'
import { MiB } from '../../base/units.js'
import type { Folder } from '../../disk/folder.js'
import { hash } from '../../native.js'

/** Two million folders with paths of a hundred bytes. */
const MARK_BYTES = 200 * MiB
const MARK = '0'

export class Leftovers {
  readonly #prefix: string
  readonly #own: string
  #next = 1

  /** `to`: the target as a person named it. */
  constructor(
    readonly to: string,
    host: Hex,
    snapshot: Hex,
    list: readonly Buffer[],
  ) {
    const which = Buffer.concat([Buffer.from(`${host} ${snapshot} `), ...list.flatMap((path) => [path, Buffer.of(0)])])
    this.#prefix = `.imager-${toHex(hash(which)).slice(0, 16)}-`
    this.#own = `${this.#prefix}${process.pid}-${markProcess(process.pid)?.started}-`
  }

  /** A name for what is not whole yet. */
  temporary(): Buffer {
    return Buffer.from(`${this.#own}${this.#next++}.part`)
  }

  /** Whether a run of this restore was cut short in that folder. Throws where one still runs there. */
  areIn(target: Folder): boolean {
    return this.#ended(target).some(isMark)
  }

  /** Removes what ended runs left in a folder. */
  sweep(folder: Folder): void {
    for (const name of this.#ended(folder)) if (!isMark(name)) folder.drop(Buffer.from(name))
  }

  /** Marks the target; gives the folders that ended runs had made, whose marks it replaces. */
  begin(target: Folder): Set<string> {
    const before = this.#ended(target).filter(isMark)
    const made = before.flatMap((name) => readMark(target, name))
    appendFileSync(this.#mark(target), made.map((path) => `${path}\0`).join(''), { encoding: 'latin1', mode: 0o600 })
    for (const name of before) target.drop(Buffer.from(name))
    return new Set(made)
  }

  /** That folder is about to be made. `path` in latin1. */
  making(target: Folder, path: string): void {
    appendFileSync(this.#mark(target), `${path}\0`, 'latin1')
  }

  end(target: Folder): void {
    target.drop(Buffer.from(`${this.#own}${MARK}.part`))
  }

  #mark(target: Folder): Buffer {
    return target.path(Buffer.from(`${this.#own}${MARK}.part`))
  }

  /** Names that processes which are gone have left. */
  #ended(folder: Folder): string[] {
    const names = readdirSync(folder.self, 'latin1').filter((name) => name.startsWith(this.#prefix))
    return names.filter((name) => {
      const [, pid, started] = /^(\d+)-(\d+)-\d+\.part$/.exec(name.slice(this.#prefix.length)) ?? []
      if (pid === undefined || name.startsWith(this.#own)) return false
      if (markProcess(Number(pid))?.started !== started) return true
      throw new ImagerError('TARGET_MOUNTED', { path: this.to, use: `process ${pid} restores the same files` })
    })
  }
}

function isMark(name: string): boolean {
  return name.endsWith(`-${MARK}.part`)
}

function readMark(target: Folder, name: string): string[] {
  const path = target.path(Buffer.from(name))
  const stats = lstatSync(path)
  if (!stats.isFile() || stats.size > MARK_BYTES) return []
  return readFileSync(path, 'latin1').split('\0').slice(0, -1)
}
