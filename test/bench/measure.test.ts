import test from 'ava'
import { measure } from '../../bench/measure.js'

test('time, processor time and peak memory are those of the command', async (t) => {
  const script =
    'const b = Buffer.alloc(100e6, 1); const end = Date.now() + 200; while (Date.now() < end); console.log(b.length)'
  const run = await measure({ argv: [process.execPath, '-e', script] })
  t.is(run.stdout, '100000000\n')
  t.true(run.seconds >= 0.2 && run.seconds < 60, `${run.seconds} s`)
  t.true(run.cpuSeconds > 0.05, `${run.cpuSeconds} s`)
  t.true(run.peakBytes > 100e6 && run.peakBytes < 1e9, `${run.peakBytes} bytes`)
})

test('a command that fails says why', async (t) => {
  const error = await t.throwsAsync(measure({ argv: ['sh', '-c', 'echo no space >&2; exit 3'] }))
  t.regex(error.message, /exit code 3[\s\S]*no space/)
  await t.throwsAsync(measure({ argv: ['/nonexistent'] }), { message: /exit code 127/ })
})
