/** What a restore would cost is said before, and how much of the network it may take is kept to. */
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { MiB } from '../../src/base/units.js'
import type { Estimate } from '../../src/jobs/restore/estimate.js'
import type { FilesReport } from '../../src/jobs/restore/files.js'
import type { SnapshotReport } from '../../src/jobs/snapshot/snapshot.js'
import { imager, lastLine, start, TestLab } from './lab.js'

const RATE = 4 * MiB

test.serial(
  '--limit holds for a snapshot, a restore and files; a dry run says what is to fetch and at which rate',
  async (t) => {
    const lab = await TestLab.up(t, 3)
    const state = ['--state', lab.lab.appliance.state]
    const disk = lab.makeDisk('disk.img', 24)
    const stored = await imager('snapshot', disk, '--limit', '8M', '--json', ...state)
    t.is(stored.code, 0, stored.stdout)
    const { seconds, storedBytes, newBytes } = lastLine<SnapshotReport>(stored)
    t.true(seconds > (0.9 * storedBytes) / (2 * RATE) - 0.5, `${storedBytes} bytes in ${seconds} s`)

    const target = lab.path('target.img')
    const dry = async (...more: string[]) => {
      const planned = await imager('restore', 'latest', '--to', target, '--dry-run', '--json', ...more, ...state)
      t.is(planned.code, 0, planned.stdout)
      return lastLine<Estimate>(planned)
    }
    const stated = await dry('--limit', '4M')
    t.like(stated, { rate: 'stated', bytesPerSecond: RATE, seconds: stated.fetchBytes / RATE })
    t.true(
      stated.fetchBytes > 0.8 * newBytes && stated.fetchBytes <= newBytes * 1.1,
      `${stated.fetchBytes} of ${newBytes}`,
    )
    const measured = await dry()
    t.is(measured.rate, 'measured')
    t.is(measured.fetchBytes, stated.fetchBytes)
    const text = await imager('restore', 'latest', '--to', target, '--dry-run', ...state)
    t.regex(text.stdout, /To fetch: [\d.]+ MB. About \d+(\.\d)? s at [\d.]+ [kMG]B\/s, measured just now\./)
    t.false(existsSync(target))

    const least = (bytes: number) => bytes / RATE - 0.5
    const report = await lab.restoreLatest(t, disk, 'fast.img')
    t.log(`${report.seconds} s without a limit, ${stated.seconds} s expected with one`)
    const slow = await imager('restore', 'latest', '--to', target, '--limit', '4M', '--json', ...state)
    t.is(slow.code, 0, slow.stdout)
    t.true(lastLine<{ seconds: number }>(slow).seconds > least(stated.fetchBytes))
    writeFileSync(lab.path('list'), '/0/large\n')
    const to = ['--files', lab.path('list'), '--to', lab.path('out')]
    const dryFiles = await imager('restore', 'latest', ...to, '--limit', '4M', '--dry-run', ...state)
    t.regex(dryFiles.stdout, /Would restore 1 file, 8\.4 MB, to .*\. About 2\.0 s at 4\.2 MB\/s, as --limit says\./)
    const files = await imager('restore', 'latest', ...to, '--limit', '4M', '--json', ...state)
    t.is(files.code, 0, files.stdout)
    t.true(lastLine<FilesReport>(files).seconds > least(8 * MiB))

    // Half way: what stands there, and what to do.
    const half = lab.path('half.img')
    const child = start(['restore', 'latest', '--to', half, '--limit', '2M', '--json', ...state])
    let stdout = ''
    child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
    const ended = once(child, 'close')
    while (!/"doneBytes":[1-9]/.test(stdout) && child.exitCode === null) await sleep(5)
    child.kill('SIGINT')
    t.deepEqual(await ended, [130, null])
    const { code, remedy } = lastLine<{ code: string; remedy: string }>({ code: 130, stdout, stderr: '' })
    t.is(code, 'INTERRUPTED')
    t.regex(remedy, /half\.img is partly written and of no use yet\. The same command goes on/)
    t.true((await lab.restoreLatest(t, disk, 'half.img')).resumed)

    for (const limit of ['0', '10K', 'fast']) {
      t.is((await imager('restore', 'latest', '--to', target, '--limit', limit, ...state)).code, 2, limit)
    }
  },
)
