import { spawn } from 'node:child_process'
import { once } from 'node:events'
import test from 'ava'
import { beside, measure } from '../../bench/measure.js'

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

const HOLD = 'const b = Buffer.alloc(100e6, 1); setTimeout(() => console.log(b.length), 500)'

test('the memory of processes that run together is theirs together', async (t) => {
  const { peakBytes } = await measure({
    argv: ['sh', '-c', '"$0" -e "$1" & "$0" -e "$1"; wait', process.execPath, HOLD],
  })
  t.true(peakBytes > 200e6 && peakBytes < 1e9, `${peakBytes} bytes`)
})

test('what other processes take meanwhile is counted apart', async (t) => {
  const busy = 'process.stdin.once("data", () => { const b = Buffer.alloc(100e6, 1); while (b.length); })'
  const other = spawn(process.execPath, ['-e', `console.log(1); ${busy}`], { stdio: ['pipe', 'pipe', 'inherit'] })
  try {
    await once(other.stdout, 'data')
    const [run, apart] = await beside([other.pid!], async () => {
      other.stdin.write('go')
      return measure({ argv: ['sleep', '2'] })
    })
    t.true(run.cpuSeconds < 1, `${run.cpuSeconds} s of sleep`)
    t.true(apart.cpuSeconds > 0.05, `${apart.cpuSeconds} s beside`)
    t.true(apart.peakBytes > 100e6 && apart.peakBytes < 1e9, `${apart.peakBytes} bytes beside`)
  } finally {
    other.kill('SIGKILL')
  }
})
