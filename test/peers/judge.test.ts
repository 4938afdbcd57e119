import { randomBytes } from 'node:crypto'
import test from 'ava'
import fc from 'fast-check'
import { quorumOf } from '../../src/keys/checkpoint.js'
import { HEAD_ID_BYTES, HeadSet } from '../../src/keys/head-set.js'
import {
  type Change,
  type Heads,
  judge,
  judgeHeads,
  type Link,
  type Reason,
  type Verdict,
} from '../../src/peers/judge.js'

/** `1.3` is the third link of term 1 on the main branch, `1.3b` another one at its place; `1.3h` is by whom the place was handed to. */
function link(name: string, previous: string | null = before(name)): Link {
  const [, term, sequence] = /^(\d+)\.(\d+)/.exec(name) as unknown as [string, string, string]
  return { term: Number(term), handed: name.includes('h') ? 1 : 0, sequence: Number(sequence), hash: name, previous }
}

function before(name: string): string | null {
  const [, term, sequence, branch] = /^(\d+)\.(\d+)(.*)/.exec(name) as unknown as [string, string, string, string]
  return sequence === '1' ? null : `${term}.${Number(sequence) - 1}${branch}`
}

const chain = (...names: string[]) => names.map((name) => link(name))

const CASES: [
  what: string,
  verdict: Verdict,
  last: string | undefined,
  chain: Link[],
  proved?: number | undefined,
  term?: number,
  handed?: number,
][] = [
  ['the first that it ever sees', 'sign', undefined, chain('1.7')],
  ['the next one', 'sign', '1.3', chain('1.4')],
  ['the same one again', 'again', '1.3', chain('1.3')],
  ['with the links that it missed', 'sign', '1.3', chain('1.4', '1.5', '1.6')],
  ['with more links than it missed', 'sign', '1.3', chain('1.2', '1.3', '1.4')],
  ['links missing', 'fork', '1.3', chain('1.5', '1.6')],
  ['links missing, but a quorum went that way', 'sign', '1.3', chain('1.5', '1.6'), 0],
  ['an older one', 'old', '1.3', chain('1.2')],
  ['another one at its place', 'old', '1.3', chain('1.3b')],
  ['another one at its place, proved: it has signed there', 'old', '1.3', chain('1.3b'), 0],
  ['another branch', 'fork', '1.3', chain('1.3b', '1.4b')],
  ['another branch that a quorum signed at its place', 'sign', '1.3', chain('1.3b', '1.4b'), 0],
  ['another branch that a quorum signed after it', 'sign', '1.3', chain('1.3b', '1.4b', '1.5b'), 1],
  [
    'another branch that a quorum signed before they parted',
    'fork',
    '1.3',
    [link('1.2'), link('1.3b', '1.2'), link('1.4b')],
    0,
  ],
  ['the next one over another hash', 'fork', '1.3', [link('1.4', '1.3b')]],
  ['links that do not follow each other', 'gap', '1.3', chain('1.4', '1.6')],
  ['links over other hashes', 'gap', '1.3', chain('1.4', '1.5b')],
  ['links that go back', 'gap', '1.3', chain('1.5', '1.4')],
  ['nothing', 'gap', '1.3', []],
  ['a new term', 'sign', '1.3', [link('2.1', '1.3')]],
  ['a new term that does not know the old one', 'sign', '1.3', chain('2.1')],
  ['a new term, later links', 'sign', '1.3', chain('2.1', '2.2')],
  ['a new term without its beginning', 'gap', '1.3', chain('2.2', '2.3')],
  ['a new term without its beginning, proved', 'sign', '1.3', chain('2.2', '2.3'), 0],
  ['a new term that does not begin at 1', 'gap', '1.3', [link('1.3'), link('2.4', '1.3')]],
  ['an older term', 'term', '2.1', chain('1.4')],
  ['an older term, proved', 'term', '2.1', chain('1.4', '1.5'), 0],
  ['an older term than the membership says, nothing signed yet', 'term', undefined, chain('1.4'), undefined, 2],
  ['an older term than the membership says', 'term', '1.3', chain('1.4'), undefined, 2],
  ['the next one, by whom the place was handed to', 'sign', '1.3', [link('1.4h', '1.3')]],
  ['with the link at which it was handed over', 'sign', '1.3', [link('1.4'), link('1.5h', '1.4'), link('1.6h')]],
  ['the next one of who had handed it over', 'handed', '1.3h', [link('1.4', '1.3h')]],
  ['the same, proved', 'handed', '1.3h', chain('1.4', '1.5'), 0],
  ['one of who has handed it over, by the membership', 'handed', '1.3', chain('1.4'), undefined, 1, 1],
  ['the same, nothing signed yet', 'handed', undefined, chain('1.4'), undefined, 1, 1],
  ['links in which the place goes back', 'gap', '1.3', [link('1.4h', '1.3'), link('1.5', '1.4h')]],
  ['beside what it signed for who had handed it over', 'fork', '1.5', [link('1.3h', '1.2'), link('1.4h')]],
  ['the same, proved: it comes back', 'sign', '1.5', [link('1.3h', '1.2'), link('1.4h')], 0],
]

for (const [what, verdict, last, links, proved, term = 1, handed = 0] of CASES) {
  test(`a witness is offered ${what}: ${verdict}`, (t) => {
    t.is(judge(last === undefined ? undefined : link(last), links, proved, { term, handed }), verdict)
  })
}

const ids = (count: number) => randomBytes(count * HEAD_ID_BYTES)
const none = Buffer.alloc(0)
const of = ({ live, gone }: Heads) => ({
  heads: { count: live.size, root: live.root },
  removals: { count: gone.size, root: gone.root },
})
const heads = (live: HeadSet, gone = HeadSet.empty): Heads => ({ live, gone })
const change = (base: Change['base'], added: Buffer, removed = none, forgotten = removed): Change => {
  return { base, added, removed, forgotten: HeadSet.empty.with(forgotten) }
}

test('the set of heads is the one that the checkpoint counts, and none is missing that nobody forgot', (t) => {
  const [old, coming] = [HeadSet.empty.with(ids(20)), ids(2)]
  const next = old.with(coming)
  const judged = (own: HeadSet | undefined, base: 'own' | 'empty', added: Buffer, offered: HeadSet) =>
    judgeHeads(own && heads(own), change(base, added), of(heads(offered)))
  const isSet = (made: Heads | Reason, expected: HeadSet) => {
    t.true(typeof made !== 'string' && made.live.root === expected.root)
  }
  isSet(judged(old, 'own', coming, next), next)
  isSet(judged(old, 'empty', next.bytes(), next), next)
  isSet(judged(undefined, 'empty', next.bytes(), next), next)
  t.is(judged(undefined, 'own', coming, next), 'base')
  t.is(judged(old, 'own', ids(2), next), 'base')
  t.is(judged(old, 'own', none, next), 'base')
  t.is(judged(old, 'empty', coming, next), 'set')
  const fewer = HeadSet.empty.with(old.bytes().subarray(HEAD_ID_BYTES)).with(coming)
  t.is(judged(old, 'empty', fewer.bytes(), fewer), 'shrank')
  t.is(judged(old, 'empty', none, HeadSet.empty), 'shrank')
  const lying = { ...of(heads(next)), heads: { count: next.size + 1, root: next.root } }
  t.is(judgeHeads(heads(old), change('own', coming), lying), 'base')
})

test('a head goes by the word of an admin alone, is counted as gone, and does not come back', (t) => {
  const [first, others] = [ids(1), ids(20)]
  const own = heads(HeadSet.empty.with(first).with(others))
  const next = heads(HeadSet.empty.with(others), HeadSet.empty.with(first))
  for (const base of ['own', 'empty'] as const) {
    const added = base === 'own' ? none : others
    const judged = judgeHeads(own, change(base, added, first), of(next))
    t.true(typeof judged !== 'string' && judged.live.root === next.live.root && judged.gone.root === next.gone.root)
    t.is(judgeHeads(own, change(base, added, first, none), of(next)), 'removal')
    t.is(judgeHeads(own, change(base, added, first, ids(1)), of(next)), 'removal', 'another one was forgotten')
    const unsaid = { ...of(next), removals: of(own).removals }
    t.is(judgeHeads(own, change(base, added, first), unsaid), base === 'own' ? 'base' : 'set')
  }
  // What one never had, it need not be told twice; what went stays gone.
  t.true(typeof judgeHeads(undefined, change('empty', others, first, none), of(next)) !== 'string')
  t.is(judgeHeads(next, change('own', first), of(heads(own.live, next.gone))), 'revived')
  t.is(judgeHeads(next, change('empty', own.live.bytes()), of(own)), 'revived')
  t.is(judgeHeads(next, change('empty', others), of(heads(next.live))), 'revived', 'that it went is not forgotten')
})

/** What a fleet of witnesses was offered: to whom, which link on which, and which links were sent along. */
interface Play {
  n: number
  liars: number
  steps: { parent: number; to: number; from: number; prove: boolean }[]
}
const plays = (liars: fc.Arbitrary<number>): fc.Arbitrary<Play> =>
  fc.record({
    n: fc.constantFrom(3, 5, 7),
    liars,
    steps: fc.array(fc.record({ parent: fc.nat(12), to: fc.nat(127), from: fc.nat(6), prove: fc.boolean() }), {
      maxLength: 30,
    }),
  })

interface Node extends Link {
  parent: Node | undefined
  signers: Set<number>
}

/**
 * A coordinator that signs whatever it likes (any tree of checkpoints), a network that brings any part of it to anybody, and
 * liars among the witnesses that sign all of it. Gives the checkpoints that a quorum signed.
 */
function run({ n, liars, steps }: Play): { nodes: Node[]; quorum: number } {
  const first = { term: 1, handed: 0, sequence: 1, hash: 'root', previous: null }
  const root: Node = { ...first, parent: undefined, signers: new Set() }
  const nodes = [root]
  const held = new Map<number, Link>()
  for (const [at, { parent, to, from, prove }] of steps.entries()) {
    const on = nodes[parent % nodes.length] as Node
    const made: Node = {
      ...{ term: 1, handed: 0, sequence: on.sequence + 1, hash: `h${at}`, previous: on.hash },
      ...{ parent: on, signers: new Set<number>() },
    }
    nodes.push(made)
    const line: Node[] = []
    for (let node: Node | undefined = made; node && line.length <= from; node = node.parent) line.unshift(node)
    for (let witness = 0; witness < n; witness++) {
      if (!(to & (1 << witness))) continue
      if (witness < liars) {
        for (const node of line) node.signers.add(witness)
        continue
      }
      const proved = prove ? line.findLastIndex((node) => node.signers.size >= quorumOf(n)) : -1
      const verdict = judge(held.get(witness), line, proved < 0 ? undefined : proved, root)
      if (verdict !== 'sign') continue
      held.set(witness, made)
      made.signers.add(witness)
    }
  }
  return { nodes, quorum: quorumOf(n) }
}

test('no two checkpoints of one place reach a quorum, whatever coordinator and network do', (t) => {
  fc.assert(
    fc.property(plays(fc.constant(0)), (play) => {
      const { nodes, quorum } = run(play)
      const places = nodes.filter(({ signers }) => signers.size >= quorum).map(({ sequence }) => sequence)
      return new Set(places).size === places.length
    }),
    { numRuns: 3000 },
  )
  t.pass()
})

test('and none besides one that every honest witness signed, while at most a minority lies', (t) => {
  const lying = fc.record({ play: plays(fc.constant(0)), share: fc.nat(100) }).map(({ play, share }) => {
    return { ...play, liars: share % (Math.floor(play.n / 2) + 1) }
  })
  let decided = 0
  fc.assert(
    fc.property(lying, (play) => {
      const { nodes, quorum } = run(play)
      const honest = Array.from({ length: play.n - play.liars }, (_, at) => at + play.liars)
      const whole = nodes.filter(({ signers }) => honest.every((witness) => signers.has(witness)))
      decided += whole.length
      return whole.every((one) =>
        nodes.every((other) => other === one || other.sequence !== one.sequence || other.signers.size < quorum),
      )
    }),
    { numRuns: 3000 },
  )
  t.true(decided > 100, `${decided}`)
})

test('what a majority cannot bear: one witness that signs twice may be in both majorities', (t) => {
  const steps = [
    { parent: 0, to: 0b011, from: 0, prove: false },
    { parent: 0, to: 0b101, from: 0, prove: false },
  ]
  const { nodes, quorum } = run({ n: 3, liars: 1, steps })
  t.is(nodes.filter(({ sequence, signers }) => sequence === 2 && signers.size >= quorum).length, 2)
})
