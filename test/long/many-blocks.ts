/**
 * A disk of more than 500,000 blocks that is made in seconds: an ext4 file system of 1 KiB blocks in whose bitmaps every second free
 * block is marked as in use. What belongs to no file is cut along the disk, so each is a block of its own.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, openSync, readSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { GiB } from '../../src/base/units.js'

const BLOCK_BYTES = 1024
/** One block's bitmap. */
const GROUP_BLOCKS = 8 * BLOCK_BYTES
const DESCRIPTOR_BYTES = 32
/** Groups that are filled; the rest of the disk stays a hole. */
const GROUPS = 160

/** Returns how many blocks were marked; nine of ten have content of their own. */
export function makeManyBlocks(path: string): number {
  writeFileSync(path, '')
  truncateSync(path, 4 * GiB)
  const plain = '^metadata_csum,^uninit_bg,^has_journal,^resize_inode,^64bit,^flex_bg'
  execFileSync('mkfs.ext4', ['-q', '-F', '-b', '1024', '-N', '4096', '-O', plain, path], { stdio: 'pipe' })
  const disk = openSync(path, 'r+')
  try {
    let marked = 0
    for (let group = 0; group < GROUPS; group++) marked += markGroup(disk, group)
    return marked
  } finally {
    closeSync(disk)
  }
}

/** Blocks 0 of a group of 1 KiB blocks is block 1 of the disk; descriptors follow the superblock (kernel, ext4 disk layout). */
function markGroup(disk: number, group: number): number {
  const descriptor = Buffer.alloc(DESCRIPTOR_BYTES)
  readSync(disk, descriptor, 0, DESCRIPTOR_BYTES, 2 * BLOCK_BYTES + group * DESCRIPTOR_BYTES)
  const bitmapAt = descriptor.readUInt32LE(0) * BLOCK_BYTES
  const bitmap = Buffer.alloc(BLOCK_BYTES)
  readSync(disk, bitmap, 0, BLOCK_BYTES, bitmapAt)
  let marked = 0
  for (const [at, byte] of bitmap.entries()) {
    if (byte !== 0) continue
    bitmap[at] = 0x55
    const eight = Buffer.alloc(8 * BLOCK_BYTES)
    for (const bit of [0, 2, 4, 6]) {
      const number = group * GROUP_BLOCKS + at * 8 + bit
      fill(eight.subarray(bit * BLOCK_BYTES, (bit + 1) * BLOCK_BYTES), number % 20 === 0 ? 7 : number)
      marked++
    }
    writeSync(disk, eight, 0, eight.length, (1 + group * GROUP_BLOCKS + at * 8) * BLOCK_BYTES)
  }
  writeSync(disk, bitmap, 0, BLOCK_BYTES, bitmapAt)
  return marked
}

function fill(block: Buffer, number: number): void {
  block.fill('block ')
  block.writeUInt32LE(number + 1)
}
