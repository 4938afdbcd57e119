/** The disks that are measured on, where every tool finds them: alone in a folder, as a loop device, and as files. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Source {
  /** What is backed up: an image, or a folder of files. */
  readonly path: string
  /** The image behind it, for comparing. */
  readonly image: string
  /** A folder that holds nothing but the image. */
  readonly folder: string
  /** The first partition as a block device. */
  readonly partition: string
  /** Where that lies in the image. */
  readonly startBytes: number
  readonly endBytes: number
  readonly sizeBytes: number
}

const NAMES = ['A1', 'A2', 'A1b'] as const
export type Name = (typeof NAMES)[number]

export class Sources {
  readonly #images = new Map<Name, Source>()
  readonly #undo: (() => void)[] = []
  readonly #work: string

  private constructor(work: string) {
    this.#work = work
  }

  /** Needs root: binds, loop devices. */
  static open(corpus: string, work: string): Sources {
    const sources = new Sources(work)
    try {
      for (const name of NAMES) sources.#add(name, join(corpus, `${name}.img`))
    } catch (error) {
      sources.close()
      throw error
    }
    return sources
  }

  get(name: Name): Source {
    return this.#images.get(name)!
  }

  #add(name: Name, original: string): void {
    if (!existsSync(original)) throw new Error(`There is no ${original}; bench/make-corpus.sh makes it.`)
    const folder = join(this.#work, 'sources', name)
    const path = join(folder, `${name}.img`)
    mkdirSync(folder, { recursive: true })
    writeFileSync(path, '')
    run('mount', '-o', 'bind,ro', original, path)
    this.#undo.push(() => run('umount', path))
    const table = JSON.parse(run('sfdisk', '--json', path)) as {
      partitiontable: { partitions: { start: number; size: number }[] }
    }
    const { start, size } = table.partitiontable.partitions[0]!
    const span = ['--offset', String(start * 512), '--sizelimit', String(size * 512)]
    const partition = run('losetup', '--find', '--show', '--read-only', ...span, path)
    this.#undo.push(() => run('losetup', '--detach', partition))
    const [startBytes, endBytes, sizeBytes] = [start * 512, (start + size) * 512, statSync(path).size]
    this.#images.set(name, { path, image: path, folder, partition, startBytes, endBytes, sizeBytes })
  }

  /** The files of its first partition, always in the same folder, which `withFiles` fills. */
  filesOf(name: Name): Source {
    const folder = join(this.#work, 'sources', 'files')
    return { ...this.get(name), path: folder, folder }
  }

  async withFiles<T>(name: Name, work: (files: Source) => Promise<T>): Promise<T> {
    const source = this.filesOf(name)
    mkdirSync(source.folder, { recursive: true })
    run('mount', '-o', 'ro', source.partition, source.folder)
    try {
      return await work(source)
    } finally {
      run('umount', source.folder)
    }
  }

  close(): void {
    for (const undo of this.#undo.splice(0).reverse()) undo()
  }
}

/** Short commands whose time nobody counts; gives what they print. */
export function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr || error?.message}`)
  return stdout.trim()
}
