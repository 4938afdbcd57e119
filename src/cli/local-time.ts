/** `2026-11-28 23:05:12 +01:00`: this computer's time, with what it is ahead of UTC. */
export function localTime(timeMs: number): string {
  const time = new Date(timeMs)
  if (Number.isNaN(time.getTime())) return '-'
  const ahead = -time.getTimezoneOffset()
  const shown = new Date(timeMs + ahead * 60_000).toISOString().slice(0, 19).replace('T', ' ')
  const pad = (value: number) => String(value).padStart(2, '0')
  const minutes = Math.abs(ahead)
  return `${shown} ${ahead < 0 ? '-' : '+'}${pad(Math.floor(minutes / 60))}:${pad(minutes % 60)}`
}
