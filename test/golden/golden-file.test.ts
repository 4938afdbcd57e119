import test from 'ava'
import { isReleased } from './golden-file.js'

test('once 0.2.0 has a date, golden files are not made again', (t) => {
  t.false(isReleased('## 0.1.0 (2026-11-01)\n'))
  t.false(isReleased('## 0.2.0 (not released yet)\n\n## 0.1.0 (2026-11-01)\n'))
  t.true(isReleased('## 0.2.0 (2026-12-24)\n\n## 0.1.0 (2026-11-01)\n'))
  t.true(isReleased('## 0.3.0 (not released yet)\n\n## 0.2.1 (2027-01-02)\n'))
  t.true(isReleased('## 1.0.0 (2028-01-01)\n'))
})
