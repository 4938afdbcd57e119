/** What admins said, and the policy, as the coordinator keeps it and has it brought to every peer. */
import { hasCode, ImagerError } from '../base/errors.js'
import { toHex } from '../base/ids.js'
import { ORDERS_A_SIGNER } from '../base/limits.js'
import type { DeliveredKind } from '../catalog/deliveries.js'
import type { LocalCatalog } from '../catalog/local.js'
import type { Home } from '../keys/home.js'
import type { Membership } from '../keys/membership.js'
import { ORDER_KINDS, type OrderKind, openOrder, orderName } from '../keys/orders.js'
import { openPolicy } from '../keys/policy.js'
import { hash } from '../native.js'

export interface Said {
  readonly kind: DeliveredKind
  readonly name: string
  readonly version: string
  readonly bytes: Buffer
}

/** Keeps an order; gives its name. Throws FORGED, HOST_REFUSED where there are too many of that admin. */
export function keepOrder(home: Home, catalog: LocalCatalog, kind: OrderKind, bytes: Buffer): string {
  const { registry } = catalog
  const order = openOrder(kind, bytes, home.membership().adminsBy(home.rootKey))
  const name = orderName(order)
  catalog.write(() => {
    if (registry.document(kind, name)) return
    const own = registry.documents(kind).filter((one) => one.name.startsWith(order.signer)).length
    if (own >= ORDERS_A_SIGNER) {
      throw new ImagerError('HOST_REFUSED', { host: 'The coordinator', why: `it holds ${own} of that admin` })
    }
    registry.setDocument(kind, name, order.body.time, bytes)
  })
  return name
}

/** All that counts by the membership of now; looked at anew only where something changed. */
export class OrderBook {
  readonly #home: Home
  readonly #catalog: LocalCatalog
  #known: { readonly at: string; readonly membership: Membership; readonly said: readonly Said[] } | undefined

  constructor(home: Home, catalog: LocalCatalog) {
    this.#home = home
    this.#catalog = catalog
  }

  said(): readonly Said[] {
    const membership = this.#home.membership()
    const at = this.#catalog.registry.stampOf([...ORDER_KINDS, 'policy'])
    if (this.#known?.at !== at || this.#known.membership !== membership) {
      this.#known = { at, membership, said: this.#sound(membership) }
    }
    return this.#known.said
  }

  #sound(membership: Membership): Said[] {
    const { registry } = this.#catalog
    const { rootKey } = this.#home
    const by = membership.adminsBy(rootKey)
    const all = <K extends DeliveredKind>(kind: K, open: (bytes: Buffer) => unknown): Said[] =>
      registry.documents(kind).flatMap(({ name, bytes }) => {
        return isSound(() => open(bytes)) ? [{ kind, name, version: toHex(hash(bytes)), bytes }] : []
      })
    const orders = ORDER_KINDS.flatMap((kind) => all(kind, (bytes) => openOrder(kind, bytes, by)))
    return [...orders, ...all('policy', (bytes) => openPolicy(bytes, membership, rootKey))]
  }
}

function isSound(open: () => unknown): boolean {
  try {
    open()
    return true
  } catch (error) {
    if (hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED')) return false
    throw error
  }
}
