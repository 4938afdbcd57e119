import test from 'ava'
import { chooseBase, type Link } from '../../src/coordinator/lineage.js'

/** `1.3b`: the third link of term 1 on branch b; on branch h by whom the place was handed to. */
function link(name: string): Link {
  const [, term, sequence, branch] = /^(\d+)\.(\d+)(.*)/.exec(name) as unknown as [string, string, string, string]
  const previous = sequence === '1' ? null : `${term}.${Number(sequence) - 1}${branch}`
  return { term: Number(term), handed: branch === 'h' ? 1 : 0, sequence: Number(sequence), hash: name, previous }
}

const links = (names: string) => (names === '' ? [] : names.split(' ').map(link))

const CASES: [what: string, own: string, held: string, base: string | undefined, line?: string][] = [
  ['nobody holds anything', '', '', undefined],
  ['the first start of a chain', '1.1', '', '1.1'],
  ['all as it should be', '1.1 1.2 1.3', '1.3 1.3 1.3', '1.3', '1.1 1.2 1.3'],
  ['one missed the last', '1.1 1.2 1.3', '1.2 1.3 1.3', '1.3'],
  ['set back', '1.1 1.2', '1.5 1.5 1.5', '1.5', '1.5'],
  ['set back by one: the line is whole', '1.1 1.2', '1.3 1.3 1.2', '1.3', '1.1 1.2 1.3'],
  ['set back with one witness', '1.1 1.2', '1.2 1.5 1.5', '1.5'],
  ['set back, one witness is off', '1.1 1.2', '1.5 1.5', '1.5'],
  ['set back with one witness, another is off: the newer one', '1.1 1.2', '1.2 1.5', '1.5'],
  ['everything lost', '', '1.5 1.5 1.4', '1.5', '1.4 1.5'],
  ['one holds a branch that lost', '1.1 1.2 1.3', '1.3 1.3 1.5b', '1.3'],
  ['a new term is in place', '1.1 2.1', '2.1 1.5 1.5', '2.1', '2.1'],
  ['a recovery finds the chain of the old term', '', '1.7 1.7 1.6', '1.7'],
  ['an old copy meets a new term', '1.1 1.2', '2.3 2.3 2.2', '2.3'],
  ['one signed for who had handed its place over', '1.1h 1.2h', '1.2h 1.2h 1.5', '1.2h'],
  ['who handed its place over had as many go on with it: the other is newer', '1.1h 1.2h', '1.2h 1.5', '1.2h'],
  ['only the own chain leads to where two stand apart', '1.1 1.2 1.3 1.4', '1.2 1.3', '1.4'],
]

for (const [what, own, held, base, line] of CASES) {
  test(`a chain goes on from the link that most witnesses can follow: ${what}`, (t) => {
    const found = chooseBase(links(own), links(held))
    t.is(found?.base.hash, base)
    if (line !== undefined) t.is(found?.line.map(({ hash }) => hash).join(' '), line)
  })
}
