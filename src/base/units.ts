/** Sizes, and how people read them. */
export const KiB = 1024
export const MiB = 1024 * KiB
export const GiB = 1024 * MiB

/** `1.5 GB`: decimal units, as disks are sold. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  // A rate below a kilobyte may be a fraction; a count of bytes is none.
  if (unit === 0 && Number.isInteger(bytes)) return `${bytes} B`
  return `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`
}

/** `1 host`, `3 hosts`. */
export function formatCount(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}

/** `120 days`, `3d 04h`, `1h 02m`, `3m 05s`, `12 s`, `1.4 s`. */
export function formatSeconds(seconds: number): string {
  const whole = Math.round(seconds)
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`
  if (whole < 60) return `${whole} s`
  const pad = (value: number) => String(value).padStart(2, '0')
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${pad(whole % 60)}s`
  const hours = Math.floor(whole / 3600)
  if (hours < 48) return `${hours}h ${pad(Math.floor((whole % 3600) / 60))}m`
  const days = Math.floor(hours / 24)
  return days < 10 && hours % 24 > 0 ? `${days}d ${pad(hours % 24)}h` : `${days} days`
}

/** `2026-11-21 09:05 +01:00`: the time here, with its zone; ms since 1970. With seconds for logs. */
export function formatTime(timeMs: number, to: 'minutes' | 'seconds' = 'minutes'): string {
  const behindMinutes = new Date(timeMs).getTimezoneOffset()
  if (Number.isNaN(behindMinutes)) return '-'
  const here = new Date(timeMs - behindMinutes * 60_000)
  if (Number.isNaN(here.getTime())) return '-'
  const text = here
    .toISOString()
    .replace('T', ' ')
    .slice(0, to === 'minutes' ? -8 : -5)
  if (behindMinutes === 0) return `${text} UTC`
  const away = Math.abs(behindMinutes)
  const pad = (value: number) => String(value).padStart(2, '0')
  return `${text} ${behindMinutes < 0 ? '+' : '-'}${pad(Math.floor(away / 60))}:${pad(away % 60)}`
}
