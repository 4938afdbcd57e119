/**
 * What a restore that was cut short had done: a line for the target, and one for each section of the disk that is written and
 * durable. The next run of the same snapshot onto the same target goes on there, and needs no `--force`. In the state
 * folder; gone when the restore is done. A last line that was cut off is no line.
 */
import { appendFileSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Hex, toHex } from '../../base/ids.js'
import type { TargetFacts } from '../../disk/target.js'
import { hash } from '../../native.js'

export class RestoreJournal {
  readonly #path: string
  readonly #snapshot: Hex
  readonly #target: TargetFacts
  #done = new Set<number>()

  constructor(state: string, snapshot: Hex, target: TargetFacts) {
    this.#path = join(state, `restore-${toHex(hash(Buffer.from(target.path))).slice(0, 16)}.journal`)
    this.#snapshot = snapshot
    this.#target = target
  }

  /** Whether the last run onto this target was of the same snapshot, and was cut short. */
  resume(): boolean {
    const [first, ...sections] = this.#lines()
    if (first !== this.#first()) return false
    // A disk without a serial number may be another one under the same name: then all of it is looked at again.
    const { kind, title, path } = this.#target
    if (kind !== 'device' || title !== path) this.#done = new Set(sections.map(Number))
    return true
  }

  /** The target is blank, or as it was before a delta. */
  begin(): void {
    writeFileSync(this.#path, `${this.#first()}\n`, { mode: 0o600, flush: true })
  }

  has(section: number): boolean {
    return this.#done.has(section)
  }

  add(section: number): void {
    appendFileSync(this.#path, `${section}\n`, { flush: true })
  }

  end(): void {
    rmSync(this.#path, { force: true })
  }

  #first(): string {
    const { path, kind, title, sizeBytes } = this.#target
    const stats = statSync(path, { throwIfNoEntry: false })
    const identity = kind === 'device' ? [title, sizeBytes] : [stats?.dev, stats?.ino]
    return JSON.stringify([this.#snapshot, ...identity])
  }

  #lines(): string[] {
    try {
      return readFileSync(this.#path, 'utf8').split('\n').slice(0, -1)
    } catch {
      return []
    }
  }
}
