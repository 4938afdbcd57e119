import type { Head } from '../keys/head.js'
import type { SnapshotSummary } from './types.js'

const NO_FLAWS = { bytes: 0, ranges: [], files: [] }

/** Of a snapshot whose run nobody here saw: what its head says, and what else is `known`. */
export function summaryOfHead({ root }: Pick<Head, 'root'>, known: Partial<SnapshotSummary>): SnapshotSummary {
  return {
    ...{ sourceBytes: 0, allocatedBytes: 0, readBytes: 0, newBytes: 0, storedBytes: 0, blocks: 0, newBlocks: 0 },
    ...{ files: 0, seconds: 0, view: '', volumes: [], leftOut: [], unreadable: NO_FLAWS, torn: NO_FLAWS },
    ...{ domains: [], perHost: {}, fileTypes: {}, owners: {}, notes: [] },
    ...{ tolerate: root.m, k: root.k, m: root.m },
    ...known,
  }
}
