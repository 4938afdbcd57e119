/** Asks whoever sits at the terminal for a secret: not shown while it is typed, so that it stays in no recording. */
import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'

/** Lines until `isWhole` says that it is all, or there are no more. */
export async function askUnseen(
  what: string,
  signal: AbortSignal,
  isWhole: (text: string) => boolean,
): Promise<string> {
  const unseen = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: process.stdin, output: unseen, terminal: true })
  // Asked only now that the terminal shows no letters. It sends Ctrl-C as one, too.
  process.stderr.write(`${what} (not shown): `)
  lines.on('SIGINT', () => process.kill(process.pid, 'SIGINT'))
  let text = ''
  try {
    return await new Promise<string>((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
      lines.on('line', (line) => {
        text += `${line}\n`
        if (isWhole(text)) resolve(text)
      })
      lines.once('close', () => resolve(text))
    })
  } finally {
    lines.close()
    process.stderr.write('\n')
  }
}
