/** How many hosts a stripe may lose, whichever they are. Shards are counted by the host that holds them. */

/**
 * The largest t such that losing any t hosts leaves at least `k` shards: the t fullest hosts are the worst loss.
 * -1 where fewer than `k` shards are left already.
 */
export function stripeSurvives(k: number, hosts: readonly (string | number)[]): number {
  const counts = new Map<string | number, number>()
  for (const host of hosts) counts.set(host, (counts.get(host) ?? 0) + 1)
  let left = hosts.length
  let survives = -1
  for (const count of [0, ...[...counts.values()].sort((a, b) => b - a)]) {
    left -= count
    if (left < k) break
    survives++
  }
  return survives
}
