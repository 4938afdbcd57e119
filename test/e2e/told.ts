/** What `imager status` says of a lab, and what it says to type. */
import type { ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { HEARTBEAT_MS } from '../../src/base/limits.js'
import { openDatabase } from '../../src/catalog/schema.js'
import type { StatusReport } from '../../src/fleet/status.js'
import { imager, lastLine, type TestLab } from './lab.js'

export async function status(lab: TestLab): Promise<StatusReport> {
  const outcome = await imager('status', '--json', '--state', lab.lab.coordinator.state)
  const report = lastLine<StatusReport>(outcome)
  const expected = report.safe ? 0 : 8
  if (outcome.code !== expected) throw new Error(`status ended ${outcome.code}: ${outcome.stdout}`)
  return report
}

export const codesOf = ({ problems }: StatusReport) => problems.map(({ code }) => code)

/** Asks for the status until it says what is waited for: peers tell of their store with each heartbeat. */
export async function until(lab: TestLab, codes: readonly string[]): Promise<StatusReport> {
  for (let patience = (3 * HEARTBEAT_MS) / 500; patience > 0; patience--) {
    const report = await status(lab)
    if (codesOf(report).join() === codes.join()) return report
    await sleep(500)
  }
  return status(lab)
}

/** Types what the first problem says, on the host that it is for; gives what was typed, and how it ended. */
export async function typeRemedy(lab: TestLab, { problems }: StatusReport): Promise<string> {
  const [, line] = /`imager ([^`]+)`/.exec(problems[0]?.remedy ?? '') ?? []
  if (line === undefined) return `nothing to type: ${problems[0]?.remedy}`
  const { appliance, coordinator } = lab.lab
  const words = line.split(' ')
  const { code } = await imager(...words, '--state', words[0] === 'snapshot' ? appliance.state : coordinator.state)
  return `${words[0]} ${code}`
}

/** As if they had been silent for long: 30 s are waited for nowhere. */
export function silence(lab: TestLab, names: readonly string[]): void {
  const db = openDatabase(join(lab.lab.coordinator.state, 'catalog', 'catalog.db'))
  for (const name of names) db.prepare('UPDATE host SET lastSeen = 1 WHERE name = ?').run(name)
  db.close()
}

export async function started(child: ChildProcess): Promise<void> {
  await new Promise((resolve) => child.stdout?.once('data', resolve))
}
