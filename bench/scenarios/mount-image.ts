/**
 * A1 mounted as an image, with nothing of it in the kernel's cache: each reading has a mount of its own. The repositories
 * themselves stay in the page cache, where the backup left them.
 */
import { join } from 'node:path'
import { DEAD, Lab } from '../lab.js'
import { withMount } from '../mounted.js'
import { type ReadReport, readRandom, readSequential } from '../reader.js'
import { type Column, type Context, hold, type Scenario } from '../scenario.js'
import { settle, type Tool } from '../tool.js'

const LABEL = 'A1'

const columns = (prefix: string, chart: boolean): Column[] => {
  const column = (heading: string, step: string, figure: string, unit: number, name?: string): Column => ({
    heading,
    step: `${prefix}${step}`,
    figure,
    unit,
    digits: 0,
    ...(figure === 'perSecond' ? { better: 'more' } : { better: 'less' }),
    ...(name && chart ? { chart: `mount: ${name}` } : {}),
  })
  return [
    column('ready, ms', 'random 1', 'readySeconds', 0.001, 'ready'),
    column('first byte, ms', 'random 1', 'firstByteSeconds', 0.001, 'first byte'),
    column('random 4 KiB, 1 job, /s', 'random 1', 'perSecond', 1, 'random 4 KiB, 1 job'),
    column('8 jobs, /s', 'random 8', 'perSecond', 1, 'random 4 KiB, 8 jobs'),
    column('sequential, MB/s', 'sequential', 'perSecond', 1e6, 'sequential'),
    { ...column('its CPU, s', 'sequential', 'cpuSeconds', 1), digits: 1 },
    column('its peak, MiB', 'sequential', 'peakBytes', 1024 * 1024),
  ]
}

export const mountImage: Scenario = {
  name: 'mount-image',
  tables: [
    { title: 'A1 mounted as an image, cold', columns: columns('', true) },
    { title: `The same with ${DEAD}`, columns: columns(`${DEAD}: `, false) },
  ],
  async run(context: Context) {
    const { tools, runs, tell } = context
    const able = tools.filter((tool) => tool.mount)
    for (const tool of able) await hold(tool, LABEL, context)
    for (let run = 0; run < runs; run++) {
      for (const tool of able) {
        tell(`${tool.name}: mount of the image, run ${run + 1} of ${runs}`)
        await once(context, tool, run, '')
      }
    }
    const lab = tools.find((tool) => tool instanceof Lab)
    lab?.lose()
    for (let run = 0; lab && run < runs; run++) {
      tell(`imager: mount of the image with ${DEAD}, run ${run + 1} of ${runs}`)
      await once(context, lab, run, `${DEAD}: `)
    }
  },
}

async function once({ sources, work, measured }: Context, tool: Tool, run: number, prefix: string): Promise<void> {
  const source = sources.get(LABEL)
  const read = async (step: string, how: (path: string) => Promise<ReadReport>, per: 'reads' | 'bytes') => {
    settle(tool, source)
    tool.forget()
    const mounting = tool.mount!(source, LABEL, join(work, 'mounted'))
    const { result, run: took } = await withMount(join(work, 'mounted'), mounting, async (ready) => {
      const { path, readySeconds, firstByteSeconds } = ready
      const report = await how(path)
      const afterReadySeconds = firstByteSeconds - readySeconds
      return { readySeconds, firstByteSeconds, afterReadySeconds, perSecond: report[per] / report.seconds }
    })
    const { cpuSeconds, peakBytes } = took
    measured.add(tool.name, `${prefix}${step}`, { ...result, cpuSeconds, peakBytes })
  }
  await read('random 1', (path) => readRandom(source, path, 1, run), 'reads')
  await read('random 8', (path) => readRandom(source, path, 8, run), 'reads')
  await read('sequential', (path) => readSequential(source, path), 'bytes')
}
