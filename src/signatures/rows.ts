/** Rows in which signatures come and go, bytes back to back: in batches of the catalog, and in the signature repository. */

/** A signature (`id`) in a batch. */
export const ID_BYTES = 32
/** A row of `commit`: id 32 | offset u32 LE | length u32 LE; its ordinal is its row number. */
export const RECORD_BYTES = 40
/** A row of the signature repository: docs/formats/segment.md. */
export const SIGNATURE_BYTES = 56
