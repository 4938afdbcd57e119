/** What a scenario is, and what it leaves behind: figures by tool and step, as many values as there were runs. */
import type { Name, Sources } from './sources.js'
import type { Tool } from './tool.js'

export interface Context {
  /** Not there for scenarios that need no disk. */
  readonly sources: Sources
  /** A folder for whatever is made; removed at the end. */
  readonly work: string
  readonly runs: number
  readonly tools: readonly Tool[]
  readonly measured: Measured
  tell(what: string): void
}

export interface Scenario {
  readonly name: string
  /** Where it is not so many runs that alternate. */
  readonly how?: string
  readonly tables: readonly Table[]
  run(context: Context): Promise<void>
}

/** One table of docs/performance.md: a row a tool, a column a figure. */
export interface Table {
  readonly title: string
  readonly columns: readonly Column[]
}

export interface Column {
  readonly heading: string
  readonly step: string
  readonly figure: string
  /** What one of the shown unit is. */
  readonly unit: number
  readonly digits: number
  /** What is better; without it the column is compared with nobody. */
  readonly better?: 'less' | 'more'
  /** Its name in the chart, where it is shown there. */
  readonly chart?: string
}

export interface Row {
  readonly tool: string
  readonly step: string
  readonly figures: Record<string, number[]>
}

export const IMAGER = 'imager'
export const FLOOR = 'floor'

export class Measured {
  readonly rows: Row[] = []

  add(tool: string, step: string, figures: Readonly<Record<string, number>>): void {
    let row = this.rows.find((one) => one.tool === tool && one.step === step)
    if (!row) {
      row = { tool, step, figures: {} }
      this.rows.push(row)
    }
    for (const [name, value] of Object.entries(figures)) {
      const values = row.figures[name] ?? []
      row.figures[name] = [...values, value]
    }
  }
}

/** Has the tool hold a disk under its own name, alone or among others. */
export async function hold(tool: Tool, name: Name, { sources, tell }: Context): Promise<void> {
  if (tool.has(name)) return
  tell(`${tool.name}: ${name}, not measured`)
  await tool.reset()
  await tool.backup(sources.get(name), name)
}
