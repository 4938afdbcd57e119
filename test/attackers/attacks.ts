/**
 * Every attack that this folder runs: who, on what, in one sentence, and what becomes of it. One table, from which
 * docs/attacks.md is made. A test takes `attacking(t)` and says of each attack that it was tried; one that is listed for it and
 * was not tried fails it, and so does one that is not listed for it.
 */
import type { ExecutionContext } from 'ava'

export const ACTORS = {
  peer: 'A PC of the fleet in foreign hands: its identity, its store, its place on the network',
  appliance: 'Root on a server: its keys, its catalog calls, its leases',
  coordinator: 'Root on the coordinator, or the coordinator set back',
  stranger: 'Whoever reaches the ports, or was a member once',
} as const
export type Actor = keyof typeof ACTORS

/** refused: with an error; harmless: it changes nothing for anybody else; healed: it does, is made good, and is reported. */
export type Outcome = 'refused' | 'harmless' | 'healed'

export interface Attack {
  readonly actor: Actor
  /** What it is aimed at. */
  readonly row: string
  readonly attack: string
  readonly outcome: Outcome
  /** In this folder. */
  readonly file: string
  readonly test: string
}

type Said = `${Outcome}: ${string}`

const TESTS = {
  keys: 'whatever root on the server, the coordinator, a peer and a stranger sign: with the words alone everything comes back',
  heads: 'compromised appliance and peer: heads and bitmaps of others stay theirs, and a recovery gives them back',
  membership: 'peers are hidden, numbers used up, delegations repeated: the words find every peer, and all restores',
  alone: 'once another host is the enroller, the coordinator alone lets nobody in and removes nobody; together they do',
  setBack: 'a coordinator that is set back says so, is read-only until a majority answers, and catches up by itself',
  witnessSetBack: 'the same with one witness set back together with it',
  spoilt: 'what the peers cannot give back keeps it read-only, is named, and the line that is printed heals it',
  two: 'two coordinators: the newer term wins, the old one is told and named, and its appliances follow',
  cosigned: 'a list that too few witnesses signed protects nothing yet: exit 4, and they sign as soon as they can',
  appliance: 'root on a server sends what it may not, to peers and to the coordinator: nobody else loses anything',
  stranger:
    'whoever reaches the ports without a key of the fleet, or with a used one, gets nothing, and keeps nobody from anything',
  peer: 'a PC in foreign hands serves, takes and lists what it likes: every byte that is restored is right, and it learns nothing',
  expel:
    'a server that is removed while it stores is out at once, wherever it asks and whatever it signs, and is named when it comes back',
  domain:
    'after a server was removed new blocks are under another key: it cannot test guesses on them, and all restores, with the words too',
  places:
    'junk under the signatures of others, and stripes that are lost: whatever is right somewhere is read, and nothing else',
  poison:
    'noise under the signatures of others, before and after they store: nobody refers to it, and whoever wrote it is named',
  known:
    'a coordinator that says that everything is known, and a PC that answers proofs from nothing: what is right somewhere is found, the rest stored again',
  admin:
    'only the words make an admin; whoever has the key lets in and removes, until another admin ends that for good',
  office:
    'a coordinator in foreign hands answers what it likes: no wrong byte, no false word of safety, and the words do without it',
  flood:
    'crowds that say nothing, dawdle, or ask for what is refused: the honest are served meanwhile, and memory stays bounded',
  moves:
    'the coordinator’s place goes with the word of an enroller, once, and for good: whoever had it signs nothing more',
  receipts: 'what a coordinator calls protected, and no host has signed, is sealed for whoever relies on it',
  orders: 'what an admin says outlives the coordinator; said by a server or the coordinator it is nothing',
} as const

function of<N extends string>(
  actor: Actor,
  row: string,
  [file, test]: readonly [file: string, test: keyof typeof TESTS],
  said: Record<N, Said>,
): Record<N, Attack> {
  const rows = Object.entries<Said>(said).map(([name, text]) => {
    const [outcome, attack] = text.split(/: (.*)/s) as [Outcome, string]
    return [name, { actor, row, attack, outcome, file: `${file}.test.ts`, test: TESTS[test] }]
  })
  return Object.fromEntries(rows) as Record<N, Attack>
}

export const ATTACKS = {
  ...of('appliance', 'keys', ['keys', 'keys'], {
    'key-junk': 'refused: signs other bytes under the name of its own key, as itself or through another host',
    'key-cut': 'refused: puts none, fewer or other bytes in the place of its own key',
    'key-delete': 'refused: asks peers to delete a key',
    'key-list': 'refused: brings an empty list of keys of a higher sequence',
    'key-name': 'refused: brings its key under the name of another host’s',
    'key-owner': 'refused: signs a key in the name of another owner',
    'key-right': 'refused: makes a key of a purpose that only the coordinator may make',
    'key-term': 'refused: makes a key of a term that has not come',
    'key-signer': 'refused: has a key of its own signed by nobody of the fleet',
    'key-reader': 'refused: seals a key for another host, which nobody asked for',
    'key-flood': 'refused: makes more and more keys, each as good as the first',
    'key-flood-coordinator': 'refused: tells the coordinator of more and more keys',
    'key-foreign-coordinator': 'refused: tells the coordinator of keys of another host',
    'key-first':
      'healed: is first on a peer that joins, with junk under all its names; events name it, the others have the right one',
    'key-old-term': 'refused: after a recovery, brings what the former coordinator goes on signing',
  }),
  ...of('coordinator', 'keys', ['keys', 'keys'], {
    'office-junk': 'refused: signs other bytes under the names of its own keys',
    'office-owner': 'refused: signs a key in the name of a server',
    'office-decoys': 'harmless: adds shared keys that open and seal nothing',
    'office-courier':
      'healed: fills its catalog with junk for its courier to spread; each peer refuses it, and events say so',
    'office-former': 'refused: after a recovery, signs on under its own term',
  }),
  ...of('peer', 'keys', ['keys', 'keys'], {
    'peer-key': 'refused: brings a key of its own',
    'peer-foreign-key': 'refused: brings a key in the name of another',
  }),
  ...of('stranger', 'keys', ['keys', 'keys'], {
    'stranger-key': 'refused: brings a sound key of a member',
  }),
  ...of('appliance', 'heads', ['heads', 'heads'], {
    'head-read': 'harmless: fetches the heads of others from the peers: they say no disk, time or layout',
    'head-place': 'refused: puts a head of its own in the place of another’s, where that is held and where it is lost',
    'head-twin': 'harmless: uses the id of another’s snapshot for one of its own: each has its own',
    'head-stolen-root': 'healed: signs its own head over a manifest of another id; a recovery names it',
    'head-rivals': 'healed: signs two heads of one snapshot, on different peers; a recovery takes one and names both',
    'head-sealed': 'healed: seals a head for nobody; a recovery names it as unreadable',
    'bitmap-alone': 'refused: brings a bitmap where its head is lost',
    'bitmap-less': 'refused: brings a bitmap that names less than its head says',
    'bitmap-delta': 'refused: brings a difference that makes such a bitmap',
    'bitmap-signed-less':
      'healed: signs a head over a bitmap that names less; the recovery refuses its pages and says so',
    'manifest-tower':
      'healed: stores a manifest of 337 kB that names one page a thousand times in six levels; the recovery ends and names it',
  }),
  ...of('peer', 'heads', ['heads', 'heads'], {
    'peer-head-swap': 'harmless: puts one head in the place of another, and under a name that has none',
    'peer-bitmap-swap': 'harmless: puts another bitmap, or noise, in the place of one',
    'peer-bitmap-drop':
      'healed: drops a bitmap, so that others cannot be put together; a recovery says which rules were not used',
  }),
  ...of('coordinator', 'membership', ['membership', 'membership'], {
    'member-slipped-in': 'healed: signs a host in and lists it nowhere; `hosts` and `status` show it',
    'members-none': 'refused: signs a membership without peers, of the highest sequence',
    'members-few': 'refused: leaves out more than half of the peers at once',
    'members-in-steps': 'healed: leaves peers out in steps, with the highest sequence; a recovery finds and names them',
    'delegations-repeated': 'harmless: repeats one delegation up to the limit',
    'members-former': 'refused: after a recovery, signs on, of its term or of the next',
  }),
  ...of('coordinator', 'membership', ['membership', 'alone'], {
    'admits-alone': 'refused: lets a host in by itself once another is the enroller',
    'removes-alone': 'refused: leaves a host out by itself once another is the enroller',
    'members-replayed': 'refused: brings the hosts of the earlier term with the highest sequence',
    'token-made': 'refused: makes a token once another is the enroller',
  }),
  ...of('coordinator', 'moves', ['moves', 'moves'], {
    'hands-over-alone': 'refused: hands its place over by itself once another host is the enroller',
    'hands-over-twice': 'refused: hands it over a second time, to another host',
    'handover-replayed': 'refused: takes what the enroller agreed to for another host',
    'moved-signs-on':
      'refused: signs on once it has moved, with the highest sequence, in its own name or the new one’s',
  }),
  ...of('stranger', 'moves', ['moves', 'moves'], {
    'takes-itself': 'refused: an admin’s machine, taken over, asks for the place by itself',
  }),
  ...of('stranger', 'membership', ['membership', 'alone'], {
    'token-of-before': 'refused: joins with a token of the term before',
    'pc-stolen': 'harmless: reads a stolen PC for the names of other hosts: there is none',
  }),
  ...of('peer', 'membership', ['membership', 'alone'], {
    'peer-removes': 'refused: removes another host',
  }),
  ...of('stranger', 'removal', ['expel', 'expel'], {
    'removed-asks': 'refused: goes on over connections that were open, with all that its folder holds',
    'removed-stores': 'refused: goes on with the run that was under way',
    'removed-names': 'harmless: reads memberships that were signed since for names: there are none for it',
    'removed-signs': 'refused: signs a head and a key, and has the coordinator’s key bring them',
    'removed-grant': 'refused: stores with a grant of before that it has not used, over either kind of connection',
    'removed-pc': 'refused: a PC: asks on, calls the coordinator, brings its address and a membership of before',
    'removed-pc-serves': 'harmless: a PC: runs on and serves: nobody asks it, and nothing is brought to it',
    'removed-pc-old': 'refused: a PC: comes back with a folder of many memberships ago; events name it',
    'removed-laptop': 'refused: a machine of the role admin: looks, invites and removes',
    'removed-returns': 'refused: comes back with the folder of before; events name it',
  }),
  ...of('stranger', 'removal', ['domain', 'domain'], {
    'removed-guesses':
      'harmless: tests with all that its folder holds, and the whole catalog, whether a block is stored that came after it: no hit',
  }),
  ...of('coordinator', 'chain', ['rollback', 'setBack'], {
    'set-back': 'healed: is set back by two snapshots and a new name: says so, waits for a majority, catches up',
    'set-back-writes': 'refused: takes a snapshot while it may not know what was stored before',
  }),
  ...of('coordinator', 'chain', ['rollback', 'witnessSetBack'], {
    'set-back-together': 'healed: is set back together with a minority of its witnesses',
  }),
  ...of('coordinator', 'chain', ['rollback', 'spoilt'], {
    'set-back-for-good':
      'healed: is set back to before what no witness can give back; stays read-only and prints the line that heals it',
  }),
  ...of('coordinator', 'chain', ['rollback', 'two'], {
    'two-coordinators':
      'healed: goes on after it was replaced: it is told by whom, `status` of the new one names it, its appliances follow',
  }),
  ...of('coordinator', 'answers', ['coordinator', 'office'], {
    'answers-noise': 'refused: answers each call of a server or a peer with noise',
    'answers-huge': 'refused: announces an answer of 2^53 bytes',
    'answers-endless': 'refused: announces an answer without a length',
    'answers-elsewhere': 'refused: sends whoever asks to another host',
    'answers-cut': 'refused: ends an answer half way',
    'answers-junk': 'refused: answers with bytes that are no message',
    'answers-other': 'refused: answers with a message of another form',
    'answers-never': 'refused: takes each question, and never answers',
    'answers-slowly': 'refused: answers a byte a second',
  }),
  ...of('coordinator', 'lists', ['coordinator', 'office'], {
    'list-hides': 'healed: leaves a snapshot out of its list; `status` and `snapshots` name it, as its witnesses do',
    'list-swaps': 'refused: gives another snapshot than was asked for',
    'list-invents': 'refused: lists snapshots with the heads of others, with noise, or under other names',
    'hosts-strangers': 'harmless: lists a stranger among the hosts, and its address for all of them',
    'members-stale': 'harmless: shows an older membership',
  }),
  ...of('coordinator', 'chain', ['coordinator', 'office'], {
    'checkpoint-none': 'healed: shows no checkpoint any more; `status` says so, and no run begins',
    'checkpoint-stale': 'healed: shows an older checkpoint; `status` says so, and no run begins',
    'checkpoint-beside':
      'healed: signs a checkpoint beside the chain for one server; `status` says so, and no run begins',
    'checkpoint-other-members': 'healed: the same, of members that nobody knows',
  }),
  ...of('coordinator', 'runs', ['coordinator', 'office'], {
    'begin-other-run': 'refused: begins another run, or lease, than was asked for',
    'begin-old-name': 'refused: gives a new snapshot the name of an old one',
    'finish-false':
      'healed: says that a snapshot is protected and signed; the witnesses are asked, and the run ends with 4',
    'commit-unkept': 'healed: acknowledges stripes and keeps none; the same',
    'commit-forgotten':
      'healed: forgets stripes later; a restore says so, and the words bring them back from the peers',
    'lookup-nowhere': 'healed: says that blocks are stored in a stripe of nobody; the run does not end as protected',
    'lookup-other': 'harmless: says that blocks are stored where others are: no such byte is ever given out',
    'lease-released': 'refused: ends the lease of a run that goes on: it ends, and nothing else is lost',
  }),
  ...of('coordinator', 'names', ['coordinator', 'office'], {
    'grant-for-nobody': 'refused: grants a place to one that is no member',
    'grant-for-other': 'refused: has a server bear the grant of another',
    'grant-in-foreign-name': 'refused: grants itself a place, and stores other bytes in the name of a server',
    'places-swapped': 'harmless: says of each shard that another host has it',
    'places-strangers': 'harmless: says that hosts have it which are none',
    'places-none': 'harmless: says that it knows no stripe',
    'records-other': 'harmless: tells wrong lengths of records',
  }),
  ...of('coordinator', 'receipts', ['receipts', 'receipts'], {
    'receipts-forged':
      'healed: shows forged receipts of what others stored: a run that relies on it ends with 4, until the hosts have signed',
  }),
  ...of('peer', 'chain', ['rollback', 'cosigned'], {
    'witness-withholds': 'healed: most witnesses sign nothing: exit 4 and a problem, until they do',
  }),
  ...of('appliance', 'names', ['appliance', 'appliance'], {
    'shard-foreign-name': 'refused: stores under the name of another’s shard, with a grant of its own',
    'shard-foreign-bytes': 'refused: stores another’s shard under a name of its own',
    'shard-foreign-signature': 'refused: signs another’s descriptor',
    'shard-flipped': 'refused: copies a descriptor over other bytes',
    'shard-wrong-root': 'refused: makes a descriptor of other roots',
    'shard-too-wide': 'refused: makes a descriptor of none, of 62 and of 510 shards',
    'shard-noise': 'refused: stores noise',
    'shard-twice': 'refused: stores another stripe under a name that it used',
    'grant-own': 'refused: signs its grant itself',
    'grant-other-peer': 'refused: brings a grant to another peer than it names',
    'grant-other-shard': 'refused: brings a grant of another shard',
    'grant-borne': 'refused: lends its grant to another host',
    'grant-length': 'refused: sends more than it was granted',
  }),
  ...of('appliance', 'calls', ['appliance', 'appliance'], {
    'lease-foreign': 'refused: looks up, commits, finishes and abandons under the lease of another',
    'lease-in-foreign-name': 'refused: begins a run in the name of another',
    'lease-ended': 'refused: goes on under a lease that a later run of the volume ended',
    'finish-other-head': 'refused: finishes with a head of another snapshot of its own',
    'finish-last-number': 'refused: finishes with the highest sequence there is',
    'finish-uncommitted': 'refused: finishes a snapshot of a stripe that it never stored',
    'finish-foreign-head': 'refused: finishes with the head of another appliance',
    'commit-unplaced': 'refused: commits a stripe on a peer where nothing was placed',
    'commit-never-sent': 'refused: commits shards that were never sent, with receipts of its own making, or with none',
    'commit-too-many': 'refused: commits more records than a stripe has',
    'entries-million': 'refused: says a million things about shards in one message',
    'calls-of-others': 'refused: invites, removes, renames, retires, sets the policy, reads events',
    'snapshots-of-others': 'refused: asks for snapshots of another',
  }),
  ...of('appliance', 'heads', ['appliance', 'appliance'], {
    'bitmap-circle': 'harmless: brings a bitmap that builds on itself',
  }),
  ...of('appliance', 'addresses', ['appliance', 'appliance'], {
    'address-foreign': 'refused: says where another host is, to peers and coordinator',
    'address-nowhere': 'refused: says that it is at a link-local, multicast, unspecified address, or at port 0',
  }),
  ...of('appliance', 'chain', ['appliance', 'appliance'], {
    'checkpoint-own': 'refused: offers the witnesses a list of its own',
  }),
  ...of('stranger', 'calls', ['stranger', 'stranger'], {
    'stranger-no-certificate': 'refused: asks peers and coordinator without a certificate',
    'stranger-reads': 'refused: asks peers for space, shards and documents, with a key of nobody',
    'stranger-calls': 'refused: asks the coordinator for everything that there is but to join',
    'stranger-replays': 'refused: brings a signed document of the fleet that it overheard',
    'stranger-pinned': 'refused: answers where a host is expected: its key is another, and nothing is sent to it',
  }),
  ...of('stranger', 'membership', ['stranger', 'stranger'], {
    'admission-foreign': 'refused: joins with the admission of another, before that one did',
    'admission-role': 'refused: joins in a higher role than its token is for',
    'admission-forged': 'refused: joins by a key of its own with the name of a token',
    'token-twice': 'refused: joins with a token that was used',
    'admission-again': 'refused: was removed, and joins with what let it in',
    'removed-calls': 'refused: was removed, and asks on, at the coordinator and the peers',
    'join-nowhere': 'refused: joins with a link-local or multicast address, port 0, or nonsense',
  }),
  ...of('stranger', 'connections', ['stranger', 'stranger'], {
    noise: 'harmless: sends noise, and beginnings, to each port',
    'absurd-length': 'refused: announces a body of 2^53 bytes',
    crowd: 'harmless: holds 150 connections to each host while a snapshot and a restore run',
  }),
  ...of('stranger', 'connections', ['flood', 'flood'], {
    'flood-connections': 'harmless: opens 400 connections to each host from one address',
    'slow-joins': 'harmless: sends joins a byte at a time, 60 at once',
    'flood-joins': 'harmless: joins with tokens of nobody, without end',
  }),
  ...of('appliance', 'connections', ['flood', 'flood'], {
    'half-finishes':
      'harmless: nine servers send 27 `finish` of 16 MiB, a byte at a time: they are cut once others wait',
    'slow-bitmaps': 'harmless: sends a peer bitmaps a byte at a time, more than it takes at once',
    'flood-refusals': 'harmless: asks for what it is refused, without end',
  }),
  ...of('peer', 'calls', ['peer', 'peer'], {
    'peer-reads': 'refused: asks another peer for shards, lists, heads, keys and bitmaps',
    'peer-calls': 'refused: asks the coordinator for everything that a peer may not',
  }),
  ...of('peer', 'addresses', ['peer', 'peer'], {
    'peer-address': 'refused: says where another host is, to peers and coordinator',
  }),
  ...of('peer', 'shards', ['peer', 'peer'], {
    'serves-other': 'harmless: serves the shard of another stripe',
    'serves-flipped': 'harmless: serves a shard with each byte changed',
    'serves-noise': 'harmless: serves noise',
    'serves-short': 'harmless: serves fewer bytes than were asked for',
    'serves-long': 'harmless: serves more bytes than were asked for',
    'serves-elsewhere': 'harmless: sends whoever asks to another host',
    'serves-nothing': 'harmless: takes the question, and never answers',
    'takes-nothing':
      'healed: says that it stored, and did not: without its receipt it is not counted, and the run names it',
    'lists-endless': 'harmless: lists shards and documents without end, and out of order, while the fleet is recovered',
  }),
  ...of('appliance', 'places', ['places', 'places'], {
    'junk-records': 'harmless: commits junk under the signatures of others’ records, in stripes that are safer',
    'junk-alone': 'refused: the same, where nothing else is left: it is read by nobody',
  }),
  ...of('appliance', 'proofs', ['proofs', 'poison'], {
    'poison-before':
      'healed: commits noise under the signatures of blocks before another stores them; he stores his own, events name the writer',
    'poison-after': 'healed: the same after another has stored them, in stripes that are safer',
    complains: 'harmless: says that what others stored is false; it is offered to everybody else',
  }),
  ...of('coordinator', 'proofs', ['proofs', 'known'], {
    'known-all': 'healed: says of each block that it is known, wherever; nothing proves it, and all is stored',
  }),
  ...of('peer', 'proofs', ['proofs', 'known'], {
    'proves-nothing': 'harmless: answers proofs from nothing, and serves what it has, or noise',
  }),
  ...of('coordinator', 'admins', ['admin', 'admin'], {
    'admin-made': 'refused: makes an admin',
    'admin-left-out': 'refused: leaves an admin out',
    'admin-ended-alone': 'refused: ends an admin by its own word',
    'admin-taken-back': 'refused: takes back that an admin was ended',
  }),
  ...of('appliance', 'admins', ['admin', 'admin'], {
    'admin-server': 'refused: invites, removes, makes and ends admins as if it were one',
  }),
  ...of('stranger', 'admins', ['admin', 'admin'], {
    'admin-stranger': 'refused: speaks as an admin with a key of nobody',
    'admin-former': 'refused: was an admin until another ended that, and goes on',
  }),
  ...of('appliance', 'orders', ['admin', 'orders'], {
    'policy-server': 'refused: sets the policy of the fleet',
    'forget-server': 'refused: says that a snapshot is forgotten, to coordinator and peers',
  }),
  ...of('coordinator', 'orders', ['admin', 'orders'], {
    'policy-number': 'harmless: signs a policy of a higher number than the admin’s',
    'forget-office': 'refused: says that a snapshot is forgotten',
    'list-without': 'refused: has witnesses sign a list without a snapshot, with no forget, or forged ones',
  }),
} as const satisfies Record<string, Attack>
export type AttackName = keyof typeof ATTACKS

/** To be called once an attack was tried and its outcome was seen. */
export type Tried = (...names: AttackName[]) => void

/** Fails the test at its end where an attack that is listed for it was not tried. Throws where one is listed for another. */
export function attacking(t: ExecutionContext): Tried {
  const listed = Object.entries<Attack>(ATTACKS).filter(([, { test }]) => test === t.title)
  const left = new Set(listed.map(([name]) => name))
  if (left.size === 0) throw new Error(`No attack is listed for "${t.title}"`)
  const own = new Set(left)
  t.teardown(() => {
    if (t.passed && left.size > 0) throw new Error(`Listed, and not tried: ${[...left].join(', ')}`)
  })
  return (...names) => {
    for (const name of names) {
      if (!own.has(name)) throw new Error(`${name} is not listed for "${t.title}"`)
      left.delete(name)
    }
  }
}

/** Of docs/attacks.md. */
export function attacksTable(): string {
  const all = Object.entries<Attack>(ATTACKS)
  return Object.entries(ACTORS)
    .flatMap(([actor, who]) => {
      const own = all.filter(([, one]) => one.actor === actor)
      const rows = own.map(
        ([name, { row, attack, outcome, file }]) => `| \`${name}\` | ${row} | ${attack} | ${outcome} | \`${file}\` |`,
      )
      return [
        '',
        `## ${actor}`,
        '',
        `${who}: ${own.length} ways.`,
        '',
        '| Attack | On | What | Outcome | Run by |',
        '|---|---|---|---|---|',
        ...rows,
      ]
    })
    .slice(1)
    .join('\n')
}
