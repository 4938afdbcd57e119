/** What every long run has in common: it is called, it cleans up, and it writes down what it found. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import type { Ground } from '../e2e/lab.js'

/** What a run found: `failures` says in a sentence each what is wrong. */
export interface Findings {
  readonly failures: readonly string[]
}

/** Runs `work`, and writes `test/results/NAME.json` in the current folder. */
export async function runLong(name: string, work: (ground: Ground) => Promise<Findings>): Promise<void> {
  const undone: (() => void | Promise<void>)[] = []
  const started = Date.now()
  try {
    const found = await work({
      is(actual, expected, message) {
        if (!isDeepStrictEqual(actual, expected))
          throw new Error(`${String(actual)}, not ${String(expected)}: ${message}`)
        return true
      },
      teardown: (task) => void undone.push(task),
    })
    const report = { run: name, commit: commit(), date: new Date(started).toISOString().slice(0, 10) }
    const seconds = Math.round((Date.now() - started) / 1000)
    mkdirSync('test/results', { recursive: true })
    writeFileSync(`test/results/${name}.json`, `${JSON.stringify({ ...report, seconds, ...found }, undefined, 2)}\n`)
    process.stdout.write(`${found.failures.length} failures; see test/results/${name}.json\n`)
    for (const failure of found.failures) process.stdout.write(`${failure}\n`)
    process.exitCode = found.failures.length > 0 ? 1 : 0
  } finally {
    for (const task of undone.reverse()) await task()
  }
}

/** With a plus where something is not committed. */
function commit(): string {
  const git = (...args: string[]) => execFileSync('git', args, { encoding: 'utf8' }).trim()
  return `${git('rev-parse', 'HEAD')}${git('status', '--porcelain', '--untracked-files=no') === '' ? '' : '+'}`
}
