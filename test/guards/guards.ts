/**
 * The guards of what is promised about names, signatures and keys: the line of code of each, what stands there without it, and the
 * test that then fails. `npm run long -- guards` takes out one after the other; that the lines and the tests are there is
 * looked at in every run.
 */
export interface Guard {
  readonly promise:
    | ('keys' | 'names' | 'heads' | 'membership' | 'chain' | 'lock' | 'addresses')
    | ('coordinator' | 'crowds' | 'places' | 'receipts' | 'admins' | 'removal' | 'replacement' | 'twins' | 'proofs')
  readonly file: string
  /** Without its indent; as often as it stands there, all of them. */
  readonly line: string
  readonly without: string
  readonly test: readonly [file: string, title: string]
}

const SERVER = 'test/attackers/appliance.test.ts'
const SENDS = [
  SERVER,
  'root on a server sends what it may not, to peers and to the coordinator: nobody else loses anything',
] as const
const STRANGER = [
  'test/attackers/stranger.test.ts',
  'whoever reaches the ports without a key of the fleet, or with a used one, gets nothing, and keeps nobody from anything',
] as const

const OFFICE = [
  'test/attackers/coordinator.test.ts',
  'a coordinator in foreign hands answers what it likes: no wrong byte, no false word of safety, and the words do without it',
] as const
const PLACES = [
  'test/attackers/places.test.ts',
  'junk under the signatures of others, and stripes that are lost: whatever is right somewhere is read, and nothing else',
] as const
const EXPELLED = [
  'test/attackers/expel.test.ts',
  'a server that is removed while it stores is out at once, wherever it asks and whatever it signs, and is named when it comes back',
] as const
const POISON = [
  'test/attackers/proofs.test.ts',
  'noise under the signatures of others, before and after they store: nobody refers to it, and whoever wrote it is named',
] as const

export const GUARDS: readonly Guard[] = [
  {
    promise: 'keys',
    file: 'src/peers/documents.ts',
    line: `if (other && entryName(other) === name) refuse('another entry of that key')`,
    without: 'void other',
    test: ['test/peers/server.test.ts', 'of the key entries of one name the first stays, whoever brings which other'],
  },
  {
    promise: 'keys',
    file: 'src/peers/documents.ts',
    line: 'requireSigner(kind, mayBeKept(signer, entry, trust.membership(), trust.rootKey))',
    without: 'void mayBeKept(signer, entry, trust.membership(), trust.rootKey)',
    test: [
      'test/peers/server.test.ts',
      'a key entry that is forged, of no member, of another term, for another, or under a name of another is refused',
    ],
  },
  {
    promise: 'keys',
    file: 'src/keys/entry-room.ts',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a line of code
    line: 'if (today >= KEYS_A_DAY) refuse(`it took ${today} new ones within a day`)',
    without: 'void today',
    test: ['test/peers/server.test.ts', 'junk under new keys ends at the caps of its owner, and pushes nothing out'],
  },
  {
    promise: 'keys',
    file: 'src/coordinator/handlers.ts',
    line: `if (entry.owner !== host) throw notAllowed("That is another host's key", 'admin')`,
    without: 'void host',
    test: ['test/coordinator/access.test.ts', 'keys are taken from their owner only, and the first of each name stays'],
  },
  {
    promise: 'names',
    file: 'src/keys/grant.ts',
    line: `require('shard', shardId(runName(grant.writer, grant.run), grant.number, grant.index) === use.shard)`,
    without: 'void [shardId, runName]',
    test: SENDS,
  },
  {
    promise: 'names',
    file: 'src/keys/grant.ts',
    line: `require('signer', signer === use.membership.coordinator)`,
    without: 'void signer',
    test: SENDS,
  },
  {
    promise: 'names',
    file: 'src/keys/grant.ts',
    line: `require('bearer', grant.bearer === use.bearer)`,
    without: '',
    test: SENDS,
  },
  {
    promise: 'names',
    file: 'src/peers/rights.ts',
    line: 'if (arrived.shard === shard && arrived.fleet === trust.fleet) return',
    without: 'if (arrived.fleet === trust.fleet) return',
    test: SENDS,
  },
  {
    promise: 'names',
    file: 'src/peers/store.ts',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a line of code
    line: 'if (held?.facts) throw this.#refused(`shard ${shard} is there with other bytes`)',
    without: '',
    test: SENDS,
  },
  {
    promise: 'names',
    file: 'src/coordinator/access.ts',
    line: 'if (scope === undefined || owner === undefined || owner === scope) return',
    without: 'return',
    test: SENDS,
  },
  {
    promise: 'heads',
    file: 'src/peers/documents.ts',
    line: 'requireName(kind, name, headName(head))',
    without: 'void headName',
    test: [
      'test/attackers/heads.test.ts',
      'compromised appliance and peer: heads and bitmaps of others stay theirs, and a recovery gives them back',
    ],
  },
  {
    promise: 'heads',
    file: 'src/peers/bitmaps.ts',
    line: 'if (!(await isRight(bytes))) {',
    without: 'if (parentOf(bytes) !== undefined && !(await isRight(bytes))) {',
    test: ['test/peers/bitmaps.test.ts', "whole, or as what changed since one that is held; only its head's"],
  },
  {
    promise: 'heads',
    file: 'src/keys/head.ts',
    line: `if (signer !== body.appliance) throw new ImagerError('FORGED', { what: 'A head is not signed by its appliance' })`,
    without: 'void signer',
    test: ['test/keys/head.test.ts', 'its appliance signs it, for its fleet'],
  },
  {
    promise: 'heads',
    file: 'src/jobs/recover/walk.ts',
    line: `if (this.#parts.named?.has(birth) === false) throw forged("names a page that is not in its head's bitmap")`,
    without: 'void birth',
    test: ['test/jobs/recover/walk.test.ts', 'what the bitmap does not name is refused before it is fetched'],
  },
  {
    promise: 'heads',
    file: 'src/jobs/recover/walk.ts',
    line: `if (seen.has(birth)) throw forged('names one page twice')`,
    without: 'void seen',
    test: ['test/jobs/recover/walk.test.ts', 'a page that names one child a thousand times, in three levels'],
  },
  {
    promise: 'membership',
    file: 'src/keys/membership.ts',
    line: 'if (!isMost(gone.length, peers.length)) return',
    without: 'if (gone.length < peers.length + 1) return',
    test: ['test/keys/membership.test.ts', 'more than half of the peers do not leave at once, unless the root says so'],
  },
  {
    promise: 'membership',
    file: 'src/keys/membership.ts',
    line: `if (held.hosts.some(isGone)) throw forged('leaves out a host that no enroller removed')`,
    without: 'void isGone',
    test: [
      'test/attackers/membership.test.ts',
      'once another host is the enroller, the coordinator alone lets nobody in and removes nobody; together they do',
    ],
  },
  {
    promise: 'membership',
    file: 'src/keys/admission.ts',
    line: 'if (!mayAdmit(signer))',
    without: 'if (!mayAdmit(signer) && kind === "removal")',
    test: [
      'test/attackers/membership.test.ts',
      'once another host is the enroller, the coordinator alone lets nobody in and removes nobody; together they do',
    ],
  },
  {
    promise: 'membership',
    file: 'src/peers/memberships.ts',
    line: `await store.putDocument('membership', toHex(hash(bytes)), bytes, () => {})`,
    without: 'void [toHex, hash]',
    test: [
      'test/attackers/membership.test.ts',
      'peers are hidden, numbers used up, delegations repeated: the words find every peer, and all restores',
    ],
  },
  {
    promise: 'membership',
    file: 'src/coordinator/admission.ts',
    line: 'if (opened.host === host) return opened',
    without: 'return opened',
    test: STRANGER,
  },
  {
    promise: 'membership',
    file: 'src/peers/rights.ts',
    line: 'return host === trust.rootKey || trust.membership().find(host) !== undefined',
    without: 'return true',
    test: STRANGER,
  },
  {
    promise: 'chain',
    file: 'src/peers/judge.ts',
    line: `if (!isNewer(offered, last)) return 'old'`,
    without: `if (isNewer(last, offered)) return 'old'; else if (!isNewer(offered, last)) return 'sign'`,
    test: [
      'test/peers/judge.test.ts',
      'no two checkpoints of one place reach a quorum, whatever coordinator and network do',
    ],
  },
  {
    promise: 'chain',
    file: 'src/peers/judge.ts',
    line: `if (going.without(next.gone).length > 0) return 'shrank'`,
    without: '',
    test: ['test/peers/witness.test.ts', 'a list that lost heads is refused with what is held; a removal is, too'],
  },
  {
    promise: 'chain',
    file: 'src/peers/witness.ts',
    line: 'await this.#log.append({ heads, gone: next.gone.without(gone), signed, anew: !own })',
    without: 'void encodeCosigned',
    test: [
      'test/peers/witness.test.ts',
      'what a witness signed outlives it: the next start refuses another one at that place',
    ],
  },
  {
    promise: 'chain',
    file: 'src/coordinator/server.ts',
    line: 'if (NEW.has(name)) await parts.watch?.requireCurrent()',
    without: 'void NEW',
    test: [
      'test/attackers/rollback.test.ts',
      'a coordinator that is set back says so, is read-only until a majority answers, and catches up by itself',
    ],
  },
  {
    promise: 'chain',
    file: 'src/fleet/seen-checkpoint.ts',
    line: 'if (seen && !isNewer(checkpoint, seen)) return rolledBack(nameOf(checkpoint), seen)',
    without: 'void isNewer',
    test: [
      'test/fleet/seen-checkpoint.test.ts',
      'what a host has seen it does not take back: older, beside it, or none at all',
    ],
  },
  {
    promise: 'lock',
    file: 'src/keys/opened-keys.ts',
    line: 'if (spentMs >= OPEN_MS) {',
    without: 'if (spentMs < 0) {',
    test: [
      'test/keys/opened-keys.test.ts',
      'what was opened is there for seven days, for nobody else to read, and then no more',
    ],
  },
  {
    promise: 'lock',
    file: 'src/keys/opened-keys.ts',
    line: 'return spentMs + Math.max(0, now - seen)',
    without: 'return spentMs + (now - seen)',
    test: [
      'test/keys/opened-keys.test.ts',
      'a clock that is set back gives no time back, and one that was ahead takes none for good',
    ],
  },
  {
    promise: 'lock',
    file: 'src/keys/opened-keys.ts',
    line: `if (signer !== host) throw new ImagerError('FORGED', { what: 'Opened keys are of another host' })`,
    without: 'void [signer, host]',
    test: [
      'test/keys/opened-keys.test.ts',
      'another host, another fleet, the time of another opening, and keys without a time open nothing',
    ],
  },
  {
    promise: 'addresses',
    file: 'src/keys/address.ts',
    line: `if (signer !== body.host) throw new ImagerError('FORGED', { what: 'An address is not signed by its host' })`,
    without: 'void signer',
    test: SENDS,
  },
  {
    promise: 'addresses',
    file: 'src/keys/address.ts',
    line: 'if (wrong === undefined) return body',
    without: 'return body',
    test: SENDS,
  },
  {
    promise: 'addresses',
    file: 'src/keys/address-book.ts',
    line: 'if (addresses.length > 0) hosts.set(host, last === undefined ? others : [...others, last])',
    without: 'if (addresses.length > 0) hosts.set(host, addresses)',
    test: [
      'test/keys/address.test.ts',
      'what a third host says parts nobody: the place where a host was reached last stays',
    ],
  },
  {
    promise: 'coordinator',
    file: 'src/fleet/seen-checkpoint.ts',
    line: 'return seen === undefined || before === undefined || hasQuorum(checkpoint, cosignatures, before)',
    without: 'return true',
    test: [
      'test/fleet/seen-checkpoint.test.ts',
      'others watch since the members changed: those of before count until these have signed',
    ],
  },
  {
    promise: 'coordinator',
    file: 'src/coordinator/client.ts',
    line: `if (body.lease !== drawn.lease || body.run !== drawn.run) throw lied('begin', 'another run than was begun')`,
    without: '',
    test: ['test/coordinator/patience.test.ts', 'a begin that is repeated names the same lease'],
  },
  {
    promise: 'coordinator',
    file: 'src/coordinator/client.ts',
    line: `if (!isMeant(name, body, among)) throw lied('snapshot', 'another one than was asked for')`,
    without: 'void isMeant',
    test: OFFICE,
  },
  {
    promise: 'coordinator',
    file: 'src/jobs/snapshot/snapshot.ts',
    line: 'if (!isSaid || (await isWitnessed(home, snapshot, signal))) return { ...finished, notes: [] }',
    without: 'if (!isSaid || isWitnessed) return { ...finished, notes: [] }',
    test: OFFICE,
  },
  {
    promise: 'crowds',
    file: 'src/wire/body-room.ts',
    line: 'if (body.bytes <= SMALL_BODY_BYTES) return this.#small.claim(body)',
    without: '',
    test: [
      'test/wire/crowds.test.ts',
      'a question does not wait for what others send slowly; while somebody waits, who is too slow is cut',
    ],
  },
  {
    promise: 'crowds',
    file: 'src/wire/body-room.ts',
    line: 'return ms >= SLOW_BODY_MS && arrived < (bytes * ms) / TRANSFER_TIMEOUT_MS',
    without: 'return ms < 0',
    test: ['test/wire/crowds.test.ts', 'too slow is what would not be done by its deadline'],
  },
  {
    promise: 'crowds',
    file: 'src/base/queue.ts',
    line: 'return await own.slots.run(() => this.#all.run(task))',
    without: 'return await this.#all.run(task)',
    test: ['test/base/queue.test.ts', 'who holds his share for long keeps nobody else from theirs'],
  },
  {
    promise: 'places',
    file: 'src/jobs/restore/elsewhere.ts',
    line: 'if (tried.size > MOST_LOST || asked === PLACES_TRIED) return false',
    without: 'if (asked === PLACES_TRIED) return false',
    test: [
      'test/jobs/restore/elsewhere.test.ts',
      'as many lost stripes as one question may except are looked for; of more nobody is asked',
    ],
  },
  {
    promise: 'places',
    file: 'src/retrieve/packs.ts',
    line: 'if (!failed || !catalog.locate || tried.length === PLACES_TRIED) return failed',
    without: 'if (!failed || !catalog.locate || failed) return failed',
    test: PLACES,
  },
  {
    promise: 'places',
    file: 'src/catalog/finder.ts',
    line: 'if (except.has(stripe)) return -1',
    without: 'void except',
    test: PLACES,
  },
  {
    promise: 'receipts',
    file: 'src/stripes/receipt.ts',
    line: 'if (verifySignature(bytesOf(host, 32), messageOf(signed, subject), bytes.subarray(SIGNED_BYTES))) return receipt',
    without: 'if (host.length > 0) return receipt',
    test: ['test/stripes/receipt.test.ts', 'no bit of a receipt, nor of what it is about, can be changed'],
  },
  {
    promise: 'receipts',
    file: 'src/peers/sequence.ts',
    line: 'while (this.#durable < mine) {',
    without: 'while (this.#durable < 0) {',
    test: ['test/peers/sequence.test.ts', 'a store keeps its id and goes on counting; no number is given out twice'],
  },
  {
    promise: 'admins',
    file: 'src/keys/orders.ts',
    line: `if (!by.isAdmin(signer)) throw forged('is signed by nobody who is an admin')`,
    without: 'void signer',
    test: ['test/keys/orders.test.ts', 'an order is the word of an admin, in his term and later'],
  },
  {
    promise: 'admins',
    file: 'src/keys/orders.ts',
    line: `if (body.term > by.term) throw forged('is of a later term')`,
    without: '',
    test: ['test/keys/orders.test.ts', 'an order is the word of an admin, in his term and later'],
  },
  {
    promise: 'admins',
    file: 'src/keys/admins.ts',
    line: `if (made.term !== term) throw new ImagerError('FORGED', { what: 'An admin is of another term' })`,
    without: '',
    test: ['test/keys/admins.test.ts', 'nobody but the root makes one, and only in its own term'],
  },
  {
    promise: 'admins',
    file: 'src/peers/witness.ts',
    line: `if (await holdsAny(this.#parts.store, trust, decodeHeadIds(leaving))) return refuse('held')`,
    without: 'void [holdsAny, leaving]',
    test: [
      'test/peers/witness.test.ts',
      'what an admin forgot goes, unless one holds it; neither the coordinator nor the appliance says so',
    ],
  },
  {
    promise: 'removal',
    file: 'src/wire/data-server.ts',
    line: 'if (isLess) this.#beginAnew()',
    without: 'void isLess',
    test: [
      'test/wire/data.test.ts',
      'where a reader is one no more, idle connections end, what is under way ends by itself, and the others open new ones',
    ],
  },
  {
    promise: 'removal',
    file: 'src/catalog/local.ts',
    line: 'this.#leases.expel(host, this.#parts.clock.now())',
    without: '',
    test: EXPELLED,
  },
  {
    promise: 'replacement',
    file: 'src/keys/replacement.ts',
    line: `if (!by.isAdmin(signer)) throw forged("is signed neither by the fleet's root nor by an admin")`,
    without: '',
    test: ['test/keys/replacement.test.ts', 'the root, or an admin of now, says who took a place, and for its fleet'],
  },
  {
    promise: 'replacement',
    file: 'src/keys/membership.ts',
    line: `if (held.line.former.some(isLeftOut)) throw forged('leaves out who took the place of a host')`,
    without: 'void isLeftOut',
    test: ['test/keys/replacement.test.ts', 'the former goes without a removal, and never comes back'],
  },
  {
    promise: 'twins',
    file: 'src/peers/store.ts',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a line of code
    line: 'if (other !== null) throw this.#refused(`shard ${other} is there, of another stripe of the same name`)',
    without: 'void other',
    test: [
      'test/peers/store.test.ts',
      'a stripe has one meaning on a peer: another of its name is refused, whatever its index',
    ],
  },
  {
    promise: 'twins',
    file: 'src/peers/store.ts',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a line of code
    line: "return await this.#inTurn(`${run.toString('hex')} ${number}`, () => this.#keep(shard, temporary, facts))",
    without: 'return await this.#keep(shard, temporary, facts)',
    test: ['test/peers/store.test.ts', 'of two twins at the same moment one is stored'],
  },
  {
    promise: 'proofs',
    file: 'src/jobs/snapshot/proofs.ts',
    line: 'return births.map((birth, nth) => (isRight(firsts.get(nth)) ? birth : 0n))',
    without: 'void isRight; return births',
    test: POISON,
  },
  {
    promise: 'proofs',
    file: 'src/jobs/snapshot/proofs.ts',
    line: 'return Buffer.isBuffer(proof) && proof.equals(digest)',
    without: 'void digest; return proof !== undefined',
    test: POISON,
  },
  {
    promise: 'proofs',
    file: 'src/catalog/complaints.ts',
    line: 'const isStruck = (hosts: Set<Hex>) => hosts.size > 1 || hosts.has(TRUSTED) || (own !== undefined && hosts.has(own))',
    without: 'const isStruck = (hosts: Set<Hex>) => hosts.size > 0 || own === TRUSTED',
    test: POISON,
  },
  {
    promise: 'proofs',
    file: 'src/catalog/finder.ts',
    line: 'return survives - ANY + (mine(stripe) ? STRIPE_WIDTH : 0)',
    without: 'void mine; return survives - ANY',
    test: POISON,
  },
  {
    promise: 'proofs',
    file: 'src/peers/prove.ts',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a line of code
    line: 'if (total > PROVE_BYTES) throw refused(`ranges of ${total} bytes, ${PROVE_BYTES} at most`)',
    without: 'void PROVE_BYTES',
    test: [
      'test/peers/prove.test.ts',
      'a question that is none, or asks for more than one may, is refused before anything is read',
    ],
  },
  {
    promise: 'proofs',
    file: 'src/peers/prove.ts',
    line: 'await caller.bucket.take(costBytes)',
    without: 'void costBytes',
    test: [
      'test/peers/prove.test.ts',
      'one caller reads so much in a second, and asks so much at once, whatever others do',
    ],
  },
]
