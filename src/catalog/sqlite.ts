/**
 * SQLite, loaded when somebody needs a catalog of his own. The program is one file, and what that imports from other packages
 * by name is loaded at every start.
 */
import { createRequire } from 'node:module'
import type Database from 'better-sqlite3'

export const Sqlite = createRequire(import.meta.url)('better-sqlite3') as typeof Database
