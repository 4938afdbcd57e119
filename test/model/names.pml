/*
 * Names: does one mean two things? A writer draws its run at each begin and counts stripes from 0 in it; here each run writes its
 * stripe 0. A copy of the writer (with its memory: a twin goes on with the same run) or of the coordinator is put back.
 * docs/model.md says what each guard is.
 */
c_decl { \#include <stdlib.h> }

/* Guards: each can be left out, and must then be missed. */
#define FRESH_RUN 1
#define WRITE_ONCE 2
#define PLACED_ONCE 3
#define OWN_NAMES 4
#define ROOTS_COMPARED 5
#define PLACES_MEET 6 /* an assumption: two places of one name have a peer in common */

/* States that must be reached. */
#define TWIN 101
#define REFUSED_BY_PEER 102
#define REFUSED_BY_COORDINATOR 103
#define STRANGER_REFUSED 104
#define BOTH_BACK 105
#define MIXED_READ 106
#define ALL_WRITTEN 107

byte without; /* the guard that is left out, or the state that is looked for */
#define guard(name, condition) (without == (name) || (condition))
#define cover(name) assert(without != (name))

#define PEERS 4
#define RUNS 5     /* as many as can be drawn; 0 is none */
#define WRITES 4
#define STRANGE 9  /* what another appliance says lies under the writer's name */

/* What lies on each peer under the name of a run, whichever shards of it: 0 nothing, else which content. */
byte held[PEERS * RUNS];
#define on(peer, r) held[(peer) * RUNS + (r)]
byte drawn, contents;       /* randomness and the disk's content: nobody puts them back */
byte run_, writing, counted; /* the writer: its run, what it wants to write, the counter it would keep */
byte placed[RUNS], committed[RUNS]; /* the coordinator */
byte means[RUNS];           /* what was committed under a name, for ever */
byte i_run, i_counted, i_placed[RUNS], i_committed[RUNS];
bool writer_image, coordinator_image, writer_back, coordinator_back;
/* Two places of one name have a peer in common; or not, and the coordinator never goes back; or not, and the writer starts anew. */
#define MEET 0
#define APART 1
#define RESTART 2
byte world;
#define apart (world != MEET)

inline new_run() {
  if
  :: without != FRESH_RUN -> drawn++; run_ = drawn
  :: else -> counted++; run_ = counted
  fi
}

#define free_on(peer) guard(WRITE_ONCE, on(peer, run_) == 0 || on(peer, run_) == writing)

/* The shards are sent one after the other; a peer that has another stripe of this name refuses, and a new run is drawn. */
inline send(a, b) {
  if
  :: free_on(a) && free_on(b) ->
     on(a, run_) = writing; on(b, run_) = writing;
     /* committed: the name means this */
     assert(means[run_] == 0 || means[run_] == writing);
     means[run_] = writing; committed[run_] = writing;
     writing = 0
  :: free_on(a) && !free_on(b) -> cover(REFUSED_BY_PEER); on(a, run_) = writing
  :: !free_on(a) -> skip
  fi
}

proctype writer() {
end:
  do
  :: atomic { run_ == 0 && drawn < RUNS - 1 && counted < RUNS - 1 -> new_run() }
  :: atomic { run_ && !writing && contents < WRITES -> contents++; writing = contents;
       if :: contents == WRITES -> cover(ALL_WRITTEN) :: else fi }
  :: atomic { run_ && writing ->
       if
       :: !guard(PLACED_ONCE, placed[run_] == 0 || placed[run_] == writing) -> cover(REFUSED_BY_COORDINATOR); run_ = 0
       :: else ->
          placed[run_] = writing;
          if
          :: true -> send(0, 1)
          :: true -> send(1, 2)
          :: apart -> send(2, 3)
          fi;
          run_ = 0 /* stripe 0 of this run is written; the next one is of a new run */
       fi }
  od
}

/* Another appliance sends a shard under the writer's name; only the writer can sign its descriptor. */
proctype stranger() {
end:
  atomic { drawn && on(3, 1) == 0 ->
    if
    :: !guard(OWN_NAMES, false) -> cover(STRANGER_REFUSED)
    :: else -> on(3, 1) = STRANGE; means[1] = (means[1] -> means[1] : STRANGE)
    fi }
}

/* Whoever restores or repairs puts together shards of one root only. */
proctype reader() {
  byte r;
end:
  do
  :: atomic { r == 0 -> if :: r = 1 :: r = 2 fi }
  :: atomic { r && means[r] && on(0, r) && on(2, r) && on(0, r) != on(2, r) ->
       cover(MIXED_READ);
       assert(without != ROOTS_COMPARED);
       r = 0 }
  od
}

proctype misfortune() {
end:
  do
  :: atomic { (world == RESTART -> run_ == 0 : run_ != 0) && !writer_image -> writer_image = true; i_run = run_; i_counted = counted }
  :: atomic { writer_image && !writer_back ->
       cover(TWIN);
       writer_back = true; run_ = i_run; writing = 0; counted = i_counted;
       if :: coordinator_back -> cover(BOTH_BACK) :: else fi }
  :: atomic { !coordinator_image ->
       coordinator_image = true;
       i_placed[1] = placed[1]; i_placed[2] = placed[2]; i_placed[3] = placed[3]; i_placed[4] = placed[4];
       i_committed[1] = committed[1]; i_committed[2] = committed[2]; i_committed[3] = committed[3]; i_committed[4] = committed[4] }
  :: atomic { coordinator_image && !coordinator_back && (world != APART || without == PLACES_MEET) ->
       coordinator_back = true;
       placed[1] = i_placed[1]; placed[2] = i_placed[2]; placed[3] = i_placed[3]; placed[4] = i_placed[4];
       committed[1] = i_committed[1]; committed[2] = i_committed[2]; committed[3] = i_committed[3]; committed[4] = i_committed[4] }
  od
}

init {
  atomic {
    c_code { now.without = getenv("WITHOUT") ? atoi(getenv("WITHOUT")) : 0; };
    if :: world = MEET :: world = APART :: world = RESTART fi;
    run writer(); run stranger(); run reader(); run misfortune()
  }
}
