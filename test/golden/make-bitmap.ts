/** Makes `bitmap-delta`: `node build/test/golden/make-bitmap.js`. */
import { delta } from './bitmap.js'
import { writeGolden } from './golden-file.js'

writeGolden('bitmap-delta', delta)
