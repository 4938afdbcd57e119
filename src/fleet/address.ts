/** Where others reach what listens here. */
import { networkInterfaces } from 'node:os'

/** For "every interface" that is this computer's first address on a network, else what it says. */
export function advertised(listen: string): string {
  const [, host, port] = /^(.*):(\d+)$/.exec(listen) ?? []
  if (host !== '0.0.0.0' && host !== '[::]') return listen
  const all = Object.values(networkInterfaces()).flatMap((one) => one ?? [])
  const first = all.find((one) => !one.internal && one.family === 'IPv4')
  return `${first?.address ?? '127.0.0.1'}:${port}`
}
