/** What is done to the peers of a lab and to what they hold. */
import { execFileSync } from 'node:child_process'
import { closeSync, openSync, readdirSync, readSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'

/** The shard files of a peer, largest first. */
export function shardsOf(store: string): string[] {
  const all = readdirSync(store, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.shard'))
  return all.map((name) => join(store, name)).sort((a, b) => statSync(b).size - statSync(a).size)
}

/** One bit; done twice, the file is as it was. */
export function flip(path: string, offset: number): void {
  const file = openSync(path, 'r+')
  const byte = Buffer.alloc(1)
  readSync(file, byte, 0, 1, offset)
  writeSync(file, Buffer.of((byte[0] ?? 0) ^ 0x20), 0, 1, offset)
  closeSync(file)
}

/** Damages every shard of a store so often that few records of it are whole; done twice, all are as they were. */
export function ruin({ store }: { store: string }): void {
  const [header, step] = [4096, 7_000]
  for (const path of shardsOf(store)) {
    for (let offset = header + 50; offset < statSync(path).size; offset += step) flip(path, offset)
  }
}

/** Processes that hold their connections and answer nothing, until the test ends or they are let go. */
export function freeze(t: ExecutionContext, peers: readonly { pid: number }[]): () => void {
  const thaw = () => {
    for (const { pid } of peers) process.kill(pid, 'SIGCONT')
  }
  t.teardown(thaw)
  for (const { pid } of peers) process.kill(pid, 'SIGSTOP')
  return thaw
}

/** How many files and connections a process may have open, those that it has included. */
export function limitFiles(pid: number, count: number): void {
  execFileSync('prlimit', ['--pid', String(pid), `--nofile=${count}:`])
}
