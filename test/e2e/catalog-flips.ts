/**
 * One bit flipped in the state folder of a real coordinator, again and again: then a snapshot is taken and restored. Either all
 * is well, or what is printed says a line to type, and after that everything restores.
 */
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { type Coordinator, problems, startCoordinator, typeRemedy } from './coordinator.js'
import { firstDifference } from './disks.js'
import { imager, type Outcome, type TestLab } from './lab.js'

export type Flipped = { readonly file: string; readonly byte: number; readonly bit: number } & (
  | { readonly kind: 'right' }
  | { readonly kind: 'healed'; readonly said: string }
  | { readonly kind: 'WRONG'; readonly what: string }
)

export class Flipper {
  #coordinator: Coordinator | undefined

  constructor(
    private readonly lab: TestLab,
    private readonly disk: string,
    private readonly random: () => number,
  ) {}

  /** The lab's own coordinator must have ended. */
  async flip(): Promise<Flipped> {
    await this.end()
    const { file, byte, bit } = this.#draw()
    const outcome = await this.#tryAll()
    return { file, byte, bit, ...outcome }
  }

  /** As the power does it, or as a person does. */
  async end(): Promise<void> {
    const coordinator = this.#coordinator
    this.#coordinator = undefined
    if (!coordinator || coordinator.child.exitCode !== null) return
    if (this.random() < 0.5) return coordinator.kill()
    const ended = new Promise((resolve) => coordinator.child.once('exit', resolve))
    coordinator.child.kill('SIGTERM')
    await ended
  }

  #draw() {
    const { state } = this.lab.lab.coordinator
    const files = readdirSync(state, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !entry.parentPath.includes('/damaged-') && !entry.name.endsWith('-shm'))
      .map((entry) => relative(state, join(entry.parentPath, entry.name)))
      .filter((name) => statSync(join(state, name)).size > 0)
      .sort()
    const main = files.filter((name) => name.includes('catalog.db'))
    const among = this.random() < 0.7 ? main : files
    const file = among[Math.floor(this.random() * among.length)] as string
    const path = join(state, file)
    const bytes = readFileSync(path)
    const [byte, bit] = [Math.floor(this.random() * bytes.length), Math.floor(this.random() * 8)]
    bytes[byte] = (bytes[byte] as number) ^ (1 << bit)
    writeFileSync(path, bytes)
    return { file, byte, bit }
  }

  async #tryAll(): Promise<{ kind: 'right' } | { kind: 'healed'; said: string } | { kind: 'WRONG'; what: string }> {
    const isReady = await this.#start()
    const failed = isReady ? await this.#use() : { code: 1, stdout: '', stderr: this.#coordinator?.said() ?? '' }
    if (failed === undefined) return { kind: 'right' }
    const said = await this.#remedyIn(failed)
    if (said === undefined) return { kind: 'WRONG', what: `nothing to type: ${failed.stdout}${failed.stderr}` }
    const typed = await typeRemedy(this.lab, said)
    if (typed.code !== 0)
      return { kind: 'WRONG', what: `${failed.stdout}${failed.stderr} typed ${said}: ${typed.stdout}${typed.stderr}` }
    if (!isReady && !(await this.#start())) return { kind: 'WRONG', what: `healed, but ${this.#coordinator?.said()}` }
    const still = await this.#useSoon()
    const words = `; the coordinator: ${this.#coordinator?.said()}`
    return still
      ? { kind: 'WRONG', what: `healed, but ${still.stdout}${still.stderr}${words}` }
      : { kind: 'healed', said }
  }

  async #start(): Promise<boolean> {
    this.#coordinator = startCoordinator(this.lab)
    return this.#coordinator.ready
  }

  /** A snapshot, and what comes back of it; undefined where all is well. */
  async #use(): Promise<Outcome | undefined> {
    const { state } = this.lab.lab.appliance
    const stored = await imager('snapshot', this.disk, '--state', state, '--json')
    if (stored.code !== 0) return stored
    const target = this.lab.path('flipped.img')
    rmSync(target, { force: true })
    const restored = await imager('restore', 'latest', '--to', target, '--state', state, '--json')
    if (restored.code !== 0) return restored
    const difference = firstDifference(this.disk, target)
    return difference === undefined
      ? undefined
      : { code: 1, stdout: `another disk came back: ${difference}`, stderr: '' }
  }

  /** A coordinator that runs takes up the new catalog within two seconds. */
  async #useSoon(): Promise<Outcome | undefined> {
    let last: Outcome | undefined
    for (const end = Date.now() + 20_000; Date.now() < end; ) {
      last = await this.#use()
      if (last === undefined || last.stdout.startsWith('another disk')) return last
    }
    return last
  }

  /** In what failed, or in what `status` says. */
  async #remedyIn({ stdout, stderr }: Outcome): Promise<string | undefined> {
    if (stdout.startsWith('another disk')) return undefined
    const own = /`imager recover [^`]+`/.exec(stdout + stderr)?.[0]
    return (
      own ?? (await problems(this.lab)).map(({ remedy }) => /`imager recover [^`]+`/.exec(remedy)?.[0]).find(Boolean)
    )
  }
}
