import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { testWhere } from '../machine.js'
import { lacksGuest, runGuest } from './guest.js'

const file = (path: string) => fileURLToPath(new URL(path, import.meta.url))

const guestTest = testWhere(lacksGuest('lvcreate', 'python3'))
guestTest('a logical volume in use is read from an LVM snapshot, which never stays', async (t) => {
  const variables = {
    MAIN: file('../../bin/imager.cjs'),
    WRITER: file('../../../test/e2e/busy-writer.py'),
    BUSY: file('../e2e/busy.js'),
  }
  const exports = Object.entries(variables).map(([name, value]) => `export ${name}='${value}'`)
  const script = [...exports, readFileSync(file('../../../test/uml/lvm-guest.sh'), 'utf8')].join('\n')
  const { code, output } = await runGuest({ script, disksMiB: [480], memoryMiB: 1024, timeoutMs: 480_000 })
  if (code !== 0) t.log(output)
  t.is(code, 0)
  t.is(output.match(/^ok: /gm)?.length, 5, output)
  t.regex(output, /"view":"LVM snapshot with room for \d+ MiB of changes \(office\/data\)"/)
  t.regex(output, /"view":"thin LVM snapshot \(office\/thin\)"/)
})
