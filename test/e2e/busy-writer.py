"""Writes to four files in a folder until it is killed, in bursts: PAUSE GENERATIONS FOLDER.

Generation after generation, in this order: `in-place` block by block, `mapped` page by page through memory, a line at the
end of `appended`, and `renamed` as a new file under the old name. So what they hold at one moment is known, and anything
else is of several moments (busy.ts).
"""
import mmap
import os
import sys
import time

BLOCK = 4096
IN_PLACE, MAPPED, RENAMED = 1024, 256, 50


def block(generation):
    return b"%015d\n" % generation * (BLOCK // 16)


pause, generations, folder = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.chdir(folder)
in_place = os.open("in-place", os.O_RDWR | os.O_CREAT)
os.pwrite(in_place, block(0) * IN_PLACE, 0)
mapped = os.open("mapped", os.O_RDWR | os.O_CREAT)
os.pwrite(mapped, block(0) * MAPPED, 0)
memory = mmap.mmap(mapped, MAPPED * BLOCK)
appended = os.open("appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(appended, b"%015d\n" % 0)
with open("renamed", "wb") as first:
    first.write(block(0) * RENAMED)
os.sync()
print("ready", flush=True)
generation = 0
while True:
    for _ in range(generations):
        generation += 1
        content = block(generation)
        for at in range(0, IN_PLACE, 16):
            os.pwrite(in_place, content * 16, at * BLOCK)
        for at in range(MAPPED):
            memory[at * BLOCK:(at + 1) * BLOCK] = content
        os.write(appended, b"%015d\n" % generation)
        with open("new", "wb") as new:
            new.write(content * RENAMED)
        os.rename("new", "renamed")
    time.sleep(pause)
