/**
 * What SQLite would pass over in its own files, looked at before it opens them. A header that says the wrong thing has it read
 * the file another way; a log (`-wal`) with a damaged frame it takes as ended there, and so loses what was committed later.
 * Pure. https://www.sqlite.org/fileformat2.html
 *
 *   database header                          log header, 32 bytes            frame, 24 bytes and a page
 *   0   16  "SQLite format 3", zero          0   4  magic 0x377f0682 or 83   0   4  page
 *   16  2   page size                        8   4  page size                4   4  pages after it, in the last of a commit
 *   18  1   write version, 2: with a log     16  8  salts                    8   8  salts, as in the header
 *   19  1   read version, 2: with a log      24  8  checksum of the above    16  8  checksum of the first 8 bytes and the page,
 *   56  4   encoding, 1: UTF-8                                                      begun with that of the frame before
 */
const MAGIC = 'SQLite format 3\0'
const PAGE_SIZE = 4096
const LOG_HEADER_BYTES = 32
const FRAME_HEADER_BYTES = 24
const FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_SIZE
export const HEADER_BYTES = 100

/** `header`: the first 100 bytes of a file. As long as that is one page, all else is in the log, the encoding too. */
export function headerFlaw(header: Buffer, sizeBytes: number): string | undefined {
  if (header.length < HEADER_BYTES || header.toString('latin1', 0, 16) !== MAGIC) return 'this is no database'
  const isRight =
    header.readUInt16BE(16) === PAGE_SIZE &&
    (header.readUInt16BE(18) === 0x0202 || header.readUInt16BE(18) === 0x0101) &&
    header.readUInt32BE(20) === 0x00402020 &&
    (header.readUInt32BE(56) === 1 || sizeBytes === PAGE_SIZE)
  return isRight ? undefined : 'its header is damaged'
}

type Sum = readonly [number, number]

/**
 * A log ends in the middle of a commit where the power was cut, and that is no flaw; one is a frame that does not verify and is
 * followed by a later commit.
 */
export function logFlaw(log: Buffer): string | undefined {
  if (log.length < LOG_HEADER_BYTES + FRAME_BYTES) return undefined
  const header = log.subarray(0, LOG_HEADER_BYTES)
  const isBig = header.readUInt32BE(0) === 0x377f0683
  const sum = checksum([0, 0], log, 0, 24, isBig)
  const isHeader = (isBig || header.readUInt32BE(0) === 0x377f0682) && isSum(sum, log, 24)
  if (!isHeader)
    return log.subarray(0, LOG_HEADER_BYTES + FRAME_BYTES).some((byte) => byte !== 0)
      ? 'its header is damaged'
      : undefined
  if (header.readUInt32BE(8) !== PAGE_SIZE) return 'its pages are of another size'
  let isBroken = false
  let commits = 0
  for (let at = LOG_HEADER_BYTES; at + FRAME_BYTES <= log.length; at += FRAME_BYTES) {
    const before = at === LOG_HEADER_BYTES ? 24 : at - FRAME_BYTES + 16
    const begun: Sum = [log.readUInt32BE(before), log.readUInt32BE(before + 4)]
    const first = checksum(begun, log, at, 8, isBig)
    const isCurrent = log.compare(header, 16, 24, at + 8, at + 16) === 0
    const verifies = isCurrent && isSum(checksum(first, log, at + FRAME_HEADER_BYTES, PAGE_SIZE, isBig), log, at + 16)
    if (verifies && isBroken && commits > 0) return `the commit at byte ${at} follows damaged ones`
    if (!verifies) isBroken = true
    if (isBroken && isCurrent && log.readUInt32BE(at + 4) > 0) commits++
  }
  return undefined
}

function isSum([a, b]: Sum, log: Buffer, at: number): boolean {
  return log.readUInt32BE(at) === a && log.readUInt32BE(at + 4) === b
}

function checksum([a, b]: Sum, bytes: Buffer, from: number, length: number, isBig: boolean): Sum {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let at = from; at < from + length; at += 8) {
    a = (a + view.getUint32(at, !isBig) + b) >>> 0
    b = (b + view.getUint32(at + 4, !isBig) + a) >>> 0
  }
  return [a, b]
}
