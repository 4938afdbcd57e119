/** What a coordinator says of itself once its term is over. */
import { ImagerError } from '../base/errors.js'
import type { Home } from '../keys/home.js'

/** By the membership that its state folder holds, which names who took its place. */
export function replaced(home: Home): ImagerError {
  const { term, coordinator: named } = home.membership()
  const given = home.handedOver
  const coordinator = given?.to ?? named
  const { name = coordinator.slice(0, 8) } = given ?? home.membership().find(coordinator) ?? {}
  return new ImagerError('REPLACED', { name, address: home.addresses.of(coordinator)[0] ?? '', term })
}
