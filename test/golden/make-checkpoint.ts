import { checkpoint, cosignature } from './checkpoint.js'
import { writeGolden } from './golden-file.js'

writeGolden('checkpoint', checkpoint())
writeGolden('cosignature', cosignature())
