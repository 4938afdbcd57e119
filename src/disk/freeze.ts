/**
 * Freezing file systems (FIFREEZE) for some seconds, so that their tables on the disk are whole and hold still. Everybody
 * who writes waits meanwhile, so imager may never freeze what it, or the system, needs to go on.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { basename, isAbsolute } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { ImagerError } from '../base/errors.js'
import { freezableTypes } from '../native.js'
import { command } from './command.js'
import { fileSystemsUnder, type Mount, readMounts, unescapeOctal } from './mounts.js'
import type { SourceFacts } from './source.js'

/** The watchdog thaws after this, whatever happens, unless it is told another limit. */
export const FROZEN_MS = 10_000
const WATCHDOG = fileURLToPath(new URL('./watchdog.js', import.meta.url))

/** Mounts of the source that can be written, one for each file system. */
export function writableMounts({ mounts }: SourceFacts): Mount[] {
  const devices = new Map(mounts.filter(({ readOnly }) => !readOnly).map((mount) => [mount.device, mount]))
  return [...devices.values()]
}

/**
 * Nothing uses a source but file systems that take no writes. Of a FUSE one that says little: its process has the device
 * in its own hands.
 */
export function isReadOnly({ uses, mounts }: SourceFacts): boolean {
  return !uses.includes('swap') && mounts.every(({ readOnly, type }) => readOnly && !type.startsWith('fuse'))
}

/** Why the file systems on a source may not be frozen; undefined where they may. `needed`: more paths that must work. */
export function whyNotFrozen(source: SourceFacts, needed: readonly string[]): string | undefined {
  const mounts = writableMounts(source)
  if (mounts.length === 0) return 'no file system on it is mounted for writing'
  if (source.uses.includes('swap')) return 'it holds swap space in use'
  if (process.getuid?.() !== 0) return 'that takes root'
  const freezable = freezableTypes()
  const strange = mounts.find(({ type }) => !freezable.includes(type))
  if (strange) return `${strange.type} on ${strange.point} is not one that imager freezes`
  const all = readMounts()
  for (const [what, path] of [...neededBySystem(), ...needed.map((path) => [`imager's ${path}`, path] as const)]) {
    const under = fileSystemsUnder(path, all)
    if (!under) return `the file systems that are needed for ${what} cannot all be seen from here`
    const hit = mounts.find(({ device }) => under.has(device))
    if (hit) return `${hit.point} is needed for ${what}`
  }
  return undefined
}

/** What would stop, or stop imager, if it were frozen: what it is for, and a path on it. */
function neededBySystem(): (readonly [string, string])[] {
  const swaps = readFileSync('/proc/swaps', 'latin1').split('\n').slice(1)
  const swapFiles = swaps.map((line) => line.split(/\s+/)).filter(([, type]) => type === 'file')
  return [
    ['/', '/'],
    ['the running program', process.execPath],
    ['the running program', WATCHDOG],
    ...swapFiles.map(([path = '/']) => ['a swap file', unescapeOctal(path)] as const),
    ...[0, 1, 2].flatMap((fd) => ownFile(fd)).map((path) => ['the output of this command', path] as const),
    ...daemonFolders().map((path) => ['an imager daemon of this host', path] as const),
  ]
}

function ownFile(fd: number): string[] {
  try {
    const path = readlinkSync(`/proc/self/fd/${fd}`)
    return path.startsWith('/') && statSync(path).isFile() ? [path] : []
  } catch {
    return []
  }
}

/** Stores and state folders of the peers and coordinators that run here, as their command lines name them. */
export function daemonFolders(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
        if (!words.some((word) => /^(imager|main\.js)$/.test(basename(word)))) return []
        const values = words.flatMap((word, at) => {
          const [, name, value] = /^(--store|--state)(?:=(.*))?$/s.exec(word) ?? []
          return name ? [value ?? words[at + 1] ?? ''] : []
        })
        return values
          .filter(Boolean)
          .map((path) => (isAbsolute(path) ? path : `${readlinkSync(`/proc/${pid}/cwd`)}/${path}`))
      } catch {
        return [] // It ended meanwhile.
      }
    })
}

/** File systems that are frozen now. */
export class Freeze {
  private constructor(
    private readonly watchdog: ChildProcess,
    private readonly lines: AsyncIterator<string>,
    private readonly mounts: readonly Mount[],
    /** What is read must be read by then. */
    readonly until: number,
  ) {}

  /** For `limitMs` at most. Throws IO where one cannot be frozen; then none is. */
  static async begin(mounts: readonly Mount[], limitMs = FROZEN_MS): Promise<Freeze> {
    // So that the freeze itself has little to write, with everybody waiting.
    for (const { point } of mounts) await command('sync', ['-f', point])
    const until = performance.now() + limitMs
    const watchdog = spawn(process.execPath, [WATCHDOG, String(limitMs), ...mounts.map(({ point }) => point)], {
      detached: true, // A session of its own: what ends us does not end it.
      stdio: ['pipe', 'pipe', 'ignore'],
      cwd: '/',
    })
    watchdog.stdin.on('error', () => undefined)
    const lines = createInterface({ input: watchdog.stdout })[Symbol.asyncIterator]()
    const { value } = (await lines.next()) as { value?: string }
    const freeze = new Freeze(watchdog, lines, mounts, until)
    if (value === 'frozen') return freeze
    // Where it said why, it thawed again what it had frozen.
    if (value === undefined) await freeze.end()
    throw new ImagerError('IO', { what: value ?? 'the watchdog of the freeze ended' })
  }

  /** Thaws. False where the watchdog had to, or is gone: then nobody knows what was written meanwhile. */
  async end(): Promise<boolean> {
    this.watchdog.stdin?.end('thaw\n')
    const { value } = (await this.lines.next()) as { value?: string }
    if (this.watchdog.exitCode === null && this.watchdog.signalCode === null) await once(this.watchdog, 'exit')
    if (value === undefined)
      for (const { point } of this.mounts) await command('fsfreeze', ['-u', point]).catch(() => undefined)
    return value === 'thawed'
  }
}
