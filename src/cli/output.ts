/**
 * One report, two faces: text for people, `--json` for programs. Reports go to stdout; progress of people, and errors of
 * people, go to stderr. With `--json` everything is one JSON object a line on stdout, an error among them.
 *
 * What stdout does not take is said once, on stderr, and makes the exit code a failure; the work goes on, a listing ends. A
 * reader that went away (`imager ls latest / | head -1`) is no failure.
 */
import { Exit, ImagerError, reason } from '../base/errors.js'
import { shellWord } from '../base/shell.js'
import { systemError, whyRefused } from '../base/system.js'
import { formatTime } from '../base/units.js'

export interface Streams {
  /** Throws where it does not take all of it. */
  stdout: { write(text: string): unknown }
  stderr: { write(text: string): unknown; isTTY?: boolean }
}

export class Output {
  #transient = false
  #news = ''
  /** What stdout did not take was lost, or left by its reader. */
  #ended: 'lost' | 'left' | undefined
  readonly #warned = new Map<string, string>()
  /** As it was typed: what is to be typed next says it again. */
  state: string | undefined

  constructor(
    readonly json: boolean,
    private readonly streams: Streams,
  ) {}

  /** The result of a command, or a line of it. */
  report<T extends object>(value: T, text: (value: T) => string): void {
    this.#clear()
    this.#write(this.json ? `${this.#asJson(value)}\n` : ensureLine(printable(this.#hinted(text(value)))))
  }

  /** What cannot be said a second time. Throws OUTPUT_LOST where it did not arrive. */
  reportOnce<T extends object>(value: T, text: (value: T) => string): void {
    this.report(value, text)
    if (this.#ended === 'left') throw new ImagerError('OUTPUT_LOST', { why: 'nobody reads it' })
    if (this.#ended) throw new OutputEnded()
  }

  /** Text that was asked for, as help is. */
  print(text: string): void {
    this.#write(ensureLine(text))
  }

  /** Lines of a long listing, in one piece. Names come from disks: whatever they hold, each stays on its line. */
  lines<T extends object>(values: readonly T[], text: (value: T) => string): void {
    if (values.length === 0) return
    this.#clear()
    const show = this.json ? (value: T) => this.#asJson(value) : (value: T) => oneLine(text(value))
    this.#write(`${values.map(show).join('\n')}\n`)
    if (this.#ended) throw new OutputEnded()
  }

  /** Overwritten by the next one on a terminal. In a log people find `news` only, once until it changes. */
  progress<T extends object>(value: T, text: (value: T) => string, news = ''): void {
    if (this.json) {
      this.#write(`${this.#asJson({ status: 'progress', ...value })}\n`)
    } else if (this.streams.stderr.isTTY) {
      this.streams.stderr.write(`\r\u001b[2K${oneLine(text(value))}`)
      this.#transient = true
    } else if (news !== this.#news) {
      this.#news = news
      if (news) this.note(printable(news))
    }
  }

  /** A line for people only, beside the report. */
  note(text: string): void {
    this.#clear()
    if (!this.json) this.streams.stderr.write(`${printable(this.#hinted(text))}\n`)
  }

  /** The same for programs too, where its lines have no field for it: always on stderr. */
  aside(text: string): void {
    if (text === '') return
    this.#clear()
    this.streams.stderr.write(`${oneLine(text)}\n`)
  }

  /** What a daemon could not do now and will try again: said once, until it changes. For the log, so always on stderr. */
  readonly warn = (what: string, error: unknown): void => {
    const line = `${what}: ${error instanceof Error ? error.message : String(error)}`
    if (this.#warned.get(what) === line) return
    this.#warned.set(what, line)
    this.streams.stderr.write(`${formatTime(Date.now(), 'seconds')} ${printable(line)}\n`)
  }

  /** The exit code of a command that ended with this one. */
  exit(code: number): number {
    return this.#ended === 'lost' && code === Exit.done ? Exit.failed : code
  }

  /** Says what went wrong and what to do; gives the exit code. */
  fail(error: unknown): number {
    if (error instanceof OutputEnded) return this.exit(Exit.done)
    this.#clear()
    const known = asImagerError(error)
    const message = known?.message ?? `Internal error: ${error instanceof Error ? error.message : String(error)}`
    const remedy =
      known?.remedy ?? 'This is a bug of imager; run again with IMAGER_DEBUG=1 for its place and report it.'
    if (this.json)
      this.#write(`${this.#asJson({ status: 'error', code: known?.code ?? 'INTERNAL', message, remedy })}\n`)
    if (!this.json || this.#ended) this.#complain(message, remedy)
    if (process.env.IMAGER_DEBUG) this.streams.stderr.write(`${inspectChain(error)}\n`)
    return known?.exit ?? Exit.failed
  }

  /** A command of imager that runs with the state folder of this one, as it is to be typed. */
  typed(command: string): string {
    return `\`imager ${command}${this.state === undefined ? '' : ` --state ${shellWord(this.state)}`}\``
  }

  /** What is to be typed here, with this state folder. What is said of other hosts stays as it is. */
  #hinted(text: string): string {
    if (this.state === undefined) return text
    return text.replace(TYPED, (all, command: string) => (/ --(state|help)\b/.test(all) ? all : this.typed(command)))
  }

  /** Nothing that could move a cursor or turn the direction of writing, where a person looks at it; remedies can be typed. */
  #asJson(value: object): string {
    const hinted = (key: string, inner: unknown) =>
      key === 'remedy' && typeof inner === 'string' ? this.#hinted(inner) : inner
    const line = JSON.stringify(value, hinted)
    // Nearly all of them, and a listing has a million.
    return PLAIN.test(line) ? line : line.replace(UNPRINTABLE, escaped)
  }

  #write(text: string): void {
    if (this.#ended) return
    try {
      this.streams.stdout.write(text)
    } catch (error) {
      this.#ended = (error as NodeJS.ErrnoException).code === 'EPIPE' ? 'left' : 'lost'
      if (this.#ended === 'left') return
      const lost = new ImagerError('OUTPUT_LOST', { why: whyRefused(error) ?? reason(error) }, { cause: error })
      this.#complain(lost.message, lost.remedy)
    }
  }

  #complain(message: string, remedy: string): void {
    this.streams.stderr.write(`imager: ${printable(message)}\n${printable(this.#hinted(remedy))}\n`)
  }

  #clear(): void {
    if (this.#transient) this.streams.stderr.write('\r\u001b[2K')
    this.#transient = false
  }
}

/** Control, direction, and what ends a line elsewhere. */
const PLAIN = /^[ -~]*$/
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu
/** The commands that look at a fleet from the state folder of the one that speaks of them; not what is to be typed on another host. */
const TYPED =
  /`imager ((?:hosts|status|check|snapshots?|show|ls|restore|mount|events|policy|rename|remove|retire|peer|lock)\b[^`]*)`(?! on )/g

function escaped(character: string): string {
  return Array.from({ length: character.length }, (_, at) => {
    return `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`
  }).join('')
}

/** A listing whose lines nobody takes any more; why was said. */
class OutputEnded extends Error {}

/** Columns as wide as their widest cell; cells that are all numbers should come padded by the caller. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows].map((row) => row.map(printable))
  const widths = header.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  const lines = all.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '))
  return lines.map((line) => line.trimEnd()).join('\n')
}

/** Names and messages of other hosts reach a terminal: nothing that could move its cursor. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => (character === '\n' ? '\n' : '?'))
}

/** The same, without line breaks. */
export function oneLine(text: string): string {
  return printable(text).replaceAll('\n', '?')
}

function asImagerError(error: unknown): ImagerError | undefined {
  return error instanceof ImagerError ? error : systemError(error)
}

function ensureLine(text: string): string {
  return text.endsWith('\n') || text === '' ? text : `${text}\n`
}

function inspectChain(error: unknown): string {
  const parts: string[] = []
  for (let at: unknown = error; at instanceof Error; at = at.cause) parts.push(at.stack ?? at.message)
  return parts.join('\ncaused by ')
}
