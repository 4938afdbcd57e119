/** Makes `forget`, `hold`, `release` and `policy`: `node build/test/golden/make-orders.js`. */
import { writeGolden } from './golden-file.js'
import { orders } from './orders.js'

for (const [name, bytes] of Object.entries(orders())) writeGolden(name, bytes)
