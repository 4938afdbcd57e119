/** Shards over data connections: the addon carries their bytes, here is only what is asked (docs/protocol.md). */
import type { Hex } from '../base/ids.js'
import type { BodyHandle } from '../native.js'
import type { CallOptions } from '../wire/bounded.js'
import type { DataLink } from '../wire/data-client.js'
import type { ShardFile, ShardRange, ShardTransport } from '../wire/shard-transport.js'
import { encodeQuestion } from './data.js'

export class DataTransport implements ShardTransport {
  readonly #link: DataLink

  constructor(link: DataLink) {
    this.#link = link
  }

  async put(shard: Hex, file: ShardFile, grant: string, options?: CallOptions): Promise<Buffer> {
    const lengthBytes = file instanceof Uint8Array ? file.length : file.lengthBytes
    return this.#link.put(encodeQuestion({ operation: 'put', shard, lengthBytes, grant }), file, options)
  }

  fetch(shard: Hex, range: ShardRange | undefined, options?: CallOptions): Promise<BodyHandle> {
    return this.#link.fetch(shard, range, options)
  }
}
