/*
 * The chain of checkpoints: can two lists of snapshots be shown that contradict each other? Three witnesses (four where they change),
 * coordinators of one key, two appliances that each have one head to list and keep the newest checkpoint that they accepted.
 * docs/model.md says what each guard is.
 */
c_decl { \#include <stdlib.h> }

/* Guards: each can be left out, and must then be missed. */
#define NEVER_TWICE 1
#define OWN_CHAIN 2
#define LIST_GROWS 3
#define SENT_LIST 4
#define NEWER_TERM 5
#define SIGNED_DURABLY 6
#define MAJORITY 7
#define BOTH_MAJORITIES 8
#define SHOWN_MAJORITY 9
#define NEVER_OLDER 10
#define ASKS_FIRST 11
#define TAKES_HEADS 12
#define MOST_FOLLOWERS 13
#define ALL_ANSWER 14 /* an assumption: where a witness went back too, none is off while the coordinator starts */
#define ONE_KEEPS 15 /* an assumption: no witness lies or goes back while there are two coordinators of one key, or one that lies */
#define SAYS_LISTED 16 /* an assumption: a coordinator that lies does not say that a checkpoint lists what it does not list */

/* States that must be reached. */
#define TWO_SIGNED 101 /* by two coordinators */
#define REFUSED_OLD 102
#define REFUSED_FORK 103
#define CAME_BACK 104
#define REFUSED_SHRUNK 105
#define REFUSED_TERM 106
#define TOOK_OVER 107
#define BOTH_LISTED 108
#define SHOWN_OLDER 109
#define WITNESSES_MOVED 110

byte without; /* the guard that is left out, or the state that is looked for */
#define guard(name, condition) (without == (name) || (condition))
#define cover(name) assert(without != (name))

/* One kind of trouble a world. */
#define TWINS 1    /* a copy of the coordinator runs, beside it or instead of it */
#define LIAR 2     /* a coordinator that is taken over signs and shows what it likes */
#define OLD_WITNESS 3 /* one witness is put back to anything it ever signed, or to nothing, as often as it likes: so it signs whatever it is asked to */
#define BOTH_OLD 4 /* the same, and the coordinator is put back and starts again */
#define RECOVERED 5 /* the words have made another coordinator, in a new term; the old one runs on */
#define MOVED 6    /* twins, one of which exchanges a witness */
byte world;
byte in_world; /* 0: in each */
#define only(one) (in_world == 0 || in_world == (one))

#define WITNESSES 4
#define FORMER 7 /* who they are: bits */
#define NEXT 14
#define CHECKPOINTS 4
/* Of each checkpoint; 0 is none, from which all descend. */
byte n, sequence[6], term[6], line[6], heads[6], signers[6], named[6]; /* `line`: those of its term that lead to it, and itself */
/* What each witness signed last, and the list that it keeps with it. */
byte last[WITNESSES], live[WITNESSES];
/* Coordinators: off, asking, current. */
#define OFF 0
#define ASKING 1
#define CURRENT 2
byte phase[2], tip[2], known[2], witnesses[2], former[2], terms[2], back;
/* A copy of the first coordinator. */
bool is_copied;
byte i_tip, i_known;
byte accepted; /* those that appliances may have been shown, and accepted */
bool holds;
/* An appliance: what it accepted last, and whether it was told that its snapshot is listed. */
byte seen;
bool acked;

#define bit(one) (1 << (one))
#define within(part, whole) (((part) & ~(whole)) == 0)
#define count(set) (((set) & 1) + (((set) >> 1) & 1) + (((set) >> 2) & 1) + (((set) >> 3) & 1))
#define is_majority(set, all) (count((set) & (all)) * 2 > count(all))
#define leads_to(old, one) ((line[one] & bit(old)) != 0)
#define place(one) (term[one] * 8 + sequence[one])
#define has_quorum(one) is_majority(signers[one], named[one])
/* In the line to `one` is a link that a quorum signed, not before that place; an honest coordinator shows what it counted as one. */
#define is_proved(link) (world == LIAR -> has_quorum(link) : (accepted & bit(link)) != 0)
#define wins(link, one, at) (leads_to(link, one) && is_proved(link) && place(link) >= place(at))
#define is_won(one, at) (term[one] == term[at] && (wins(1, one, at) || wins(2, one, at) || wins(3, one, at) || wins(4, one, at)))

/* A witness is shown a checkpoint, the links before it, and the list that it speaks of. */
inline judge(w, one, list) {
  refused = 0;
  if
  :: one == last[w] -> refused = 1
  :: else ->
     if
     :: !guard(NEWER_TERM, term[one] >= term[last[w]]) -> cover(REFUSED_TERM); refused = 1
     :: !guard(NEVER_TWICE, term[one] > term[last[w]] || sequence[one] > sequence[last[w]]) -> cover(REFUSED_OLD); refused = 1
     :: !guard(OWN_CHAIN, without == NEVER_TWICE || (without == NEWER_TERM && term[one] < term[last[w]]) || last[w] == 0 || term[one] > term[last[w]] || leads_to(last[w], one) || is_won(one, last[w])) ->
        cover(REFUSED_FORK); refused = 1
     :: !guard(LIST_GROWS, within(live[w], list)) -> cover(REFUSED_SHRUNK); refused = 1
     :: !guard(SENT_LIST, list == heads[one]) -> refused = 1
     :: else ->
        if :: last[w] && term[one] == term[last[w]] && !leads_to(last[w], one) -> cover(CAME_BACK) :: else fi;
        last[w] = one;
        live[w] = list;
        signers[one] = signers[one] | bit(w)
     fi
  fi
}

inline sign(of_term, after, list, set) {
  n++;
  term[n] = of_term;
  sequence[n] = ((after && term[after] == of_term) -> sequence[after] + 1 : 1);
  line[n] = bit(n) | ((after && term[after] == of_term) -> line[after] : 0);
  heads[n] = list;
  named[n] = set
}

/*
 * Of two that any appliances accepted: at one place stands one only, of one term one leads to the other, and the later lists more, also
 * one of a later term. Where
 * the coordinator and a witness go back, a line may be left that a quorum had signed; what it lists stays.
 */
#define agree(one, other) \
  ((accepted & bit(other)) == 0 || (one) == (other) || (place(one) != place(other) && \
   (term[one] != term[other] || world == BOTH_OLD || leads_to(one, other) || leads_to(other, one)) && \
   (place(one) < place(other) || within(heads[other], heads[one])) && (place(one) > place(other) || within(heads[one], heads[other]))))

/* It may be shown to an appliance that has seen none of them. */
inline accept(one) {
  accepted = accepted | bit(one);
  holds = agree(one, 1) && agree(one, 2) && agree(one, 3) && agree(one, 4) && agree(one, 5);
  assert(holds);
  if :: heads[one] == 3 -> cover(BOTH_LISTED) :: else fi
}

#define follows(w, base) (last[w] != 0 && (asked & bit(w)) && (term[last[w]] < term[base] || leads_to(last[w], base)))
#define followers(base) (follows(0, base) + follows(1, base) + follows(2, base) + follows(3, base))

inline consider(one) {
  if
  :: (one) && (!best || guard(MOST_FOLLOWERS, followers(one) > followers(best) ||
                                    (followers(one) == followers(best) && place(one) > place(best)))) -> best = one
  :: else
  fi
}

/* Those who answer, a majority at least, are heard: whatever they list is listed from then on. */
inline ask(c) {
  best = tip[c];
  r = 0;
  do
  :: r < WITNESSES ->
     if
     :: asked & bit(r) ->
        if :: without != TAKES_HEADS -> known[c] = known[c] | live[r] :: else fi;
        if
        :: last[r] && named[last[r]] == NEXT && witnesses[c] == FORMER -> is_news = true
        :: else
        fi;
        consider(last[r])
     :: else
     fi;
     r++
  :: else -> break
  od;
  if :: best != tip[c] -> cover(TOOK_OVER) :: else fi;
  tip[c] = best;
  /* one that was replaced ends; how the other of two twins goes on with other witnesses is left out: it ends here */
  phase[c] = (term[best] > terms[c] -> OFF : (is_news -> OFF : CURRENT));
  best = 0; r = 0; is_news = false
}

#define quorum_of(c, one) \
  (guard(MAJORITY, is_majority(signers[one], witnesses[c])) && signers[one] != 0 && \
   guard(BOTH_MAJORITIES, former[c] == 0 || is_majority(signers[one], former[c])))

#define may_take(c) ((c == 0 && !(known[c] & 1)) || ((c == 1 || world != MOVED) && !(known[c] & 2)))
#define says_less(c) (known[c] != heads[tip[c]] || term[tip[c]] != terms[c] || named[tip[c]] != witnesses[c])

proctype coordinator(byte c) {
  byte refused, asked, best, r;
  bool is_news;
end:
  do
  /* started: it asks its witnesses, and goes on once a majority has answered; after a rollback, see ALL_ANSWER */
  :: atomic { phase[c] == ASKING ->
       if
       :: asked = 3
       :: asked = 5
       :: asked = 6
       :: asked = 7
       :: world == MOVED -> asked = 10
       :: world == MOVED -> asked = 12
       :: world == MOVED -> asked = 11
       :: world == MOVED -> asked = 13
       :: world == MOVED -> asked = 14
       :: world == MOVED -> asked = 15
       fi;
       if
       :: is_majority(asked, witnesses[c]) && (former[c] == 0 || is_majority(asked, former[c])) && guard(ALL_ANSWER, world != BOTH_OLD || asked == 7) -> ask(c)
       :: else
       fi;
       asked = 0 }
  /* a witness is exchanged for another */
  :: atomic { world == MOVED && c == 0 && phase[c] == CURRENT && witnesses[c] == FORMER && n < CHECKPOINTS ->
       former[c] = FORMER; witnesses[c] = NEXT }
  /* a snapshot is finished, or something else has changed */
  :: atomic { phase[c] == CURRENT && n < CHECKPOINTS && (may_take(c) || says_less(c)) ->
       if
       :: c == 0 && (known[c] & 1) == 0 -> known[c] = known[c] | 1
       :: (c == 1 || world != MOVED) && (known[c] & 2) == 0 -> known[c] = known[c] | 2
       :: says_less(c)
       fi;
       sign(terms[c], tip[c], known[c], witnesses[c]);
       tip[c] = n }
  /* offered to one after the other */
  :: atomic { phase[c] == CURRENT && tip[c] && term[tip[c]] == terms[c] && named[tip[c]] == witnesses[c] ->
       if
       :: r = 0
       :: r = 1
       :: r = 2
       :: world == MOVED -> r = 3
       fi;
       if
       :: ((witnesses[c] | former[c]) & bit(r)) && (signers[tip[c]] & bit(r)) == 0 ->
          judge(r, tip[c], heads[tip[c]]);
          if
          :: refused -> phase[c] = ASKING /* it holds what is not known here */
          :: else
          fi;
          if
          :: quorum_of(c, tip[c]) ->
             if :: former[c] -> cover(WITNESSES_MOVED); former[c] = 0 :: else fi;
             if :: c && accepted -> cover(TWO_SIGNED) :: else fi;
             accept(tip[c])
          :: else
          fi
       :: else
       fi;
       r = 0; refused = 0 }
  od
}

proctype liar() {
  byte refused, w, list, after;
end:
  do
  :: atomic { n < CHECKPOINTS ->
       if :: after = 0 :: after = 1 :: n > 1 -> after = 2 :: n > 2 -> after = 3 fi;
       if :: list = 0 :: list = 1 :: list = 3 fi;
       sign(1, after, list, FORMER);
       after = 0; list = 0 }
  :: atomic { n ->
       if :: after = 1 :: n > 1 -> after = 2 :: n > 2 -> after = 3 :: n > 3 -> after = 4 fi;
       if :: w = 0 :: w = 1 :: w = 2 fi;
       if :: list = heads[after] :: without == SENT_LIST -> list = 3 fi;
       judge(w, after, list);
       w = 0; list = 0; after = 0; refused = 0 }
  :: atomic { n ->
       if :: after = 1 :: n > 1 -> after = 2 :: n > 2 -> after = 3 :: n > 3 -> after = 4 fi;
       /* an appliance, whose snapshot is the first one */
       if
       :: !guard(SHOWN_MAJORITY, has_quorum(after)) -> skip
       :: !guard(NEVER_OLDER, after == seen || place(after) > place(seen)) -> cover(SHOWN_OLDER)
       :: else ->
          seen = after;
          if :: heads[after] & 1 || without == SAYS_LISTED -> acked = true :: else fi;
          assert(!acked || (heads[after] & 1) != 0);
          accept(after)
       fi;
       after = 0 }
  od
}

#define may_go_back (world == OLD_WITNESS || world == BOTH_OLD || without == SIGNED_DURABLY || without == ONE_KEEPS)

proctype misfortune() {
  byte to;
end:
  do
  :: atomic { may_go_back ->
       if
       :: to = 0
       :: signers[1] & 1 -> to = 1
       :: signers[2] & 1 -> to = 2
       :: signers[3] & 1 -> to = 3
       :: signers[4] & 1 -> to = 4
       fi;
       last[0] = to; live[0] = heads[to];
       to = 0 }
  :: atomic { (world == TWINS || world == MOVED || world == BOTH_OLD) && phase[0] == CURRENT && witnesses[0] == FORMER && !is_copied && !back ->
       is_copied = true; i_tip = tip[0]; i_known = known[0] }
  /* the copy is put back, and the coordinator starts from it */
  :: atomic { world == BOTH_OLD && is_copied && !back ->
       back = 1;
       tip[0] = i_tip; known[0] = i_known;
       phase[0] = (without != ASKS_FIRST -> ASKING : CURRENT);
       is_copied = false; i_tip = 0; i_known = 0 }
  /* the copy runs too: with its memory, so that it does not start and asks nobody */
  :: atomic { (world == TWINS || world == MOVED) && is_copied && !back ->
       back = 1;
       tip[1] = i_tip; known[1] = i_known; witnesses[1] = FORMER; terms[1] = 1;
       phase[1] = CURRENT;
       is_copied = false; i_tip = 0; i_known = 0 }
  :: atomic { world == RECOVERED && !back ->
       back = 1;
       witnesses[1] = FORMER; terms[1] = 2;
       phase[1] = ASKING }
  od
}

init {
  atomic {
    c_code { now.without = getenv("WITHOUT") ? atoi(getenv("WITHOUT")) : 0; now.in_world = getenv("WORLD") ? atoi(getenv("WORLD")) : 0; };
    phase[0] = CURRENT; witnesses[0] = FORMER; terms[0] = 1;
    if
    :: only(TWINS) -> world = TWINS
    :: only(LIAR) -> world = LIAR
    :: only(OLD_WITNESS) -> world = OLD_WITNESS
    :: only(BOTH_OLD) -> world = BOTH_OLD
    :: only(RECOVERED) -> world = RECOVERED
    :: only(MOVED) -> world = MOVED
    fi;
    /* A first one, that all have signed, and that lists nothing. */
    n = 1; term[1] = 1; sequence[1] = 1; line[1] = 2; signers[1] = FORMER; named[1] = FORMER;
    last[0] = 1; last[1] = 1; last[2] = 1; tip[0] = 1; seen = 1; accepted = 2;
    if
    :: world == LIAR -> phase[0] = OFF; run liar()
    :: else -> run coordinator(0)
    fi;
    if
    :: world == TWINS || world == MOVED || world == RECOVERED -> run coordinator(1)
    :: else
    fi;
    run misfortune()
  }
}
