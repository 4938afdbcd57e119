/** The membership of now, from the coordinator: at once, or step by step where a host was away while many left. */
import { hasCode } from '../base/errors.js'
import type { RemoteCatalog } from '../coordinator/client.js'
import type { Home } from '../keys/home.js'

/** More than anybody removes; a coordinator that makes up more is left. */
const MOST_STEPS = 10_000

/** True where there was a newer one. Throws MEMBERSHIP_SHRINKS where no step is left that a host may take. */
export async function followMembership(home: Home, coordinator: RemoteCatalog): Promise<boolean> {
  try {
    return home.saveMembership(await coordinator.membership())
  } catch (error) {
    if (!hasCode(error, 'MEMBERSHIP_SHRINKS')) throw error
    if (!(await step(home, coordinator))) throw error
  }
  for (let steps = 1; steps < MOST_STEPS && (await step(home, coordinator)); steps++);
  return true
}

async function step(home: Home, coordinator: RemoteCatalog): Promise<boolean> {
  const { term, handed, sequence } = home.membership()
  return home.saveMembership(await coordinator.membership({ term, handed, sequence }))
}
