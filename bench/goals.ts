/** What is wanted of a run, each goal from the run's own figures: ratios between tools that alternated, sizes, bounds. */
import { median } from './arithmetic.js'
import { DEAD, SCHEME } from './lab.js'
import { type Results, valuesOf } from './results.js'
import { FLOOR, IMAGER } from './scenario.js'

const MB = 1e6
const MiB = 1024 * 1024

interface Cell {
  readonly scenario: string
  readonly step: string
  readonly figure: string
}

/** The median of a figure, NaN where it was not measured: so is whatever is computed from it. */
type Of = (cell: Cell, tool?: string) => number

interface Goal {
  readonly what: string
  readonly measured: (of: Of) => number
  readonly bound: number
  readonly way: 'at most' | 'at least'
  readonly digits: number
}

const goalsOf =
  (way: Goal['way']) =>
  (bound: number, what: string, measured: Goal['measured'], digits = 2): Goal => ({
    what,
    measured,
    bound,
    way,
    digits,
  })
const atMost = goalsOf('at most')
const atLeast = goalsOf('at least')

const cellsOf = (scenario: string) => (step: string, figure: string) => ({ scenario, step, figure })
const backup = cellsOf('backup')
const files = cellsOf('files')
const restore = cellsOf('restore')
const image = cellsOf('mount-image')
const mounted = cellsOf('mount-files')

/** How many times as much as the least, or the most, of these. */
const timesLeast =
  (cell: Cell, ...tools: string[]) =>
  (of: Of) =>
    of(cell) / Math.min(...tools.map((tool) => of(cell, tool)))
const timesMost =
  (cell: Cell, ...tools: string[]) =>
  (of: Of) =>
    of(cell) / Math.max(...tools.map((tool) => of(cell, tool)))

const BY_FILES = ['restic', 'borg', 'kopia']
const [data = 0, parity = 0] = SCHEME.split('+').map(Number)
/** What bench/scenarios/backup.ts counts on the disks themselves. */
export const DISKS = 'disks'
const NOT_IN_FILES = (of: Of) => of(backup('A1', 'allocatedBytes')) - of(backup('A1', 'fileBytes'), DISKS)
/** As native/src/snapshot/reuse.rs samples. */
const SAMPLE = 1 / 20

const GOALS: readonly Goal[] = [
  atMost(1.7, 'A1: time / floor', timesLeast(backup('A1', 'seconds'), FLOOR)),
  atMost(0.45, 'A1: time / fastest of restic, borg, kopia', timesLeast(backup('A1', 'seconds'), ...BY_FILES)),
  atMost(300, 'A1: peak memory, MiB', (of) => of(backup('A1', 'peakBytes')) / MiB, 0),
  atMost(
    1.02,
    'A1: stored without parity / restic',
    (of) => (of(backup('A1', 'storedBytes')) * data) / (data + parity) / of(backup('A1', 'storedBytes'), 'restic'),
    3,
  ),
  atMost(
    0.01,
    'A1: all that the coordinator read / stored',
    (of) => of(backup('A1', 'coordinatorBytes')) / of(backup('A1', 'storedBytes')),
    4,
  ),
  atMost(1, 'A1 again: time / kopia on its mounted files', timesLeast(files('unchanged files', 'seconds'), 'kopia')),
  atMost(
    1.1,
    'A1 again: read / metadata and sample',
    (of) => of(backup('A1 again', 'readBytes')) / (NOT_IN_FILES(of) + of(backup('A1', 'fileBytes'), DISKS) * SAMPLE),
  ),
  atMost(0.25, 'A1b: time / restic on the image', timesLeast(backup('A1b', 'seconds'), 'restic')),
  atMost(
    0.6,
    'A1b: time / fastest of restic, borg, kopia on the files',
    timesLeast(files('files of A1b', 'seconds'), ...BY_FILES),
  ),
  atMost(
    1.6,
    'A1b: new bytes / pages of 4 KiB that A1 has not',
    (of) => of(backup('A1b', 'newBytes')) / of(backup('A1b', 'changedBytes'), DISKS),
  ),
  atMost(0.3, 'A2: time / restic', timesLeast(backup('A2', 'seconds'), 'restic')),
  atMost(230, 'A2: new bytes, MB', (of) => of(backup('A2', 'newBytes')) / MB, 0),
  atMost(0.65, 'restore: time / restic', timesLeast(restore('restore', 'seconds'), 'restic')),
  atMost(
    1.3,
    `restore: time with ${DEAD} / all there`,
    (of) => of(restore(DEAD, 'seconds')) / of(restore('restore', 'seconds')),
  ),
  atMost(300, 'mount: ready, ms', (of) => of(image('random 1', 'readySeconds')) * 1000, 0),
  atMost(10, 'mount: first byte after that, ms', (of) => of(image('random 1', 'afterReadySeconds')) * 1000, 1),
  atLeast(
    2,
    'mount: sequential / best of restic, borg, desync',
    timesMost(image('sequential', 'perSecond'), 'restic', 'borg', 'desync'),
  ),
  atLeast(
    0.6,
    `mount: sequential with ${DEAD} / all there`,
    (of) => of(image(`${DEAD}: sequential`, 'perSecond')) / of(image('sequential', 'perSecond')),
  ),
  atLeast(1.5, 'mount: random 4 KiB, 1 job / desync', timesMost(image('random 1', 'perSecond'), 'desync')),
  atLeast(1.5, 'mount: random 4 KiB, 8 jobs / desync', timesMost(image('random 8', 'perSecond'), 'desync')),
  atLeast(1, 'mounted files: find and stat / kopia', timesMost(mounted('find and stat', 'perSecond'), 'kopia')),
  atLeast(2, 'mounted files: tar / borg', timesMost(mounted('tar', 'perSecond'), 'borg')),
]

/** A row each: goal, measured, wanted, reached. */
export function goals({ scenarios }: Results): string[][] {
  const of: Of = ({ scenario, step, figure }, tool = IMAGER) => {
    const values = valuesOf(scenarios[scenario]?.rows ?? [], tool, { step, figure })
    return values ? median(values) : Number.NaN
  }
  return GOALS.map(({ what, measured, bound, way, digits }) => {
    const value = measured(of)
    const wanted = `${bound} ${way}`
    if (Number.isNaN(value)) return [what, '', wanted, 'not measured']
    const reached = way === 'at most' ? value <= bound : value >= bound
    return [what, value.toFixed(digits), wanted, reached ? 'yes' : 'NO']
  })
}
