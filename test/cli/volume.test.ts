import test from 'ava'
import { findVolume } from '../../src/cli/volume.js'

test('a volume is named by its source, its host and source, or its id, and only where one is meant', (t) => {
  const volume = (applianceName: string, source: string, id: string) => ({
    ...{ appliance: applianceName, applianceName, volume: id.padEnd(32, '0'), source },
    ...{ tolerate: null, maxAgeMs: null, target: 1, retired: false },
  })
  const [first, second, third] = [
    volume('a', '/dev/sdb', 'aaaaaaaa'),
    volume('b', '/dev/sdb', 'bbbbbbbb'),
    volume('b', '/dev/sdc', 'bbbbbbcc'),
  ]
  const find = (name: string) => findVolume([first, second, third], name, 'retire')
  t.is(find('/dev/sdc'), third)
  t.is(find('b:/dev/sdb'), second)
  t.is(find('aaaaaaaa'), first)
  t.throws(() => find('/dev/sdb'), { code: 'USAGE', message: /a:\/dev\/sdb, b:\/dev\/sdb/ })
  for (const wrong of ['/dev/sdz', 'bbbbbb', '']) t.throws(() => find(wrong), { code: 'NO_SUCH_VOLUME' })
})
