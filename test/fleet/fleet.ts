/** A coordinator in this process, on a real port, and hosts that join it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ExecutionContext } from 'ava'
import type { Clock } from '../../src/base/clock.js'
import { startCoordinator } from '../../src/daemon/coordinator.js'
import { type PeerOptions, startPeer } from '../../src/daemon/peer.js'
import type { Running } from '../../src/daemon/running.js'
import { initFleet } from '../../src/fleet/init.js'
import { joinFleet } from '../../src/fleet/join.js'
import { openFleet } from '../../src/fleet/open.js'
import type { Home } from '../../src/keys/home.js'
import type { JoinRole } from '../../src/keys/token.js'

export class TestFleet {
  readonly #open: (() => Promise<void>)[] = []
  words = ''

  private constructor(
    readonly dir: string,
    readonly clock: TestClock,
  ) {}

  static async found(t: ExecutionContext): Promise<TestFleet> {
    const fleet = new TestFleet(mkdtempSync(join(tmpdir(), 'imager-fleet-')), new TestClock())
    t.teardown(async () => {
      for (const close of fleet.#open.reverse()) await close()
      rmSync(fleet.dir, { recursive: true, force: true })
    })
    const address = '127.0.0.1:0'
    fleet.home = initFleet({
      state: fleet.state('coordinator'),
      name: 'office',
      domain: 'office',
      listen: address,
      address,
      keepWords: (words) => {
        fleet.words = words
      },
    })
    return fleet
  }

  home!: Home

  state(name: string): string {
    return join(this.dir, name, 'state')
  }

  closing<T extends { close(): Promise<void> }>(part: T): T {
    let closed: Promise<void> | undefined
    const close = part.close.bind(part)
    part.close = () => (closed ??= close())
    this.#open.push(() => part.close())
    return part
  }

  async coordinator(): Promise<Running> {
    const listen = this.home.config.listen ?? ''
    return this.closing(await startCoordinator(this.home, { listen, clock: this.clock }))
  }

  async invite(role: JoinRole): Promise<string> {
    const fleet = await openFleet(this.home, this.clock)
    try {
      return (await fleet.invite(role)).token
    } finally {
      await fleet.close()
    }
  }

  join(name: string, token: string): Promise<Home> {
    return joinFleet({ token, state: this.state(name), name, domain: name, listen: '127.0.0.1:0' })
  }

  async add(name: string, role: JoinRole): Promise<Home> {
    return this.join(name, await this.invite(role))
  }

  async peer(home: Home, more: Partial<PeerOptions> = {}): Promise<Running> {
    const store = join(this.dir, home.name, 'store')
    const options = { store, listen: '127.0.0.1:0', keepFreeBytes: 0, clock: this.clock, ...more }
    return this.closing(await startPeer(home, options))
  }
}

export class TestClock implements Clock {
  skipped = 0

  now(): number {
    return Date.now() + this.skipped
  }
}

/** Polls until it is true. */
export async function eventually(t: ExecutionContext, what: string, holds: () => boolean | Promise<boolean>) {
  const deadline = performance.now() + 30_000
  while (!(await holds())) {
    if (performance.now() > deadline) return t.fail(`never: ${what}`)
    await sleep(25)
  }
  t.pass(what)
}
