#!/usr/bin/env python3
"""Images of every file system that imager reads, and what other programs say about them.

  lab.py list [--all] [--seed N]   NAME SEED SHOWS DOUBT RAW of the images of a run, between tabs
  lab.py make NAME SEED IMAGE      makes one; exit code 77 and a reason where this machine cannot
  lab.py truth NAME IMAGE          what the kernel and the file system's own tools find in it, see truth.py
  lab.py check NAME IMAGE          the file system's own check, which must find nothing
"""

import os
import random
import sys

import truth
import volume
from matrix import ROWS, SEEDS

#: Images of each file system in an ordinary run.
SAMPLE = {"ext": 5, "xfs": 3, "btrfs": 3, "fat": 2, "exfat": 1, "ntfs": 3, "disk": 1}


def chosen(everything, seed):
    if everything:
        return [(row, number) for row in ROWS.values() for number in range(1, SEEDS + 1)]
    rng = random.Random(seed)
    pairs = []
    for fs, count in SAMPLE.items():
        rows = [row for row in ROWS.values() if row.fs == fs]
        pairs += [(row, rng.randint(1, SEEDS)) for row in rng.sample(rows, count)]
    return pairs


def main(verb, *words):
    if verb == "list":
        seed = int(words[words.index("--seed") + 1]) if "--seed" in words else 1
        for row, number in chosen("--all" in words, seed):
            print(row.name, number, " ".join(row.shows), row.doubt, row.raw, sep="\t")
    elif verb == "make":
        volume.make(words[0], int(words[1]), words[2])
    elif verb == "truth":
        sys.stdout.writelines(f"{line}\n" for line in truth.lines(*words))
    elif verb == "check":
        volume.check(*words)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    os.umask(0o022)
    try:
        if os.geteuid():
            raise volume.Impossible("not root")
        main(*(sys.argv[1:] or ["help"]))
    except volume.Impossible as reason:
        print(reason, file=sys.stderr)
        sys.exit(77)
