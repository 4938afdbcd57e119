/** A process that mounts a small snapshot on argv[2], hangs every read of it, and says so, if argv[3] is `hang`, and waits. */
import { mountSnapshot, serveUntilUnmounted } from '../../src/mount/mount.js'
import { MemorySnapshot } from './memory.js'

const [, , path, how] = process.argv
const snapshot = new MemorySnapshot()
snapshot.file(snapshot.root, 'file', Buffer.alloc(1024 * 1024, 'x'))
const hang = () => {
  process.stdout.write('a read hangs\n')
  return new Promise<never>(() => undefined)
}
if (how === 'hang') snapshot.fault = hang
const mount = await mountSnapshot(snapshot, path as string, {
  name: 'served',
  decompress: () => {
    throw new Error('nothing is compressed here')
  },
})
const end = serveUntilUnmounted(mount)
process.stdout.write('ready\n')
await end
