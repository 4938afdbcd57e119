/**
 * What there is to know of another tool: how to tell that it is installed, how to make a repository, back up, get back,
 * mount. bench/neighbours.ts has them, one object each; `Neighbour` makes a tool of one.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type Command, measure, type Run } from './measure.js'
import type { Source } from './sources.js'
import type { Restored, Tool } from './tool.js'

export interface Contender {
  readonly name: string
  /** What prints its version. */
  readonly version: readonly string[]
  /** The oldest one that knows the options used here; without it any will do, and need not say which it is. */
  readonly oldest?: string
  /** Backs up folders too. */
  readonly files: boolean
  readonly create?: (repository: string) => Command
  readonly backup: (repository: string, source: Source, label: string, unread: boolean) => Command
  /** What names a backup later, out of what it printed; else its label does. */
  readonly handle?: (stdout: string) => string
  /** Into an empty folder; `restored` says where it is then. */
  readonly restore?: (repository: string, handle: string, folder: string) => Command
  readonly restored?: (source: Source, folder: string) => Restored
  readonly mount?: (repository: string, handle: string, mountpoint: string) => Command
  readonly mounted?: (source: Source, handle: string, mountpoint: string) => string
  /** Folders of content that a mount may have left. */
  readonly caches?: (repository: string) => readonly string[]
}

export class Neighbour implements Tool {
  readonly name: string
  readonly files: boolean
  readonly beside: readonly number[] = []
  readonly #handles = new Map<string, string>()
  readonly #repository: string
  readonly #contender: Contender

  constructor(
    contender: Contender,
    readonly version: string,
    work: string,
  ) {
    this.#contender = contender
    this.name = contender.name
    this.files = contender.files
    this.#repository = join(work, contender.name.replaceAll(/\W+/g, '-'))
  }

  has(label: string): boolean {
    return this.#handles.has(label)
  }

  async reset(): Promise<void> {
    for (const folder of [this.#repository, `${this.#repository}.cache`]) {
      rmSync(folder, { recursive: true, force: true })
      mkdirSync(folder, { recursive: true })
    }
    this.#handles.clear()
    if (this.#contender.create) await measure(this.#contender.create(this.#repository))
  }

  async backup(source: Source, label: string, unread = false): Promise<Run> {
    const run = await measure(this.#contender.backup(this.#repository, source, label, unread))
    this.#handles.set(label, this.#contender.handle?.(run.stdout) ?? label)
    return run
  }

  get stored(): string {
    return this.#repository
  }

  get restore(): Tool['restore'] {
    const { restore, restored } = this.#contender
    if (!restore || !restored) return undefined
    return async (source, label) => {
      const folder = `${this.#repository}.restored`
      rmSync(folder, { recursive: true, force: true })
      mkdirSync(folder)
      const run = await measure(restore(this.#repository, this.#handles.get(label)!, folder))
      return { run, ...restored(source, folder) }
    }
  }

  get mount(): Tool['mount'] {
    const { mount, mounted } = this.#contender
    if (!mount || !mounted) return undefined
    return (source, label, mountpoint) => {
      const handle = this.#handles.get(label)!
      const command = mount(this.#repository, handle, mountpoint)
      return { command, path: mounted(source, handle, mountpoint) }
    }
  }

  forget(): void {
    for (const cache of this.#contender.caches?.(this.#repository) ?? []) {
      if (existsSync(cache)) rmSync(cache, { recursive: true })
    }
  }

  async close(): Promise<void> {}
}

/** The version of a contender that is installed and not too old. */
export function versionOf({ version, oldest }: Contender): string | undefined {
  const [command = '', ...args] = version
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  const found = /\d+(\.\d+)+/.exec(`${stdout ?? ''}${stderr ?? ''}`)?.[0]
  if (oldest === undefined) return status === 0 ? (found ?? '') : undefined
  return found && isAtLeast(found, oldest) ? found : undefined
}

/** `0.18.0` is at least `0.15`; `0.9` is not. */
export function isAtLeast(version: string, oldest: string): boolean {
  return version.localeCompare(oldest, 'en', { numeric: true }) >= 0
}
