/**
 * The files of A1, mounted by the kernel, backed up by tools of files; then nothing has changed; then a day later. imager
 * takes the image: its snapshot is of the files too.
 */
import type { Column, Context, Scenario } from '../scenario.js'
import type { Name } from '../sources.js'
import { figuresOf, settle, storedBytes, type Tool } from '../tool.js'

const UNCHANGED = 'unchanged files'
const STEPS: readonly (readonly [string, Name])[] = [
  ['files of A1', 'A1'],
  [UNCHANGED, 'A1'],
  ['files of A1b', 'A1b'],
]

const column = (step: string, figure: string, heading: string, unit: number, digits: number): Column => ({
  heading: `${step}, ${heading}`,
  step,
  figure,
  unit,
  digits,
  // Where nothing is new, what is stored is bookkeeping.
  ...(figure === 'seconds' ? { better: 'less', chart: step } : step === UNCHANGED ? {} : { better: 'less' }),
})

export const files: Scenario = {
  name: 'files',
  tables: [
    {
      title: 'Backup of the mounted files (imager: of the image)',
      columns: STEPS.flatMap(([step]) => [
        column(step, 'seconds', 's', 1, 1),
        column(step, 'storedBytes', 'MB', 1e6, 1),
      ]),
    },
  ],
  async run({ sources, tools, runs, measured, tell }: Context) {
    const able = tools.filter((tool) => tool.files)
    const once = async (tool: Tool, step: string, name: Name) => {
      settle(tool, sources.get(name))
      const before = storedBytes(tool)
      const figures = await sources.withFiles(name, (source) => figuresOf(tool, () => tool.backup(source, step, true)))
      measured.add(tool.name, step, { ...figures, storedBytes: storedBytes(tool) - before })
    }
    for (let run = 0; run < runs; run++) {
      for (const tool of able) await tool.reset()
      for (const [step, name] of STEPS) {
        for (const tool of able) {
          tell(`${tool.name}: ${step}, run ${run + 1} of ${runs}`)
          await once(tool, step, name)
        }
      }
    }
  },
}
