/** Shards at no more than so many bytes a second, over all peers; deadlines begin when it is a shard's turn. */
import type { TokenBucket } from '../base/bucket.js'
import type { Hex } from '../base/ids.js'
import { SHARD_FILE_BYTES } from '../base/limits.js'
import type { BodyHandle } from '../native.js'
import type { CallOptions } from '../wire/bounded.js'
import type { ShardFile, ShardRange, ShardTransport } from '../wire/shard-transport.js'

export class LimitedTransport implements ShardTransport {
  readonly #shards: ShardTransport
  readonly #bucket: () => TokenBucket | undefined

  /** `bucket` is asked at each call: where it gives none there is no limit. */
  constructor(shards: ShardTransport, bucket: () => TokenBucket | undefined) {
    this.#shards = shards
    this.#bucket = bucket
  }

  async put(shard: Hex, file: ShardFile, grant: string, options?: CallOptions): Promise<Buffer> {
    await this.#bucket()?.take(file instanceof Uint8Array ? file.length : file.lengthBytes, options?.signal)
    return this.#shards.put(shard, file, grant, options)
  }

  async fetch(shard: Hex, range: ShardRange | undefined, options?: CallOptions): Promise<BodyHandle> {
    await this.#bucket()?.take(range ? range[1] - range[0] : SHARD_FILE_BYTES, options?.signal)
    options?.begun?.()
    return await this.#shards.fetch(shard, range, options)
  }
}
