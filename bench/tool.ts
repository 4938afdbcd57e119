/** Whoever stores images here: imager, its neighbours, the floor. */
import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type Beside, beside, type Command, type Run } from './measure.js'
import { touchMemory } from './reader.js'
import { run, type Source } from './sources.js'

export interface Tool {
  readonly name: string
  readonly version: string
  /** Takes part where mounted files are backed up: stores folders, or knows the files of an image. */
  readonly files: boolean
  /** Processes that work for it and are counted apart: a lab's coordinator and peers. */
  readonly beside: readonly number[]
  /** Whether a backup of this label can be read, with nothing missing. */
  has(label: string): boolean
  /** Begins with an empty repository. */
  reset(): Promise<void>
  /** `label` names what is stored; `unread`: what looks unchanged need not be read. */
  backup(source: Source, label: string, unread?: boolean): Promise<Run & { readonly figures?: Figures }>
  /** Where it keeps what it stores. */
  readonly stored: string
  /** Into a new sparse file. */
  readonly restore: ((source: Source, label: string) => Promise<{ run: Run } & Restored>) | undefined
  /** How to mount in the foreground, and where in there the source is. */
  readonly mount: ((source: Source, label: string, mountpoint: string) => Mounting) | undefined
  /** Forgets the content that an earlier mount left in caches of its own. */
  forget(): void
  close(): Promise<void>
}

export type Figures = Readonly<Record<string, number>>

export interface Restored {
  readonly path: string
  /** What of the source it is: a tool of partitions brings one back. */
  readonly startBytes: number
  readonly endBytes: number
}

export interface Mounting {
  readonly command: Command
  readonly path: string
}

/** Does something with a tool and gives it as figures. */
export async function figuresOf(tool: Tool, work: () => Promise<Run>): Promise<Figures> {
  const [{ seconds, cpuSeconds, peakBytes }, apart] = await beside(tool.beside, work)
  const figures = { seconds, cpuSeconds, peakBytes }
  return tool.beside.length > 0 ? { ...figures, ...apartFigures(apart) } : figures
}

function apartFigures({ cpuSeconds, peakBytes }: Beside): Figures {
  return { besideCpuSeconds: cpuSeconds, besidePeakBytes: peakBytes }
}

/** Of all files, each by its length. */
export function storedBytes({ stored }: Tool): number {
  return filesOf(stored).reduce((sum, path) => sum + statSync(path).size, 0)
}

/**
 * Before each figure: nothing that came earlier is still being written, and the disk and all that the tool stores are in the
 * page cache, from which they fall while others are at work. So one reads as fast as another. Free memory is warm as well.
 */
export function settle({ stored }: Tool, { image }: Source): void {
  run('sync')
  const buffer = Buffer.alloc(4 << 20)
  for (const path of [image, ...filesOf(stored)]) {
    const file = openSync(path, 'r')
    while (readSync(file, buffer) > 0);
    closeSync(file)
  }
  touchMemory()
}

function filesOf(folder: string): string[] {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  return files.map((entry) => join(entry.parentPath, entry.name))
}
