/** A snapshot that can be asked (`SnapshotReader`): its disk (./disk.ts) and its files (./files.ts). */
import type { BodyHandle, DiskReaderHandle } from '../native.js'
import { Disk } from './disk.js'
import { Files } from './files.js'
import type { OpenSnapshot } from './open.js'
import type { Child, FileRow, SnapshotReader, SnapshotVolume } from './reader.js'

export class StoredSnapshot implements SnapshotReader {
  readonly sizeBytes: number
  readonly timeMs: number
  readonly volumes: readonly SnapshotVolume[]
  readonly #disk: Disk
  readonly #files: Files

  constructor(snapshot: OpenSnapshot) {
    this.#disk = new Disk(snapshot)
    this.#files = new Files(snapshot)
    const { sizeBytes, timeMs, volumes } = snapshot.description
    this.sizeBytes = sizeBytes
    this.timeMs = timeMs
    this.volumes = volumes.map(({ index, name, start, length, pieces, fileSystem, root }) => {
      const ranges = pieces?.map(([from, bytes]) => ({ start: from, length: bytes }))
      const volume = { index, startBytes: start, lengthBytes: length, fileSystem, rootNumber: root }
      return { ...volume, ...(ranges && { pieces: ranges }), ...(name !== undefined && { name }) }
    })
  }

  get diskReader(): DiskReaderHandle {
    return this.#disk.reader
  }

  readDisk(offset: number, length: number, signal?: AbortSignal): Promise<BodyHandle> {
    return this.#disk.read(offset, length, signal)
  }

  prefetch(offset: number, length: number): Promise<void> {
    return this.#disk.prefetch(offset, Math.min(length, this.sizeBytes - offset))
  }

  learn(): AsyncGenerator<void> {
    return this.#disk.learn(this.sizeBytes)
  }

  file(volume: number, number: number): Promise<FileRow | undefined> {
    return this.#files.file(volume, number)
  }

  attributes(volume: number, numbers: readonly number[]): Promise<(Buffer | Error | undefined)[]> {
    return this.#files.attributes(volume, numbers)
  }

  child(volume: number, parent: number, name: Buffer): Promise<number | undefined> {
    return this.#files.child(volume, parent, name)
  }

  children(volume: number, parent: number, after: Buffer | null, limit: number): Promise<Child[]> {
    return this.#files.children(volume, parent, after, limit)
  }
}
