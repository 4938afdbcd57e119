/**
 * The signature repository: id -> where its record lies. The part of the catalog that outgrows a machine, so it stands
 * behind an interface of batch calls only. It knows nothing of what is committed: the caller asks only for stripes that
 * are. `segments.ts` is its one driver.
 */

/** Rank of a stripe for the nth id of a batch: below 0 = do not use. Higher is taken first. */
export type Rank = (stripe: number, nth: number) => number

export interface SignatureBatch {
  stripe: number
  /** Rows of id 32 | offset u32 LE | length u32 LE. */
  records: Uint8Array
  /** One for each row; stripe * 65,536 + row number where absent. */
  births?: BigUint64Array
}

export interface FoundLocations {
  /** 0 = unknown. */
  births: BigUint64Array
  stripes: Float64Array
  offsets: Uint32Array
  lengths: Uint32Array
}

export interface SignatureRepository {
  /** Within the caller's transaction, or before it: nothing asks for these stripes until that is committed. */
  insert(batches: readonly SignatureBatch[]): void
  /** After the transaction: keeps memory bounded, and makes the caller wait where that lags behind. */
  settle(): Promise<void>
  /** `ids` of 32 bytes each. Of several locations the one of highest rank. */
  find(ids: Uint8Array, rank: Rank): Promise<FoundLocations>
  close(): void
}
