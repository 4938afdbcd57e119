/**
 * A process of its own that looks through a catalog, so that the coordinator answers meanwhile: `node auditor.js FOLDER`.
 * It says what it found as one line of JSON; its exit code is 0 only if it could look.
 */
import { auditCatalog } from '../catalog/audit.js'

const [, , folder] = process.argv
process.stdout.write(`${JSON.stringify(auditCatalog(folder ?? ''))}\n`)
