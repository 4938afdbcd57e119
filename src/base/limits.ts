/** Every cap and deadline of the TypeScript side, each with its reason. The addon's are in native/src/base/limits.rs. */
import { KiB, MiB } from './units.js'

/** A shard's body is at most 4 MiB; header and slice table come on top. */
export const SHARD_BYTES = 4 * MiB
export const SHARD_FILE_BYTES = SHARD_BYTES + 16 * KiB
/** A control message: the largest is a page of an inventory or of shard layouts. */
export const MESSAGE_BYTES = 16 * MiB
/** A reference bitmap: `finish` carries it in one message, with the head. */
export const BITMAP_BYTES = 15 * MiB
/** Bitmaps that one is put together of, itself among them: so many are read to have it, and one in so many is whole. */
export const BITMAP_CHAIN = 16
/** Bitmaps a peer takes at once: each is in memory up to three times, 180 MiB where all of them are the largest. */
export const BITMAPS_AT_ONCE = 4
/** Signatures of one lookup: 2 MiB of request, 64 MiB or more of disk. */
export const LOOKUP_IDS = 65_536
/** One small request, answered from memory or a database. */
export const REQUEST_TIMEOUT_MS = 15_000
/** Up to 4 MiB over a 1 Mbit/s line. */
export const TRANSFER_TIMEOUT_MS = 60_000
/** A repair fetches up to 31 shards before it answers, from PCs that may be slow. */
export const REPAIR_TIMEOUT_MS = 120_000
/** Without a byte for this long, a connection is dead. */
export const IDLE_TIMEOUT_MS = 20_000
/** The same for what is fetched, its first byte too: as long as a disk takes to wake. A mount answers its reads by then. */
export const FETCH_IDLE_MS = 10_000
export const CONNECT_TIMEOUT_MS = 5_000
/** A peer tells the coordinator its free space this often; three misses and it counts as away. */
export const HEARTBEAT_MS = 10_000
export const AWAY_AFTER_MS = 3 * HEARTBEAT_MS
/** From this difference on a host's clock is remarked on, and from the second on it is an alarm: times of its snapshots are doubtful. */
export const CLOCK_SKEW_NOTE_MS = 5_000
export const CLOCK_SKEW_ALARM_MS = 300_000
/** A host measures its clock by calls that are answered within this: the error is half of it at most. */
export const CLOCK_ROUND_TRIP_MS = 2_000
/** Keys of one owner that a peer or a coordinator keeps: it has three, and one more with each change of the dedupe domain. */
export const KEYS_AN_OWNER = 64
/** New ones among them within a day: a host that joins, or founds or takes over a fleet, has three at most. */
export const KEYS_A_DAY = 4
/** A join token lives one hour (docs/threat-model.md). */
export const TOKEN_LIFETIME_MS = 3_600_000
/** A run that did not say how it ended, and is older than this, came to nothing: a first one of many TB may take days. */
export const RUN_OPEN_MS = 7 * 24 * 3_600_000
/** A disk that was tried and has no snapshot is spoken of for so long: whoever wants it tries again, and a wrong word is forgotten. */
export const RUN_TRIED_MS = 8 * 24 * 3_600_000
/** For so long a run repeats what it asks of a coordinator that does not answer: a restart takes seconds, an update a minute. */
export const RUN_PATIENCE_MS = 60_000
/** Sockets one host opens to another: enough to keep a disk and a 1 Gbit/s line busy, few enough for 10,000 hosts. */
export const SOCKETS_PER_HOST = 4
/** Connections a daemon holds at once, each about 100 KiB: a coordinator's fleet of thousands sends heartbeats. */
export const CONNECTIONS = 4096
/** Of one member: four runs at once, a mount among them, and commands beside them. */
export const CONNECTIONS_PER_HOST = 64
/** Connections whose other end has not proved that it is a member: for one more, the oldest ends. An office that is switched on has fewer. */
export const UNPROVED_CONNECTIONS = 1024
/** Of one address, behind which a whole office may be. */
export const UNPROVED_PER_ADDRESS = 256
/** Who opens a connection speaks first, at once. */
export const FIRST_BYTE_MS = 2_000
/** Bodies of one caller that are in memory at once: two of the largest. */
export const BODIES_PER_HOST_BYTES = 32 * MiB
/** Bodies of all callers: shards that come over HTTPS, and bitmaps. */
export const BODIES_BYTES = 256 * MiB
/** Up to this a body waits only for others like it: questions, heartbeats, documents. */
export const SMALL_BODY_BYTES = 64 * KiB
/** Of all callers: more strangers than may be connected, with the largest that they may send, and sixteen members with all connections. */
export const SMALL_BODIES_BYTES = 96 * MiB
/** For which others wait is not looked at sooner: a slow line begins slowly. */
export const SLOW_BODY_MS = 5_000
/** Data connections of a peer, each a thread and 0.5 MB at most: sixteen appliances at full speed, two runs each. */
export const DATA_CONNECTIONS = 128
/** Of one host: four runs at once, a mount among them. */
export const DATA_CONNECTIONS_PER_HOST = 16
/** Fallback: a host whose data connections do not get through is asked over HTTPS for this long. */
export const DATA_RETRY_MS = 60_000
/** The addon ends an exchange this much after its caller's deadline, so that one of the two speaks of it. */
export const DATA_AFTER_MS = 1_000
/** An idle connection is kept this long; the client lets go first, so that it never writes into one just closed. */
export const KEEP_ALIVE_MS = 30_000
export const FREE_SOCKET_MS = 15_000
/** Grace before a socket is cut: for a refused stranger to read why, and for what is under way when a server closes. */
export const LINGER_MS = 1_000
/** Above this, a body is sent only after the other side has agreed to the headers. */
export const EXPECT_BYTES = 64 * KiB
/** What TLS is given of a body at once: it seals all that it is given, and a whole shard would be in memory twice. */
export const PIECE_BYTES = 256 * KiB
/** An error as it travels: a code and a few short details. */
export const ERROR_BYTES = 64 * KiB
/** Repairs of a peer at once: each holds k shards and the one that it makes, 128 MiB at most. */
export const REPAIRS_AT_ONCE = 1
/** Shards a peer receives at once: 128 MiB of memory at most. */
export const SHARDS_AT_ONCE = 32
/** Of one host: two runs at full speed. */
export const SHARDS_A_HOST = 8
/** Ranges of one question for proofs, 24 bytes each: a batch of blocks from one host has 256. */
export const PROVE_RANGES = 4096
/** Bytes that a peer reads for one question: eight of the largest shards, half a second of a slow disk. */
export const PROVE_BYTES = 33 * MiB
/** What a range costs besides its bytes: the disk finds its place in the time in which it reads so much. */
export const PROVE_SEEK_BYTES = 16 * KiB
/** Of one caller: little is asked, and much is read. A snapshot asks k hosts at once, and so proves k times 100 MB of blocks. */
export const PROVE_BYTES_PER_SECOND = 128 * MiB
/** Questions that are read for at once, of all callers: the disk has others to serve. */
export const PROVES_AT_ONCE = 2
/** Questions of one caller that wait or are read for: three batches of two runs. */
export const PROVES_PER_HOST = 8
/** A host that could not be reached is not tried again for this long. */
export const BREAKER_MS = 5_000
/** Shards that a peer reads again for one call: 32 MiB, which a slow disk gives within the call's time. */
export const RECEIPTS_AT_ONCE = 8
/** Rows of one page of an inventory, and bytes of one page of documents. */
export const INVENTORY_ROWS = 10_000
export const DOCUMENT_PAGE_BYTES = 8 * MiB
/** Signatures that the coordinator holds in memory before it writes them to a segment: 50 MB, and four times that while they come faster than it writes. */
export const YOUNG_ROWS = 1 << 19
/** Filters in memory that answer for most unknown signatures: 12 bits a block up to 700 million blocks, fewer beyond. */
export const FILTER_BYTES = 1024 * MiB
/** Heads of a fleet, 48 bytes each: all of them fit into one offer. A hundred servers, a snapshot a day, for eight years. */
export const HEADS = 300_000
/** Snapshots that one forget or hold names: 40 kB of statement. */
export const ORDER_SNAPSHOTS = 1_000
/** Forgets, holds and releases of one admin that a peer keeps, of each: one a day for eleven years. */
export const ORDERS_A_SIGNER = 4_096
/** An offer to a witness: the ids of all heads, and as many links as are kept. */
export const OFFER_BYTES = 16 * MiB
/** Links that a witness follows in one offer, and that a coordinator keeps: a year of two a day and some joins. */
export const LINKS = 1_000
/** Offers that a witness looks at in a minute: each is some signatures and syncs. */
export const OFFERS_PER_MINUTE = 120
/** How long a `finish` waits for its witnesses: two round trips and a slow disk. */
export const WITNESS_PATIENCE_MS = 4_000
/** What the coordinator keeps with the witnesses of one snapshot: its summary, head and list of stripes, compressed. */
export const ENTRY_BYTES = 4 * MiB
/** Stripes of which one appliance may say that they are false: more is a coordinator or a writer that lies without end. */
export const COMPLAINTS_AN_APPLIANCE = 256
/** For so long `status` shows what was said. */
export const COMPLAINT_SHOWN_MS = 7 * 24 * 3_600_000
/** Stripes of one run that are read whole to see whether their writer lied: 20 MB each. What else is not proved is stored again. */
export const FALSE_STRIPES_READ = 16
