/** Makes `receipt`: `node build/test/golden/make-receipt.js`. */
import { writeGolden } from './golden-file.js'
import { signed } from './receipt.js'

writeGolden('receipt', signed())
