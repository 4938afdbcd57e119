/** The hot functions one by one: `cargo bench` of native/benches/micro.rs, one thread. Compared with nobody. */
import { measure } from '../measure.js'
import type { Context, Scenario } from '../scenario.js'

interface Line {
  readonly name: string
  readonly unit: 'MB/s' | '/s'
  /** Bytes or items a second. */
  readonly rates: readonly number[]
}

export const micro: Scenario = {
  name: 'micro',
  how: 'five samples of 0.2 s each',
  tables: [
    {
      title: 'Hot functions, one thread',
      columns: [
        { heading: 'MB/s', step: 'micro', figure: 'MB/s', unit: 1e6, digits: 0 },
        { heading: 'million/s', step: 'micro', figure: '/s', unit: 1e6, digits: 2 },
      ],
    },
  ],
  async run({ measured, tell }: Context) {
    tell('micro: cargo bench')
    const bench = ['bench', '--quiet', '--no-default-features', '--bench', 'micro']
    const { stdout } = await measure({ argv: ['cargo', ...bench, '--manifest-path', 'native/Cargo.toml'] })
    for (const line of stdout.split('\n').filter((text) => text.startsWith('{'))) {
      const { name, unit, rates } = JSON.parse(line) as Line
      for (const rate of rates) measured.add(name, 'micro', { [unit]: rate })
    }
  },
}
