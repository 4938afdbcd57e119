/** Which disk a person means. */
import { ImagerError } from '../base/errors.js'
import type { VolumePolicy } from '../catalog/types.js'
import { usage } from './arguments.js'

type Volume = Pick<VolumePolicy, 'source' | 'applianceName' | 'volume'>

/** By its source, host and source, or the beginning of its id. Throws NO_SUCH_VOLUME, and USAGE where several are meant. */
export function findVolume<V extends Volume>(volumes: readonly V[], name: string, verb: string): V {
  const isId = /^[0-9a-f]{8,32}$/.test(name)
  const found = volumes.filter(({ source, applianceName, volume }) => {
    return name === source || name === `${applianceName}:${source}` || (isId && volume.startsWith(name))
  })
  const [first, second] = found
  if (first === undefined) throw new ImagerError('NO_SUCH_VOLUME', { name })
  if (second === undefined) return first
  const names = found.map((one) => `${one.applianceName}:${one.source}`).join(', ')
  throw usage(`${name} is the disk of several hosts: name one of ${names}`, verb)
}
