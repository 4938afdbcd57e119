/** The files of A1 in a mounted backup: every entry looked at, then a gigabyte of them read by tar; each on a fresh mount. */
import { join } from 'node:path'
import { measure } from '../measure.js'
import { withMount } from '../mounted.js'
import type { Context, Scenario } from '../scenario.js'
import { settle, type Tool } from '../tool.js'

const LABEL = 'of files'
/** `-printf` of the size makes find ask for each entry's attributes. */
const FIND = 'find "$0" -printf "%s\\n" | wc -l'
/** Through a pipe: tar reads nothing where it sees /dev/null. The end of the pipe is no failure of tar. */
const TAR = 'tar -C "$0" -cf - . 2>"$1" | head -c 1000000000 | wc -c'

const column = (heading: string, step: string, unit: number) =>
  ({ heading, step, figure: 'perSecond', unit, digits: 0, better: 'more', chart: `mounted files: ${step}` }) as const

export const mountFiles: Scenario = {
  name: 'mount-files',
  tables: [
    {
      title: 'The files of A1 in a mount, cold',
      columns: [column('find and stat, entries/s', 'find and stat', 1), column('tar of 1 GB, MB/s', 'tar', 1e6)],
    },
  ],
  async run(context: Context) {
    const { sources, tools, runs, tell } = context
    const able = tools.filter((tool) => tool.mount && tool.files)
    for (const tool of able) {
      tell(`${tool.name}: the files of A1, not measured`)
      await tool.reset()
      await sources.withFiles('A1', (source) => tool.backup(source, LABEL))
    }
    for (let run = 0; run < runs; run++) {
      for (const tool of able) {
        tell(`${tool.name}: mount of the files, run ${run + 1} of ${runs}`)
        await once(context, tool, 'find and stat', FIND)
        await once(context, tool, 'tar', TAR)
      }
    }
  },
}

async function once({ sources, work, measured }: Context, tool: Tool, step: string, script: string): Promise<void> {
  settle(tool, sources.get('A1'))
  tool.forget()
  const mounting = tool.mount!(sources.filesOf('A1'), LABEL, join(work, 'mounted'))
  await withMount(join(work, 'mounted'), mounting, async ({ path }) => {
    const { stdout, seconds } = await measure({ argv: ['sh', '-c', script, path, join(work, 'tar.log')] })
    measured.add(tool.name, step, { perSecond: Number(stdout) / seconds, count: Number(stdout) })
  })
}
