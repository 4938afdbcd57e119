/**
 * A snapshot of an LVM logical volume, for as long as it is read (lvcreate(8)). Making it suspends the volume, with which
 * its file system writes down everything, so that the snapshot is clean.
 *
 * Invariant: only what bears our tag is ever removed, and of that only what belongs to this process or to none that runs.
 */
import { randomBytes } from 'node:crypto'
import { ImagerError } from '../base/errors.js'
import { isAlive, markProcess } from '../base/process-mark.js'
import { MiB } from '../base/units.js'
import { command } from './command.js'

/** `imager:PROCESS:START:BOOT`, of the process that made it. */
const TAG = /^imager:(\d+):(\d+):([0-9a-f-]+)$/
/** Least size of the copy-on-write area: a snapshot that cannot hold a moment's writes is not worth making. */
const LEAST_BYTES = 8 * MiB
/** Share of the free space of the volume group that the snapshot may take: others may need some of it. */
const SHARE_OF_FREE = 0.8
/** Size of a copy-on-write area that cannot overflow, as a multiple of its origin's: all chunks, and their table. */
const TABLE_SHARE = 1.02
const FIELDS =
  'lv_name,vg_name,lv_path,lv_attr,lv_size,lv_tags,origin,pool_lv,segtype,vg_free,vg_extent_size,lv_device_open'

interface LogicalVolume {
  readonly name: string
  readonly group: string
  readonly path: string
  /** lvs(8): the fifth character is the state, `I` and `S` being a snapshot that overflowed. */
  readonly attributes: string
  readonly sizeBytes: number
  readonly tags: readonly string[]
  readonly origin: string
  readonly kind: string
  readonly freeBytes: number
  readonly extentBytes: number
  readonly open: boolean
}

export class LvmSnapshot {
  #closed = false

  private constructor(
    /** The device that is read. */
    readonly path: string,
    /** For the snapshot's record. */
    readonly how: string,
    private readonly name: string,
    private readonly origin: string,
  ) {}

  /** undefined where `path` is no logical volume that is in use. Throws IO where LVM refuses, with why. */
  static async of(path: string): Promise<LvmSnapshot | undefined> {
    const origin = await find(path)
    if (!origin) return undefined
    await removeLeftovers(origin)
    if (!origin.open) return undefined
    const name = `imager-${randomBytes(4).toString('hex')}`
    const full = `${origin.group}/${name}`
    const thin = origin.kind === 'thin'
    const sizeBytes = thin ? 0 : sizeOf((await find(path)) ?? origin)
    const room = thin ? ['--setactivationskip', 'n'] : ['--size', `${sizeBytes}b`]
    const common = ['--yes', '--quiet', '--snapshot', '--permission', 'r', '--name', name, '--addtag', ownTag()]
    await command('lvcreate', [...common, ...room, `${origin.group}/${origin.name}`])
    const what = thin ? 'thin LVM snapshot' : `LVM snapshot with room for ${Math.floor(sizeBytes / MiB)} MiB of changes`
    return new LvmSnapshot(`/dev/${full}`, `${what} (${origin.group}/${origin.name})`, full, path)
  }

  /** Throws VIEW_LOST where it overflowed: what was read then is worth nothing. */
  async confirm(): Promise<void> {
    const state = (await find(this.name))?.attributes[4] ?? '-'
    if (state === 'a') return
    const why = 'IS'.includes(state) ? 'more was written than it had room for' : `its state is ${state}`
    throw new ImagerError('VIEW_LOST', { path: this.origin, why })
  }

  /** It may be called twice. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await remove(this.name)
  }
}

/** A logical volume by its device or by `group/name`. */
async function find(name: string): Promise<LogicalVolume | undefined> {
  return (await list([name]))[0]
}

async function list(which: readonly string[]): Promise<LogicalVolume[]> {
  const form = ['--reportformat', 'json', '--units', 'b', '--nosuffix', '--options', FIELDS]
  const answer = JSON.parse(await command('lvs', [...form, ...which])) as { report: { lv: Record<string, string>[] }[] }
  return answer.report.flatMap(({ lv }) => lv).map(logicalVolume)
}

function logicalVolume(row: Record<string, string>): LogicalVolume {
  const text = (name: string) => row[name] ?? ''
  return {
    name: text('lv_name'),
    group: text('vg_name'),
    path: text('lv_path'),
    attributes: text('lv_attr'),
    sizeBytes: Number(text('lv_size')),
    tags: text('lv_tags').split(',').filter(Boolean),
    origin: text('origin'),
    kind: text('segtype'),
    freeBytes: Number(text('vg_free')),
    extentBytes: Number(text('vg_extent_size')),
    open: text('lv_device_open') === 'open',
  }
}

/** Room for as much as may change while it is read: all of the volume where the group has that much. */
function sizeOf({ sizeBytes, freeBytes, extentBytes, group }: LogicalVolume): number {
  const wanted = Math.min(sizeBytes * TABLE_SHARE + extentBytes, freeBytes * SHARE_OF_FREE)
  const whole = Math.floor(wanted / extentBytes) * extentBytes
  if (whole >= LEAST_BYTES) return whole
  throw new ImagerError('IO', { what: `the volume group ${group} has only ${freeBytes} bytes free for a snapshot` })
}

function ownTag(): string {
  const mark = markProcess(process.pid)
  if (!mark) throw new Error('this process runs')
  return `imager:${mark.pid}:${mark.started}:${mark.boot}`
}

/** What runs that were killed left behind. */
async function removeLeftovers({ group, name }: LogicalVolume): Promise<void> {
  for (const one of await list([group])) {
    const [, pid, started = '', boot = ''] = one.tags.map((tag) => TAG.exec(tag)).find(Boolean) ?? []
    if (pid === undefined || one.origin !== name) continue
    if (!isAlive({ pid: Number(pid), started, boot })) await remove(`${group}/${one.name}`)
  }
}

async function remove(name: string): Promise<void> {
  await command('lvremove', ['--yes', '--quiet', name])
}
