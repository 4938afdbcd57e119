/** A port that was chosen at a daemon's first start is that of all later ones. */
import type { Report } from '../base/report.js'
import type { Home } from '../keys/home.js'

/** Where it was told otherwise than in its state folder, nothing is kept. A folder that cannot be written ends no daemon. */
export function keepPort(home: Home, listen: string, taken: string, report: Report): void {
  if (listen !== home.config.listen) return
  try {
    home.keepPort(taken)
  } catch (error) {
    report('its port', error)
  }
}
