/** The system's own tools, run to their end. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { ImagerError } from '../base/errors.js'

/** What it printed. Throws IO with what it said on stderr. */
export async function command(name: string, args: readonly string[]): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(name, args, { env: { ...process.env, LC_ALL: 'C' } })
    return stdout
  } catch (cause) {
    const { code, stderr } = cause as NodeJS.ErrnoException & { stderr?: string }
    const why =
      code === 'ENOENT' ? 'it is not installed' : stderr?.trim().replaceAll(/\s*\n\s*/g, '; ') || String(cause)
    throw new ImagerError('IO', { what: `${name} ${args.join(' ')} failed: ${why}` }, { cause })
  }
}
