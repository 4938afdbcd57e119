/** The man page, made of what `--help` prints and of the table of exit codes. */
import { hostname } from 'node:os'
import { main } from '../src/cli/main.js'

/** A line of roff that shows `text` as it is. */
const literal = (text: string) =>
  text
    .replaceAll('\\', '\\e')
    .replace(/^(?=[.'])/, '\\&')
    .replaceAll('-', '\\-')

/** As it is on every host: without its name, its state folder, and the space that a terminal leaves. */
async function help(...argv: string[]): Promise<string[]> {
  let text = ''
  const stdout = { write: (chunk: string) => (text += chunk) }
  await main([...argv, '--help'], { stdout, stderr: stdout }, new AbortController().signal)
  const general = text
    .replace(/\(or IMAGER_STATE; default [^)]*\)/, '(or IMAGER_STATE)')
    .replaceAll(`[default: "${hostname()}"]`, "[default: this host's]")
    .replaceAll(/ {2,}\[/g, '  [')
  return general
    .trimEnd()
    .split('\n')
    .map((line) => line.trimEnd())
}

const shown = (lines: readonly string[]) => ['.nf', ...lines.map(literal), '.fi']

/** `meanings` are rows of code and meaning. */
export async function manual(meanings: readonly (readonly [code: string, meaning: string])[]): Promise<string> {
  const overview = await help()
  const names = overview.flatMap((line) => /^ {2}([a-z]+(?: [a-z]+)?)(?: [<[].*)? {2,}/.exec(line)?.[1] ?? [])
  const commands: string[] = []
  for (const name of names) commands.push(`.SS imager ${name}`, ...shown((await help(...name.split(' '))).slice(2)))
  return `${[
    '.TH IMAGER 1',
    '.SH NAME',
    'imager \\- a server\\(aqs disk, kept on the unused disk of ordinary computers',
    '.SH SYNOPSIS',
    ...shown(overview.slice(2)),
    '.SH COMMANDS',
    ...commands,
    '.SH EXIT STATUS',
    ...meanings.flatMap(([code, meaning]) => ['.TP', `.B ${code}`, literal(meaning)]),
    '.SH FILES',
    '.TP',
    '.I /var/lib/imager',
    'The state folder of root; of others it is imager in $XDG_STATE_HOME. \\-\\-state and IMAGER_STATE name another one.',
  ].join('\n')}\n`
}
