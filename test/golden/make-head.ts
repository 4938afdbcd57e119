/** Makes `head`: `node build/test/golden/make-head.js`. */
import { signHead } from '../../src/keys/head.js'
import { writeGolden } from './golden-file.js'
import { appliance, head, trailerKey } from './head.js'

writeGolden('head', signHead(head, appliance, trailerKey))
