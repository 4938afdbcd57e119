/** How points in time and lists of amounts read in a terminal. */
import { formatBytes } from '../base/units.js'

/** `2026-11-21 07:05`, UTC. */
export function formatTime(timeMs: number): string {
  const time = new Date(timeMs)
  return Number.isNaN(time.getTime()) ? '-' : time.toISOString().slice(0, 16).replace('T', ' ')
}

/** `.so 1.2 GB, .html 300 MB`, the largest first. */
export function formatShares(shares: Readonly<Record<string, number>>, most: number): string {
  const rows = Object.entries(shares).sort(([, a], [, b]) => b - a)
  const shown = rows.slice(0, most).map(([name, bytes]) => `${name} ${formatBytes(bytes)}`)
  const rest = rows.length - shown.length
  return [...shown, ...(rest > 0 ? [`and ${rest} more`] : [])].join(', ') || '-'
}
