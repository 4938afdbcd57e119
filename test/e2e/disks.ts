/** Real disks for tests, made with the file systems' own tools, without mounting anything. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, mkdirSync, openSync, readSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { MiB } from '../../src/base/units.js'

/** Folders and files of all sizes, `megabytes` of them incompressible; the same seed makes the same bytes. */
export function makeFiles(folder: string, noise: readonly Buffer[]): void {
  mkdirSync(join(folder, 'deep/er'), { recursive: true })
  for (const [index, bytes] of noise.entries()) writeFileSync(join(folder, `noise-${index}`), bytes)
  for (let index = 0; index < 300; index++) {
    writeFileSync(join(folder, 'deep', `note ${index}`), `note ${index}\n`.repeat(1 + (index % 40)))
  }
  writeFileSync(join(folder, 'deep/er/empty'), '')
}

export function noise(pieces: number, bytes: number): Buffer[] {
  return Array.from({ length: pieces }, () => randomBytes(bytes))
}

export function makeExt4(path: string, files: string, sizeMiB: number, ...options: string[]): string {
  execFileSync('mkfs.ext4', ['-q', '-F', ...options, '-d', files, path, `${sizeMiB}M`], { stdio: 'pipe' })
  return path
}

/** GPT with an ext4 partition (files in inodes) and an NTFS one (files in MFT records). */
export function makeOfficeDisk(folder: string, name: string): string {
  const files = join(folder, `${name}.files`)
  makeFiles(files, noise(3, 2 * MiB))
  const ext4 = makeExt4(join(folder, `${name}.ext4`), files, 48, '-b', '4096', '-O', 'inline_data')
  const ntfs = join(folder, `${name}.ntfs`)
  writeFileSync(ntfs, '')
  truncateSync(ntfs, 24 * MiB)
  execFileSync('mkntfs', ['-q', '-Q', '-F', ntfs], { stdio: 'pipe' })
  for (const file of ['noise-0', 'deep/note 7', 'deep/note 39']) {
    execFileSync('ntfscp', ['-f', '-q', ntfs, join(files, file), file.replaceAll('/', '_')], { stdio: 'pipe' })
  }
  const disk = join(folder, name)
  writeFileSync(disk, '')
  truncateSync(disk, 74 * MiB)
  const table = 'label: gpt\nstart=1MiB, size=48MiB, type=L\nstart=49MiB, size=24MiB\n'
  execFileSync('sfdisk', ['-q', disk], { input: table, stdio: 'pipe' })
  for (const [part, seek] of [
    [ext4, 1],
    [ntfs, 49],
  ] as const) {
    execFileSync('dd', [`if=${part}`, `of=${disk}`, 'bs=1M', `seek=${seek}`, 'conv=notrunc,sparse', 'status=none'])
    rmSync(part)
  }
  rmSync(files, { recursive: true })
  return disk
}

/** Offset of the first byte that differs; undefined where both are the same, length included. */
export function firstDifference(a: string, b: string): number | undefined {
  const [sizeA, sizeB] = [statSync(a).size, statSync(b).size]
  const [left, right] = [openSync(a, 'r'), openSync(b, 'r')]
  try {
    const [one, two] = [Buffer.alloc(MiB), Buffer.alloc(MiB)]
    for (let at = 0; at < Math.max(sizeA, sizeB); at += MiB) {
      const [m, n] = [readSync(left, one, 0, MiB, at), readSync(right, two, 0, MiB, at)]
      if (!one.subarray(0, m).equals(two.subarray(0, n))) return at + one.findIndex((byte, i) => byte !== two[i])
    }
    return undefined
  } finally {
    closeSync(left)
    closeSync(right)
  }
}

/** Attaches a file to a loop device until the test ends. */
export function attachLoop(t: { teardown(work: () => void): void }, path: string): string {
  const device = execFileSync('losetup', ['--find', '--show', path], { stdio: ['ignore', 'pipe', 'pipe'] })
  const name = device.toString().trim()
  t.teardown(() => execFileSync('losetup', ['-d', name], { stdio: 'pipe' }))
  return name
}
