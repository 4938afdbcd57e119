/**
 * The only importer of the addon. What the addon throws is `CODE: sentence`; here it becomes an ImagerError, once, for
 * every function and method, synchronous or not.
 */
import { createRequire } from 'node:module'
import { ERRORS, type ErrorCode, ImagerError } from './base/errors.js'

type Addon = typeof import('../native/index.js')
type Callable = (...args: unknown[]) => unknown

/** Two folders above both `build/src/native.js` and the program in `build/bin` is the root of the package. */
const load = createRequire(import.meta.url)
const addon = load('../../native/index.js') as Addon

/** Of the whole package, the addon included. */
export const version = (): string => (load('../../package.json') as { version: string }).version

function translate(error: unknown): unknown {
  const [, code, what] = /^([A-Z_]+): (.*)$/s.exec((error as Error)?.message ?? '') ?? []
  return code && code in ERRORS ? new ImagerError(code as ErrorCode, { what: what ?? '' }) : error
}

function translating(inner: Callable): Callable {
  return function (this: unknown, ...args: unknown[]) {
    try {
      const result = inner.apply(this, args)
      if (!(result instanceof Promise)) return result
      return result.catch((error: unknown) => {
        throw translate(error)
      })
    } catch (error) {
      throw translate(error)
    }
  }
}

/** Methods are replaced on the prototype; napi's static functions are read-only, so a subclass shadows them. */
function translatingClass(inner: Callable & { prototype: object }): unknown {
  const methods = Object.entries(Object.getOwnPropertyDescriptors(inner.prototype))
  for (const [name, property] of methods) {
    if (name === 'constructor' || typeof property.value !== 'function') continue
    Object.defineProperty(inner.prototype, name, { ...property, value: translating(property.value as Callable) })
  }
  const shadow = class extends (inner as unknown as new () => object) {}
  for (const name of Object.getOwnPropertyNames(inner)) {
    const value = (inner as unknown as Record<string, unknown>)[name]
    if (typeof value !== 'function') continue
    Object.defineProperty(shadow, name, { value: translating((value as Callable).bind(inner)) })
  }
  return shadow
}

function wrap(module: Addon): Addon {
  const wrapped: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(module) as [string, unknown][]) {
    if (typeof value !== 'function') {
      wrapped[name] = value
      continue
    }
    wrapped[name] = /^[A-Z]/.test(name)
      ? translatingClass(value as Callable & { prototype: object })
      : translating(value as Callable)
  }
  return wrapped as unknown as Addon
}

const native = wrap(addon)
export const {
  Body,
  DATA_PREAMBLE,
  DataClient,
  DataServer,
  DataStop,
  DirectParts,
  DiskReader,
  DiskScan,
  LocationIndex,
  Manifest,
  Packer,
  PlanCollected,
  ProvedPlaces,
  ReferenceSet,
  Routes,
  Runs,
  Secret,
  SignatureIndex,
  Target,
  Vault,
  decompressUnit,
  detachMount,
  fileAttributes,
  findOtherStripe,
  freezableTypes,
  hash,
  inspectShard,
  inspectShardFile,
  inspectShardHeader,
  keepMemoryPrivate,
  makeNode,
  mapBirths,
  mapIds,
  mountFileSystem,
  packRanges,
  proveRanges,
  readTrailer,
  rebuildShard,
  recoverBody,
  scanDisk,
  setModified,
  setXattr,
  shardFileBytes,
  shardId,
  signatureRows,
  trailerOffset,
  unreadablePattern,
  verifySignature,
  writeSegment,
} = native
/** Pages of any bytes, as an appliance in wrong hands makes them (test/attackers). */
export const batchOfPages = (pages: Uint8Array[]): import('../native/index.js').Batch => native.Batch.ofPages(pages)
export type {
  Batch,
  BlockSource,
  Body as BodyHandle,
  DataClient as DataClientHandle,
  DataEndpoint,
  DataFetch,
  DataOutcome,
  DataQuestion,
  DataReceived,
  DataStop as DataStopHandle,
  DirectParts as DirectPartsHandle,
  DiskReader as DiskReaderHandle,
  DiskScan as DiskScanHandle,
  ExpectedProof,
  FileRecord,
  FileRecords,
  FuseRequest as FuseRequestHandle,
  FuseSequentialRead,
  FuseSession as FuseSessionHandle,
  Hits,
  IndexKeys,
  LeftOut,
  ManifestPage,
  MapLines,
  Pack,
  PackRange,
  PageRef,
  PlacedRecords,
  PlanLocated as PlanLocatedHandle,
  PlanSelected as PlanSelectedHandle,
  RecordLocations,
  RecordPlaces,
  Reread,
  Reuse,
  RouteFault,
  RouteShard,
  RouteSpan,
  Routes as RoutesHandle,
  Secret as SecretHandle,
  ShardFacts,
  SignatureIndex as SignatureIndexHandle,
  SoughtRecords,
  Stripe,
  StripeFacts,
  StripeShard,
  Vault as VaultHandle,
  VolumeFacts,
  Window as WindowHandle,
} from '../native/index.js'
