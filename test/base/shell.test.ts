import { execFileSync } from 'node:child_process'
import test from 'ava'
import { shellWord } from '../../src/base/shell.js'

test('a path that is pasted into a shell is that path', (t) => {
  t.is(shellWord('/var/lib/imager-2'), '/var/lib/imager-2')
  for (const path of ['/a b', "/it's", '/$HOME/`x`', '/a\nb', '/*;true', '-n', '']) {
    t.is(execFileSync('sh', ['-c', `printf %s ${shellWord(path)}`], { encoding: 'utf8' }), path)
  }
})
