/** Asks whoever sits at the terminal before something is lost. */
import { createInterface } from 'node:readline'
import { ImagerError } from '../base/errors.js'
import { printable } from './output.js'

/** Asks once. Throws NOT_CONFIRMED unless the answer is yes; without a terminal nobody can be asked, and all is as it was. */
export async function confirm(question: string, signal: AbortSignal): Promise<void> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  // The terminal sends Ctrl-C as a letter now.
  lines.on('SIGINT', () => process.kill(process.pid, 'SIGINT'))
  try {
    const answer = await new Promise<string>((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
      lines.once('close', () => resolve(''))
      lines.question(`${printable(question)} Type yes to go on: `, resolve)
    })
    if (answer.trim().toLowerCase() !== 'yes') throw new ImagerError('NOT_CONFIRMED')
  } finally {
    lines.close()
  }
}
