/**
 * What this machine lacks for a test: each gives a reason, or undefined where nothing lacks. Asked when tests are defined, so
 * that one that cannot run is reported as skipped, with its reason, and never as passed.
 */
import { execFileSync } from 'node:child_process'
import { accessSync, constants, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type TestFn } from 'ava'

const FOLDERS = (process.env.PATH ?? '').split(':')

/** `test.serial` where nothing lacks; else it skips, and the title names the first thing that lacks. */
export function testWhere(...lacking: readonly (string | undefined)[]): TestFn {
  const reason = lacking.find((one) => one !== undefined)
  if (reason === undefined) return test.serial as TestFn
  const skip = (title: string) => test.skip(`${title} (skipped: ${reason})`, (t) => t.fail())
  return skip as unknown as TestFn
}

export function lacksRoot(): string | undefined {
  return process.getuid?.() === 0 ? undefined : 'not root'
}

export function lacksTools(...tools: readonly string[]): string | undefined {
  const absent = tools.filter((tool) => !FOLDERS.some((folder) => isProgram(join(folder, tool))))
  return absent.length === 0 ? undefined : `${absent.join(', ')} not installed`
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** A container's root may not mount. */
export function lacksMounts(): string | undefined {
  return lacksRoot() ?? (tries(mountOnce) ? undefined : 'nothing can be mounted')
}

export function lacksLoopDevices(): string | undefined {
  return lacksRoot() ?? lacksTools('losetup') ?? (tries(attachOnce) ? undefined : 'no loop devices')
}

/** Loop devices, and the kernel's own driver of a file system. */
export function lacksFileSystem(type: 'btrfs' | 'ext4' | 'xfs'): string | undefined {
  const lacking = lacksLoopDevices() ?? lacksMounts()
  if (lacking !== undefined || isKnown(type)) return lacking
  tries(() => execFileSync('modprobe', [`fs-${type}`], { stdio: 'pipe' }))
  return isKnown(type) ? undefined : `no ${type} in this kernel`
}

export function lacksFuse(): string | undefined {
  return existsSync('/dev/fuse') ? lacksMounts() : 'no /dev/fuse'
}

function isKnown(type: string): boolean {
  return readFileSync('/proc/filesystems', 'latin1').split('\n').includes(`\t${type}`)
}

function tries(work: (folder: string) => void): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'imager-machine-'))
  try {
    work(folder)
    return true
  } catch {
    return false
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function mountOnce(folder: string): void {
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', folder], { stdio: 'pipe' })
  execFileSync('umount', [folder], { stdio: 'pipe' })
}

function attachOnce(folder: string): void {
  const image = join(folder, 'image')
  writeFileSync(image, Buffer.alloc(4096))
  const device = execFileSync('losetup', ['--find', '--show', image], { stdio: 'pipe' }).toString().trim()
  execFileSync('losetup', ['--detach', device], { stdio: 'pipe' })
}
