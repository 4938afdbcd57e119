/** A file of a coordinator's state folder that only a recovery makes anew, and the line that does it. */
import { ImagerError } from '../base/errors.js'

/** `peer`: address of any peer, where one is known. */
export function stateDamaged(path: string, why: string, state: string, peer = 'HOST:7421'): ImagerError {
  const todo = `imager recover --words-file words.txt --peer ${peer} --state ${state}`
  return new ImagerError('STATE_DAMAGED', { path, why, todo })
}
