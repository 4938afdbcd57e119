/** The progress of long work, as a line. */
import { formatBytes, formatSeconds } from '../base/units.js'
import type { Progress, Report } from '../jobs/progress.js'
import type { Output } from './output.js'

export function progressOf(output: Output): Report {
  return (progress) => output.progress(progress, render, progress.waiting ? progress.phase : '')
}

function render({ phase, doneBytes, totalBytes, bytesPerSecond, etaSeconds, waiting }: Progress): string {
  if (waiting && totalBytes === 0) return phase
  const percent = totalBytes > 0 ? Math.floor((100 * doneBytes) / totalBytes) : 100
  const left = etaSeconds === null ? '' : `, ${formatSeconds(etaSeconds)} left`
  return `${phase}: ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)} (${percent} %), ${formatBytes(bytesPerSecond)}/s${left}`
}
