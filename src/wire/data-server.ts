/**
 * The serving end of data connections. They come to the same port as everything else, told apart by their first byte, and
 * the addon takes them over with their socket. Here it is decided who may ask; the handler gives the orders. What readers
 * fetch does not come by here, once they are named.
 */
import type { Socket } from 'node:net'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import {
  CONNECT_TIMEOUT_MS,
  DATA_CONNECTIONS,
  DATA_CONNECTIONS_PER_HOST,
  IDLE_TIMEOUT_MS,
  KEEP_ALIVE_MS,
  LINGER_MS,
  TRANSFER_TIMEOUT_MS,
} from '../base/limits.js'
import type { TlsIdentity } from '../keys/certificate.js'
import { DATA_PREAMBLE, type DataQuestion, DataServer } from '../native.js'
import { encodeRefusal, notMember } from './refusal.js'

export interface DataDoorOptions {
  readonly tls: TlsIdentity
  admit(host: Hex): boolean
  /** Gives its orders to the question; what it throws becomes a refusal. */
  handle(question: DataQuestion): Promise<void>
  report?(error: unknown, path: string): void
  readonly idleTimeoutMs?: number
}

type Server = InstanceType<typeof DataServer>

export class DataDoor {
  readonly #options: DataDoorOptions
  #server: Server
  /** With connections that may end what they are at, and begin nothing else. */
  readonly #former = new Set<Server>()
  #ending: Promise<unknown> = Promise.resolve()
  #readers: readonly Hex[] = []

  constructor(options: DataDoorOptions) {
    this.#options = options
    this.#server = this.#open()
  }

  #open(): Server {
    const { tls, idleTimeoutMs = IDLE_TIMEOUT_MS } = this.#options
    const limits = {
      connections: DATA_CONNECTIONS,
      connectionsPerHost: DATA_CONNECTIONS_PER_HOST,
      greetingMs: 2 * CONNECT_TIMEOUT_MS,
      idleMs: idleTimeoutMs,
      keepMs: KEEP_ALIVE_MS,
      transferMs: TRANSFER_TIMEOUT_MS,
    }
    return new DataServer(tls.key, tls.cert, limits, (question) => void this.#answer(question))
  }

  /** Takes the connection of which `head` was read, if it is a data connection. */
  takes(socket: Socket, head: Buffer): boolean {
    if (head[0] !== DATA_PREAMBLE) return false
    this.#take(socket, head)
    return true
  }

  /**
   * From now on these hosts, and no others, are sent what they fetch from the folder without a question. Where one is no reader any
   * more, all connections end: those that are idle at once, the others with the shard that they carry.
   */
  letRead(folder: string, readers: readonly Hex[]): void {
    const isLess = this.#readers.some((host) => !readers.includes(host))
    this.#readers = readers
    if (isLess) this.#beginAnew()
    const keys = readers.map((host) => Buffer.from(host, 'hex'))
    for (const server of this.#all()) server.letRead(folder, keys)
  }

  get connections(): number {
    return this.#all().reduce((sum, server) => sum + server.connections, 0)
  }

  async close(): Promise<void> {
    await Promise.all(this.#all().map((server) => server.close(LINGER_MS)))
  }

  #all(): Server[] {
    return [this.#server, ...this.#former]
  }

  /** Whose connection it is only the addon knows, so nobody keeps his: who may still come opens another. */
  #beginAnew(): void {
    const old = this.#server
    this.#server = this.#open()
    this.#former.add(old)
    // One after the other: each takes a thread as long as it waits.
    this.#ending = this.#ending.then(() => old.close(TRANSFER_TIMEOUT_MS)).finally(() => this.#former.delete(old))
  }

  /** Node gives no other way to the descriptor. Nothing reads from the socket before it is destroyed. */
  #take(socket: Socket, head: Buffer): void {
    const { fd = -1 } = (socket as unknown as { _handle?: { fd?: number } })._handle ?? {}
    try {
      this.#server.adopt(fd, head)
    } catch (error) {
      this.#options.report?.(error, 'data connection')
    } finally {
      socket.destroy()
    }
  }

  async #answer(question: DataQuestion): Promise<void> {
    try {
      if (!this.#options.admit(question.host)) return question.expel(encodeRefusal(notMember()).body)
      await this.#options.handle(question)
    } catch (error) {
      if (!(error instanceof ImagerError)) this.#options.report?.(error, 'data connection')
      try {
        question.refuse(encodeRefusal(error).body)
      } catch {
        // Whoever asked is gone.
      }
    }
  }
}
