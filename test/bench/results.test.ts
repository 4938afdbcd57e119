import test from 'ava'
import { barsOf, chart } from '../../bench/chart.js'
import { report } from '../../bench/report.js'
import { bestNeighbour, type Results, ratio } from '../../bench/results.js'
import { type Column, Measured, type Scenario } from '../../bench/scenario.js'

const column = (figure: string, better: 'less' | 'more'): Column => ({
  heading: figure,
  step: 'A1',
  figure,
  unit: 1,
  digits: 1,
  better,
  chart: `${figure} & more`,
})
const [seconds, rate] = [column('seconds', 'less'), column('rate', 'more')]
const scenario: Scenario = {
  name: 'backup',
  tables: [{ title: 'Times', columns: [seconds, rate] }],
  run: () => Promise.resolve(),
}

function measured(): Measured {
  const figures = new Measured()
  for (const value of [3, 9, 6]) figures.add('imager', 'A1', { seconds: value, rate: 100 })
  figures.add('restic', 'A1', { seconds: 12, rate: 50 })
  figures.add('borg', 'A1', { seconds: 8, rate: 400 })
  figures.add('floor', 'A1', { seconds: 2 })
  return figures
}

const results = (): Results => ({
  version: 2,
  machine: { processor: 'some', cores: 2, memoryGiB: 4, kernel: '6', node: 'v20' },
  scenarios: {
    backup: { date: '2026-01-02T03:04:05Z', runs: 3, tools: { restic: '0.18.0' }, rows: measured().rows },
  },
})

test('the best neighbour is the least or the most, and never the floor', (t) => {
  const { rows } = measured()
  t.deepEqual(bestNeighbour(rows, seconds), { tool: 'borg', median: 8 })
  t.deepEqual(bestNeighbour(rows, rate), { tool: 'borg', median: 400 })
})

test('a ratio below 1 means that imager is ahead, whichever way is better', (t) => {
  const { rows } = measured()
  t.is(ratio(rows, seconds, 8), 6 / 8)
  t.is(ratio(rows, rate, 400), 4)
  t.is(ratio(rows, seconds, undefined), undefined)
})

test('the report has a row a tool, and those that compare', (t) => {
  const lines = report(results(), [scenario]).split('\n')
  t.true(lines.some((line) => /^\| imager +\| 6\.0 \(3\.0 to 9\.0\)/.test(line)))
  t.true(lines.some((line) => /^\| restic 0\.18\.0 +\| 12\.0 /.test(line)))
  t.true(lines.some((line) => /^\| imager \/ best neighbour +\| 0\.75 +\| 4\.00 /.test(line)))
  t.true(lines.some((line) => /^\| imager \/ floor +\| 3\.00 +\| +\|/.test(line)))
  t.true(lines.some((line) => /^\| A1: time \/ floor +\| 3\.00 +\| 1\.7 at most +\| NO /.test(line)))
  t.true(lines.some((line) => /^\| A2: time \/ restic +\| +\| 0\.3 at most +\| not measured /.test(line)))
})

test('the chart has a bar for each figure that is compared, as well-formed XML', (t) => {
  t.deepEqual(
    barsOf(results(), [scenario]).map(({ neighbour, ratio: value }) => [neighbour, value]),
    [
      ['borg', 0.75],
      ['borg', 4],
    ],
  )
  const svg = chart(results(), [scenario])
  t.is(svg.match(/<rect/g)?.length, 2)
  t.true(svg.includes('seconds &amp; more') && svg.includes('prefers-color-scheme: dark'))
})
