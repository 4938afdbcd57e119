/**
 * Connections whose other end has not proved yet that it is a member. They are bounded, over all and for each address; for one
 * more the oldest ends: a crowd of strangers pushes out strangers, and no member.
 */
import type { Socket } from 'node:net'
import { FIRST_BYTE_MS, UNPROVED_CONNECTIONS, UNPROVED_PER_ADDRESS } from '../base/limits.js'

/** What a TLS socket has in common with the one below it. */
type End = Pick<Socket, 'remoteAddress' | 'remotePort'>

export class Unproved {
  /** By address and port, oldest first. */
  readonly #sockets = new Map<string, Socket>()
  readonly #byAddress = new Map<string, number>()

  constructor(
    private readonly most = UNPROVED_CONNECTIONS,
    private readonly mostPerAddress = UNPROVED_PER_ADDRESS,
  ) {}

  enter(socket: Socket): void {
    const address = addressOf(socket)
    if ((this.#byAddress.get(address) ?? 0) >= this.mostPerAddress) this.#endOldest(address)
    else if (this.#sockets.size >= this.most) this.#endOldest()
    this.#sockets.set(nameOf(socket), socket)
    this.#byAddress.set(address, (this.#byAddress.get(address) ?? 0) + 1)
    const name = nameOf(socket)
    socket.once('close', () => this.#leave(name, address))
  }

  /** A member's: it is not counted here any more. */
  proved(end: End): void {
    this.#leave(nameOf(end), addressOf(end))
  }

  get size(): number {
    return this.#sockets.size
  }

  #endOldest(address?: string): void {
    for (const [name, socket] of this.#sockets) {
      if (address !== undefined && addressOf(socket) !== address) continue
      this.#leave(name, addressOf(socket))
      socket.destroy()
      return
    }
  }

  #leave(name: string, address: string): void {
    if (!this.#sockets.delete(name)) return
    const left = (this.#byAddress.get(address) ?? 1) - 1
    if (left > 0) this.#byAddress.set(address, left)
    else this.#byAddress.delete(address)
  }
}

/** Calls `hear` with what came first, and the socket as if that had not been read. Who is silent is cut off. */
export function atFirstByte(socket: Socket, hear: (head: Buffer) => void): void {
  const end = () => socket.destroy()
  const timer = setTimeout(end, FIRST_BYTE_MS)
  socket.on('error', end)
  socket.once('close', () => clearTimeout(timer))
  socket.once('readable', () => {
    clearTimeout(timer)
    socket.removeListener('error', end)
    const head = socket.read() as Buffer | null
    if (head === null) return end()
    hear(head)
  })
}

function addressOf({ remoteAddress }: End): string {
  return remoteAddress ?? ''
}

function nameOf({ remoteAddress, remotePort }: End): string {
  return `${remoteAddress ?? ''} ${remotePort ?? ''}`
}
