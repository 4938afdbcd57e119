/** The membership of now, from the coordinator: at once, or step by step where a host was away while many left. */
import { hasCode } from '../base/errors.js'
import type { RemoteCatalog } from '../coordinator/client.js'
import type { Home } from '../keys/home.js'

/** More than anybody removes; a coordinator that makes up more is left. */
const MOST_STEPS = 10_000

/**
 * True where there was a newer one. A coordinator that shows another, and not a newer one, was set back: it is shown the own. Throws
 * MEMBERSHIP_SHRINKS where no step is left that a host may take.
 */
export async function followMembership(home: Home, coordinator: RemoteCatalog): Promise<boolean> {
  try {
    const said = await known(home, coordinator)
    if (home.saveMembership(said)) return true
    if (!said.equals(home.membership().bytes)) await showMembership(home, coordinator)
    return false
  } catch (error) {
    if (!hasCode(error, 'MEMBERSHIP_SHRINKS')) throw error
    if (!(await step(home, coordinator))) throw error
  }
  for (let steps = 1; steps < MOST_STEPS && (await step(home, coordinator)); steps++);
  return true
}

/** A coordinator that was set back to before this host joined does not know it: unless it was removed, its own membership shows that. */
async function known(home: Home, coordinator: RemoteCatalog): Promise<Buffer> {
  try {
    return await coordinator.membership()
  } catch (error) {
    if (!hasCode(error, 'REMOVED')) throw error
    await showMembership(home, coordinator)
    return coordinator.membership()
  }
}

/** Brings the own one to a coordinator that may have been set back. What it does not take says nothing against it. */
export async function showMembership(home: Home, coordinator: RemoteCatalog): Promise<void> {
  try {
    await coordinator.show('membership', home.membership().bytes)
  } catch (error) {
    if (!hasCode(error, 'FORGED', 'CORRUPT', 'HOST_REFUSED', 'COORDINATOR_READ_ONLY', 'REPLACED')) throw error
  }
}

async function step(home: Home, coordinator: RemoteCatalog): Promise<boolean> {
  const { term, handed, sequence } = home.membership()
  return home.saveMembership(await coordinator.membership({ term, handed, sequence }))
}
