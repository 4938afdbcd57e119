/** Identifiers as people and JSON see them: lower-case hexadecimal. */
export type Hex = string

export function toHex(bytes: Uint8Array): Hex {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

/** Strict: even length, only hex digits, exactly `lengthBytes` where given; else undefined. */
export function fromHex(text: string, lengthBytes?: number): Buffer | undefined {
  if (!/^(?:[0-9a-f]{2})*$/.test(text)) return undefined
  const bytes = Buffer.from(text, 'hex')
  return lengthBytes === undefined || bytes.length === lengthBytes ? bytes : undefined
}
