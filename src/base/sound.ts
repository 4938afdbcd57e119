import { hasCode } from './errors.js'

/** What rotted in one place, or was forged there, is whole in another: undefined where it cannot be read. */
export function ifSound<T>(open: () => T): T | undefined {
  try {
    return open()
  } catch (error) {
    if (hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED')) return undefined
    throw error
  }
}
