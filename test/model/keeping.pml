/*
 * Letting go: is something dropped that somebody still needs? Two appliances, a coordinator, three peers that are the witnesses
 * too, a person who forgets, and misfortune. What is stored is one content; whoever stores it anew writes a stripe of his own.
 * One checkpoint's way to its quorum is chain.pml; here it is one step. docs/model.md says what each guard is.
 */
c_decl { \#include <stdlib.h> }

/* Guards: each can be left out, and must then be missed. */
#define VETO 1
#define ALL_HEADS 2
#define PROPOSAL 3
#define RUN_VETO 4
#define TAKING_OUT 5
#define FINISH_CONDEMNED 6
#define FINISH_COMMITTED 7
#define HEAD_QUORUM 8
#define FOLLOWS_CHAIN 9
#define NO_SHRINKING 10
#define CONDEMNED_ANEW 11
#define CONFIRMED 12
#define WHOLE_STRIPE 13
#define HONEST_FINISH 14 /* an assumption: even a coordinator that lies acknowledges nothing that it dropped */

/* States that must be reached. */
#define TAKEN_OUT 101
#define SENT_AGAIN 102
#define SAVED_FROM_TRASH 103
#define CAUGHT_UP 104
#define VETOED 105
#define PURGED 106
#define REPAIRED 107
#define TWO_LOSSES 108
#define RUN_LOST 109
#define ALL_DONE 110

byte without; /* the guard that is left out, or the state that is looked for */
#define guard(name, condition) (without == (name) || (condition))
#define cover(name) assert(without != (name))

/* What goes wrong, one kind a world; without misfortune both appliances run, else the first. */
#define QUIET 5
#define OLD_COORDINATOR 1 /* a copy of it is put back */
#define OLD_PEER 2
#define NEW_DISK 3 /* a peer's disk is lost, and after all is whole again another's */
#define TAKEN_OVER 4 /* the coordinator lies once */
byte world;
byte in_world; /* 0: in each */
#define only(one) (in_world == 0 || in_world == (one))

#define PEERS 3
#define SHARDS 2 /* k + m = 1 + 1, one a host: m = 1 */
/* Stripe, head and lease of a run have its bit: what was there before; a run of each of two appliances. */
#define OLD 1
#define FIRST 2
#define SECOND 4
#define EVERY 7
#define at_run(one) ((one) >> 1) /* 1, 2, 4: 0, 1, 2 */
#define within(part, whole) (((part) & ~(whole)) == 0)
#define count(set) (((set) & 1) + (((set) >> 1) & 1) + (((set) >> 2) & 1))

mtype:stage = { IDLE, SENDING, TELLING, DONE, DEAD }

/* Runs, each by its writer. `names` is the bitmap in its head. */
mtype:stage phase[3];
byte names[3], sent[3], told[3], have[3];
byte over;  /* no longer calls: known after 7 days without a call */
byte acked; /* exit 0 */
/* The chain, as a quorum cosigned it. */
byte listed, let_go, dropped;
/* Peers. `newest`: it heard the last of the chain. */
byte store[PEERS], trash[PEERS], heads[PEERS];
bool newest[PEERS];
/* The coordinator. */
byte c_heads, c_forgets, c_committed, c_condemned, c_leases;
bool behind;
/* Misfortune. `damaged` is the peer that lost something and is not whole again: at most m = 1 at a time. */
byte damaged, misfortunes;
/* What was copied of the coordinator or of a peer, to be put back. */
byte i_who, i_heads, i_forgets, i_committed, i_condemned, i_leases;
byte i_store, i_trash;
bool i_newest;

#define named_by(set) \
  ((((set) & OLD) -> names[0] : 0) | (((set) & FIRST) -> names[1] : 0) | (((set) & SECOND) -> names[2] : 0))
#define c_live (c_heads & ~c_forgets)
#define kept (acked & ~let_go)
#define has(p, one) (((store[p] | trash[p]) & (one)) != 0)
#define carries(p, one) ((heads[p] & (one)) != 0)
#define sound(p) ((damaged & (1 << (p))) == 0)
#define holders(one) ((sound(0) && has(0, one)) + (sound(1) && has(1, one)) + (sound(2) && has(2, one)))
#define carriers(one) ((sound(0) && carries(0, one)) + (sound(1) && carries(1, one)) + (sound(2) && carries(2, one)))
#define wanted (SHARDS - (damaged != 0))
#define restorable(one) \
  (((named_by(kept) & (one)) == 0 || holders(one) >= wanted) && ((kept & (one)) == 0 || carriers(one) >= wanted))
#define all_restorable (restorable(OLD) && restorable(FIRST) && restorable(SECOND))

/* Witnesses sign what follows the checkpoint that they signed last, and no list from which a head went without a forget. */
inline cosign(set, forgets, going) {
  cosigned = guard(FOLLOWS_CHAIN, !behind) && guard(NO_SHRINKING, within(listed, (set) | (forgets)));
  if
  :: cosigned ->
     listed = (set) & ~(forgets);
     let_go = forgets;
     dropped = going;
     behind = false;
     newest[0] = false; newest[1] = false; newest[2] = false;
     i_newest = false
  :: else
  fi
}

/* `finish` hands in the whole bitmap. */
inline finish(own) {
  if
  :: (c_leases & own) == 0 -> phase[r] = DEAD; over = over | own; cover(RUN_LOST)
  :: else ->
     if
     :: guard(FINISH_COMMITTED, within(names[r], c_committed)) &&
        guard(FINISH_CONDEMNED, (names[r] & c_condemned) == 0) ->
        cosign(c_live | own, c_forgets, 0);
        if
        :: cosigned ->
           c_heads = c_heads | own;
           c_leases = c_leases & ~own;
           acked = acked | own;
           phase[r] = DONE;
           if :: count(acked) == 3 -> cover(ALL_DONE) :: else fi
        :: else
        fi
     /* refused: what is condemned is out of the trash of whoever should hold it, and its head is there */
     :: within(names[r], c_committed) && (names[r] & c_condemned) != 0 &&
        guard(CONFIRMED, count(have[r]) >= SHARDS) && !behind ->
        cover(TAKEN_OUT);
        c_condemned = c_condemned & ~names[r]
     /* refused: sent again; what the first head vetoed is taken as gone */
     :: (!within(names[r], c_committed) || (names[r] & c_condemned) != 0) && names[r] != own ->
        cover(SENT_AGAIN);
        names[r] = own;
        told[r] = 0; have[r] = 0;
        heads[0] = heads[0] & ~own; heads[1] = heads[1] & ~own; heads[2] = heads[2] & ~own;
        phase[r] = SENDING
     :: else /* its own stripe is condemned or forgotten, and nobody has it: the run is lost */
        -> phase[r] = DEAD; over = over | own; c_leases = c_leases & ~own
     fi
  fi
}

proctype appliance(byte own) {
  bool cosigned;
  byte r = at_run(own);
end:
  do
  :: atomic { phase[r] == IDLE && !behind ->
       c_leases = c_leases | own;
       if
       :: names[r] = OLD; phase[r] = TELLING /* its parent's, or found by a lookup */
       :: own == FIRST && sent[at_run(SECOND)] -> names[r] = SECOND; phase[r] = TELLING /* found while it is written */
       :: names[r] = own; phase[r] = SENDING
       fi }
  :: atomic { phase[r] == SENDING && sent[r] && guard(WHOLE_STRIPE, count(sent[r]) == SHARDS) ->
       c_committed = c_committed | (c_leases & own);
       phase[r] = TELLING }
  :: atomic { phase[r] == TELLING && told[r] && guard(HEAD_QUORUM, count(told[r]) >= SHARDS) -> finish(own) }
  :: atomic { (phase[r] == SENDING || phase[r] == TELLING) && !(over & own) -> /* it crashes */
       phase[r] = DEAD; over = over | own; c_leases = c_leases & ~own }
  od
}

/* A head that arrives takes what it names out of the trash, and the peer answers whether it has it. */
inline arrive(set) {
  heads[me] = heads[me] | (set);
  if
  :: trash[me] & named_by(set) && without != TAKING_OUT ->
     cover(SAVED_FROM_TRASH);
     store[me] = store[me] | (trash[me] & named_by(set));
     trash[me] = trash[me] & ~named_by(set)
  :: else
  fi
}

inline take_shard(own) {
  store[me] = store[me] | own;
  sent[at_run(own)] = sent[at_run(own)] | (1 << me)
}

inline take_head(own) {
  if
  :: within(names[at_run(own)], store[me] | trash[me]) -> have[at_run(own)] = have[at_run(own)] | (1 << me)
  :: else
  fi;
  told[at_run(own)] = told[at_run(own)] | (1 << me);
  arrive(own)
}

#define places(own) ((own) == FIRST -> 5 : 6)
#define sends(own) (phase[at_run(own)] == SENDING && (places(own) & ~sent[at_run(own)] & (1 << me)))
#define tells(own) (phase[at_run(own)] == TELLING && !(told[at_run(own)] & (1 << me)))
#define unended (EVERY & ~OLD & ~over & ~listed & ~let_go)
#define vetoed ((without != VETO -> named_by(heads[me] & ~let_go) : 0) | (without != RUN_VETO -> unended : 0))
#define proposed (without != PROPOSAL -> dropped : EVERY)
#define lacks_head(one) ((c_live & (one)) && !carries(me, one) && carriers(one) < SHARDS)
#define to_repair(one) (((named_by(c_live) | c_committed & c_leases) & (one)) && !has(me, one) && holders(one) && holders(one) < SHARDS)

proctype peer(byte me) {
end:
  do
  :: atomic { sends(FIRST) -> take_shard(FIRST) }
  :: atomic { sends(SECOND) -> take_shard(SECOND) }
  :: atomic { tells(FIRST) -> take_head(FIRST) }
  :: atomic { tells(SECOND) -> take_head(SECOND) }
  /* the last checkpoint: first the heads that it lists, then what it drops goes into the trash */
  :: atomic { !newest[me] && !behind && (store[me] | trash[me] | (damaged & (1 << me))) ->
       newest[me] = true;
       if
       :: without != ALL_HEADS -> arrive(listed)
       :: else
       fi;
       if
       :: proposed & store[me] & vetoed -> cover(VETOED)
       :: else
       fi;
       if
       :: proposed & store[me] & ~vetoed ->
          trash[me] = trash[me] | (proposed & store[me] & ~vetoed);
          store[me] = store[me] & ~trash[me]
       :: else
       fi }
  :: atomic { lacks_head(OLD) || lacks_head(FIRST) || lacks_head(SECOND) -> arrive(c_live) }
  /* later, without saying when: the 7 days are margin, no guard; a coordinator that does not lie has told what it knows */
  :: atomic { trash[me] ->
       if
       :: world != TAKEN_OVER -> arrive(c_live)
       :: else
       fi;
       if
       :: trash[me] -> cover(PURGED); trash[me] = 0
       :: else
       fi;
       assert(all_restorable) }
  :: atomic { to_repair(OLD) -> cover(REPAIRED); store[me] = store[me] | OLD }
  :: atomic { to_repair(FIRST) -> store[me] = store[me] | FIRST }
  :: atomic { to_repair(SECOND) -> store[me] = store[me] | SECOND }
  od
}

inline forget(one) {
  cosign(c_live & ~(one), c_forgets | (one), 0);
  if
  :: cosigned -> c_forgets = c_forgets | (one)
  :: else
  fi
}

#define orphans ((store[0] | store[1] | store[2]) & ~named_by(c_live) & ~c_leases & ~c_condemned)

proctype coordinator() {
  bool cosigned;
  byte drops;
end:
  do
  :: atomic { (c_live & OLD) && world != NEW_DISK -> forget(OLD) }
  /* whatever else goes on in the fleet */
  :: atomic { world == OLD_COORDINATOR && newest[0] && newest[1] -> cosign(c_live, c_forgets, 0) }
  :: atomic { orphans ->
       drops = orphans;
       cosign(c_live, c_forgets, drops);
       if
       :: cosigned -> c_condemned = c_condemned | drops
       :: else
       fi;
       drops = 0 }
  /* behind its own chain it only reads, and catches up */
  :: atomic { behind ->
       cover(CAUGHT_UP);
       behind = false;
       c_heads = c_heads | listed | let_go;
       c_forgets = let_go;
       c_leases = c_leases & ~listed & ~let_go;
       c_committed = c_committed | named_by(c_live);
       c_condemned = (without != CONDEMNED_ANEW -> EVERY & ~named_by(c_live) : c_condemned) }
  od
}

#define NOBODY 0
#define redundant(one) \
  (((named_by(kept) & (one)) == 0 || holders(one) >= SHARDS) && ((kept & (one)) == 0 || carriers(one) >= SHARDS))
#define as_sent(own) \
  (within(sent[at_run(own)] & damaged, has(damaged >> 1, own) * EVERY) && within(told[at_run(own)] & damaged, carries(damaged >> 1, own) * EVERY))
#define all_redundant (redundant(OLD) && redundant(FIRST) && redundant(SECOND))

inline image_peer(p) {
  i_who = p + 1;
  i_store = store[p]; i_trash = trash[p]; i_heads = heads[p]; i_newest = newest[p]
}

inline put_back(p) {
  damaged = 1 << p;
  store[p] = i_store; trash[p] = i_trash; heads[p] = i_heads; newest[p] = i_newest;
  forget_image();
  assert(all_restorable)
}

inline forget_image() {
  i_who = NOBODY;
  i_heads = 0; i_forgets = 0; i_committed = 0; i_condemned = 0; i_leases = 0;
  i_store = 0; i_trash = 0;
  i_newest = false
}

#define COORDINATOR 4

proctype misfortune() {
  byte p;
  bool cosigned;
end:
  do
  :: atomic { world == OLD_COORDINATOR && i_who == NOBODY && misfortunes < 1 && !behind ->
       i_who = COORDINATOR;
       i_newest = true; i_heads = c_heads; i_forgets = c_forgets;
       i_committed = c_committed; i_condemned = c_condemned; i_leases = c_leases }
  :: atomic { i_who == COORDINATOR ->
       misfortunes++;
       behind = !i_newest; c_heads = i_heads; c_forgets = i_forgets;
       c_committed = i_committed; c_condemned = i_condemned; c_leases = i_leases;
       forget_image() }
  :: atomic { world == OLD_PEER && i_who == NOBODY && misfortunes < 1 ->
       if :: p = 0 :: p = 1 :: p = 2 fi;
       image_peer(p); p = 0 }
  :: atomic { i_who != NOBODY && i_who != COORDINATOR ->
       p = i_who - 1;
       misfortunes++;
       put_back(p); p = 0 }
  /* a peer's disk is gone; it begins with an empty one */
  :: atomic { world == NEW_DISK && misfortunes < 2 && !damaged && all_redundant ->
       if :: p = 0 :: p = 1 :: p = 2 fi;
       damaged = 1 << p;
       misfortunes++;
       if :: misfortunes == 2 -> cover(TWO_LOSSES) :: else fi;
       store[p] = 0; trash[p] = 0; heads[p] = 0; newest[p] = false; p = 0;
       assert(all_restorable) }
  :: atomic { damaged && newest[damaged >> 1] && all_redundant && as_sent(FIRST) && as_sent(SECOND) -> damaged = 0 }
  /* a coordinator that is taken over: it proposes to drop what is needed, or lists less than there is */
  :: atomic { world == TAKEN_OVER && misfortunes < 2 ->
       misfortunes++;
       if
       :: named_by(c_live) & OLD || without == HONEST_FINISH -> cosign(c_live, c_forgets, OLD)
       :: (named_by(c_live) | c_leases) & FIRST || without == HONEST_FINISH -> cosign(c_live, c_forgets, FIRST)
       :: c_live & OLD -> cosign(c_live & ~OLD, c_forgets, OLD)
       :: c_live & FIRST -> cosign(c_live & ~FIRST, c_forgets, EVERY)
       :: else
       fi }
  od
}

init {
  atomic {
    c_code { now.without = getenv("WITHOUT") ? atoi(getenv("WITHOUT")) : 0; now.in_world = getenv("WORLD") ? atoi(getenv("WORLD")) : 0; };
    names[0] = OLD;
    phase[0] = DONE; phase[1] = IDLE; phase[2] = IDLE;
    acked = OLD;
    listed = OLD;
    store[0] = OLD; store[1] = OLD;
    heads[0] = OLD; heads[1] = OLD; heads[2] = OLD;
    newest[0] = true; newest[1] = true; newest[2] = true;
    c_heads = OLD; c_committed = OLD;
    if
    :: only(QUIET) -> world = QUIET; run appliance(SECOND)
    :: only(OLD_COORDINATOR) -> world = OLD_COORDINATOR
    :: only(OLD_PEER) -> world = OLD_PEER
    :: only(NEW_DISK) -> world = NEW_DISK
    :: only(TAKEN_OVER) -> world = TAKEN_OVER
    fi;
    run appliance(FIRST);
    run peer(0); run peer(1); run peer(2);
    run coordinator(); run misfortune()
  }
}
