/** A disk that nobody backs up any more raises no alarm; its snapshots stay. */
import type { LocalCatalog } from '../catalog/local.js'
import type { VolumeId } from '../catalog/policies.js'

/** Throws NO_SUCH_VOLUME. */
export function retireVolume(catalog: LocalCatalog, volume: VolumeId, retired: boolean): void {
  catalog.write(() => {
    const { applianceName, source } = catalog.retire(volume, retired)
    const now = retired ? 'is retired: it raises no alarm' : 'is not retired any more'
    catalog.registry.record('fleet', volume.appliance, `${source} on ${applianceName} ${now}`)
  })
}
