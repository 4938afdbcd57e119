/** A1 back into a sparse file, and with two of six hosts dead. Everything that comes back is compared. */
import { rmSync } from 'node:fs'
import { DEAD, Lab } from '../lab.js'
import type { Run } from '../measure.js'
import { verify } from '../reader.js'
import { type Column, type Context, hold, type Scenario } from '../scenario.js'
import { figuresOf, type Restored, settle, type Tool } from '../tool.js'

const MiB = 1024 * 1024
const LABEL = 'A1'

const column = (heading: string, step: string, figure: string, unit = 1, digits = 1): Column => ({
  heading,
  step,
  figure,
  unit,
  digits,
})

export const restore: Scenario = {
  name: 'restore',
  tables: [
    {
      title: 'Restore of A1 into a sparse file',
      columns: [
        { ...column('s', 'restore', 'seconds'), better: 'less', chart: 'restore' },
        { ...column('CPU, s', 'restore', 'cpuSeconds'), better: 'less' },
        column('peers and coordinator: CPU, s', 'restore', 'besideCpuSeconds'),
        { ...column('peak, MiB', 'restore', 'peakBytes', MiB, 0), better: 'less' },
        column('peers and coordinator: peak, MiB', 'restore', 'besidePeakBytes', MiB, 0),
        column(`${DEAD}, s`, DEAD, 'seconds'),
        column(`${DEAD}: CPU, s`, DEAD, 'cpuSeconds'),
        column(`${DEAD}: peak, MiB`, DEAD, 'peakBytes', MiB, 0),
      ],
    },
  ],
  async run(context: Context) {
    const { tools, runs, tell } = context
    const able = tools.filter((tool) => tool.restore)
    for (const tool of able) await hold(tool, LABEL, context)
    for (let run = 0; run < runs; run++) {
      for (const tool of able) {
        tell(`${tool.name}: restore, run ${run + 1} of ${runs}`)
        await once(context, tool, 'restore')
      }
    }
    const lab = tools.find((tool) => tool instanceof Lab)
    lab?.lose()
    for (let run = 0; lab && run < runs; run++) {
      tell(`imager: restore with ${DEAD}, run ${run + 1} of ${runs}`)
      await once(context, lab, DEAD)
    }
  },
}

async function once({ sources, measured }: Context, tool: Tool, step: string): Promise<void> {
  const source = sources.get(LABEL)
  let restored: ({ run: Run } & Restored) | undefined
  settle(tool, source)
  const figures = await figuresOf(tool, async () => {
    restored = await tool.restore!(source, LABEL)
    return restored.run
  })
  await verify(source, restored!)
  rmSync(restored!.path)
  measured.add(tool.name, step, figures)
}
