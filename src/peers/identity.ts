/** Which file system a folder is on, so that the space of peers that share a disk is counted once. */
import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { hostname } from 'node:os'

/** Device numbers repeat from machine to machine, so the running kernel's own id goes in. */
export async function fileSystemIdentity(folder: string): Promise<string> {
  const kernel = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(hostname)
  const { dev } = await stat(folder)
  return createHash('sha256').update(`${kernel.trim()} ${dev}`).digest('hex').slice(0, 32)
}
