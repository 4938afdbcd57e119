/**
 * The models of keeping, run by spin: the whole one holds, and with each guard left out it does not. Guards and states that
 * must be reached are the numbers that a model defines; docs/model.md says where the code has them.
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { lacksTools, testWhere } from '../machine.js'
import { read } from '../sources.js'

const MODELS = ['chain', 'names', 'keeping'] as const
const FIRST_STATE = 100
/** What no run of a whole model takes: ends of endless loops, and what its guards are there to prevent. */
const ONLY_WITHOUT_A_GUARD = {
  names: [
    '(1)',
    '-end-',
    'counted = (counted+1)',
    'held[((1*5)+run_)] = writing',
    'held[((2*5)+run_)] = writing',
    'held[((3*5)+1)] = 9',
  ],
  chain: ['-end-', 'refused = 1'],
  // A coordinator that is taken over has a list cosigned from which a head is gone.
  keeping: [
    '-end-',
    'behind = 0',
    'dropped = 1',
    'dropped = 7',
    'i_newest = 0',
    'let_go = c_forgets',
    'newest[0] = 0',
    'newest[1] = 0',
    'newest[2] = 0',
  ],
}
/** Where a guard of `chain` or `keeping` is missed: a world that is quickly searched. Of `names` each is. */
const WORLDS: Record<string, string> = {
  LIST_GROWS: '5',
  SENT_LIST: '2',
  NEWER_TERM: '5',
  BOTH_MAJORITIES: '6',
  SHOWN_MAJORITY: '2',
  NEVER_OLDER: '2',
  ASKS_FIRST: '4',
  TAKES_HEADS: '4',
  MOST_FOLLOWERS: '4',
  ALL_ANSWER: '4',
  SAYS_LISTED: '2',
  REFUSED_TERM: '5',
  SHOWN_OLDER: '2',
  WITNESSES_MOVED: '6',
  FINISH_COMMITTED: '5',
  FOLLOWS_CHAIN: '1',
  CONDEMNED_ANEW: '1',
  CAUGHT_UP: '1',
  REPAIRED: '1',
  TWO_LOSSES: '3',
  RUN_LOST: '1',
  ALL_DONE: '5',
}
const testModel = testWhere(lacksTools('spin', 'cc'))

interface Named {
  readonly name: string
  readonly number: number
}

/** Where there is nothing else to say. */
const WORLD = { names: '0', chain: '1', keeping: '4' }

/** The guards of a model, and the states that must be reached. */
function numbersOf(model: string): { guards: Named[]; states: Named[] } {
  const text = read(`test/model/${model}.pml`)
  const part = (from: string, to: string) => text.slice(text.indexOf(from), text.indexOf(to, text.indexOf(from)))
  const numbers = [...part('/* Guards', 'byte without').matchAll(/^#define ([A-Z_]+) (\d+)/gm)]
  const all = numbers.map(([, name, number]) => ({ name: name!, number: Number(number) }))
  return {
    guards: all.filter(({ number }) => number < FIRST_STATE),
    states: all.filter(({ number }) => number > FIRST_STATE),
  }
}

function compile(model: string, folder: string): void {
  copyFileSync(`test/model/${model}.pml`, join(folder, 'model.pml'))
  const run = (tool: string, ...options: string[]) =>
    execFileSync(tool, options, { cwd: folder, stdio: 'pipe', timeout: 120_000 })
  run('spin', '-a', 'model.pml')
  run('cc', '-w', '-O2', '-DSAFETY', '-DCOLLAPSE', '-o', 'pan', 'pan.c')
}

/** What pan says; `without` is a guard that is left out, or a state that is looked for. */
function explore(folder: string, without = 0, world = '0'): string {
  const env = { ...process.env, WITHOUT: String(without), WORLD: world }
  return execFileSync('./pan', ['-m100000'], { cwd: folder, env, stdio: 'pipe', timeout: 300_000 }).toString()
}

for (const model of MODELS) {
  testModel(`the model ${model} holds, reaches what it must, and misses each guard`, (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'imager-model-'))
    try {
      compile(model, folder)
      const whole = explore(folder)
      t.regex(whole, /errors: 0\n/)
      t.notRegex(whole, /Search not completed|max search depth too small/)
      // Loops of events never end; the others are taken only where a guard is left out.
      const unreached = [...whole.matchAll(/, state \d+, "(.*)"/g)].map(([, code]) => code!)
      t.deepEqual([...new Set(unreached)].sort(), ONLY_WITHOUT_A_GUARD[model])
      const { guards, states } = numbersOf(model)
      t.true(guards.length > 4 && states.length > 4)
      for (const { name, number } of [...guards, ...states]) {
        const said = explore(folder, number, WORLDS[name] ?? WORLD[model])
        t.regex(said, /errors: 1\n/, `${model} without ${name}`)
        t.regex(said, /assertion violated/, `${model} without ${name}`)
      }
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })
}

const ROW = /^\| `([A-Z_]+)` \| (.+?) \| (.+?) \|$/gm

test('docs/model.md has a row for each guard, and the code that it names exists', (t) => {
  const rows = [...read('docs/model.md').matchAll(ROW)]
  const guards = MODELS.flatMap((model) => numbersOf(model).guards.map(({ name }) => name))
  t.is(rows.length, guards.length)
  t.deepEqual(new Set(rows.map(([, name]) => name)), new Set(guards))
  for (const [, name, , where] of rows) {
    const named = [...where!.matchAll(/`((?:src|native\/src)\/[\w/.-]+):(\w+)`/g)]
    t.true(named.length > 0 || where!.includes('not built yet'), `${name} says where its code is`)
    for (const [, path, code] of named) {
      t.true(existsSync(path!), path)
      t.regex(read(path!), new RegExp(`\\b${code}\\b`), `${path} has ${code}`)
    }
  }
})
