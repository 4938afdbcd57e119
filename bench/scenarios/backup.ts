/** A disk image backed up: A1, the same again, a second machine, the first one a day later. Each run begins anew. */
import { DISKS } from '../goals.js'
import { changedBytes, fileBytes } from '../reader.js'
import type { Column, Context, Scenario, Table } from '../scenario.js'
import type { Name } from '../sources.js'
import { figuresOf, settle, storedBytes, type Tool } from '../tool.js'

const MB = 1e6
const MiB = 1024 * 1024

/** Label and disk. */
const STEPS: readonly (readonly [string, Name])[] = [
  ['A1', 'A1'],
  ['A1 again', 'A1'],
  ['A2', 'A2'],
  ['A1b', 'A1b'],
]

const seconds = (step: string, chart: string): Column => ({
  heading: `${step}, s`,
  step,
  figure: 'seconds',
  unit: 1,
  digits: 1,
  better: 'less',
  chart,
})
const stored = (step: string, chart?: string): Column => ({
  heading: `${step}, MB`,
  step,
  figure: 'storedBytes',
  unit: MB,
  digits: 1,
  // Where nothing is new, what is added is bookkeeping.
  ...(chart ? { better: 'less', chart } : {}),
})
const plain = (heading: string, step: string, figure: string, unit = 1, digits = 1): Column => ({
  heading,
  step,
  figure,
  unit,
  digits,
})

const tables: readonly Table[] = [
  {
    title: 'Backup of the image: time',
    columns: [
      seconds('A1', 'full snapshot'),
      seconds('A1 again', 'the same again'),
      seconds('A2', 'a second machine'),
      seconds('A1b', 'a day later'),
    ],
  },
  {
    title: 'Backup of the image: what A1 costs',
    columns: [
      { ...plain('CPU, s', 'A1', 'cpuSeconds'), better: 'less', chart: 'CPU of a full snapshot' },
      plain('peers and coordinator: CPU, s', 'A1', 'besideCpuSeconds'),
      { ...plain('peak, MiB', 'A1', 'peakBytes', MiB, 0), better: 'less', chart: 'memory of a full snapshot' },
      plain('peers and coordinator: peak, MiB', 'A1', 'besidePeakBytes', MiB, 0),
    ],
  },
  {
    title: 'Backup of the image: stored, and what each further one adds',
    columns: [
      stored('A1', 'stored for A1'),
      stored('A1 again'),
      stored('A2', 'stored for a second machine'),
      stored('A1b', 'stored for a day'),
    ],
  },
  {
    title: 'imager: read and new',
    columns: STEPS.flatMap(([step]) => [
      plain(`${step}: read, MB`, step, 'readBytes', MB, 0),
      plain('new, MB', step, 'newBytes', MB, 0),
    ]),
  },
]

export const backup: Scenario = {
  name: 'backup',
  tables,
  async run(context: Context) {
    const { sources, measured, tell } = context
    tell('Counting on the disks what goals are compared with')
    measured.add(DISKS, 'A1', { fileBytes: await fileBytes(sources.get('A1')) })
    measured.add(DISKS, 'A1b', { changedBytes: await changedBytes(sources.get('A1b'), sources.get('A1')) })
    for (let run = 0; run < context.runs; run++) {
      for (const tool of context.tools) {
        await tool.reset()
      }
      for (const [label, name] of STEPS) {
        for (const tool of context.tools) {
          tell(`${tool.name}: ${label}, run ${run + 1} of ${context.runs}`)
          await once(context, tool, label, name)
        }
      }
    }
  },
}

async function once({ sources, measured }: Context, tool: Tool, label: string, name: Name): Promise<void> {
  settle(tool, sources.get(name))
  const before = storedBytes(tool)
  let more = {}
  const figures = await figuresOf(tool, async () => {
    const run = await tool.backup(sources.get(name), label)
    more = run.figures ?? {}
    return run
  })
  measured.add(tool.name, label, { ...figures, ...more, storedBytes: storedBytes(tool) - before })
}
