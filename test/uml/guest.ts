/**
 * Commands as root under another kernel, User-Mode Linux (Debian: user-mode-linux), for what the kernel of this machine may
 * not have: device-mapper. It sees this machine's files through an overlay; what it writes goes to its memory and is gone.
 */
import { execFile, execFileSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { lacksRoot, lacksTools } from '../machine.js'

const MODULES = '/usr/lib/uml/modules'
const REGISTERS = fileURLToPath(new URL('../../../native/tests/lvm/registers.c', import.meta.url))

export interface GuestOptions {
  /** Run by bash; /dev/ubda, /dev/ubdb... are the disks. */
  readonly script: string
  readonly disksMiB: readonly number[]
  readonly memoryMiB: number
  readonly timeoutMs: number
}

/** Why there can be no guest here; undefined where there can. */
export function lacksGuest(...tools: string[]): string | undefined {
  return lacksRoot() ?? lacksTools('linux.uml', ...tools) ?? (existsSync(MODULES) ? undefined : `no ${MODULES}`)
}

export interface GuestOutcome {
  readonly code: number
  readonly output: string
}

export async function runGuest({ script, disksMiB, memoryMiB, timeoutMs }: GuestOptions): Promise<GuestOutcome> {
  const folder = mkdtempSync(join(tmpdir(), 'imager-uml-'))
  try {
    const disks = disksMiB.map((size, index) => {
      const path = join(folder, `disk-${index}`)
      closeSync(openSync(path, 'w'))
      truncateSync(path, size * 1024 * 1024)
      return `ubd${index}=${path}`
    })
    const init = join(folder, 'init')
    writeFileSync(init, initOf(folder, `${MODULES}/${readdirSync(MODULES)[0]}`))
    writeFileSync(join(folder, 'script'), script)
    chmodSync(init, 0o755)
    const boot = ['root=/dev/root', 'rootfstype=hostfs', 'rootflags=/', 'ro', `init=${init}`]
    const quiet = ['con=null', 'con0=null,fd:1', 'quiet', 'loglevel=3']
    const options = [`mem=${memoryMiB}M`, `uml_dir=${folder}`, ...boot, ...quiet, ...disks]
    const registers = join(folder, 'registers.so')
    execFileSync('cc', ['-shared', '-fPIC', '-O2', '-o', registers, REGISTERS])
    const running = promisify(execFile)('linux.uml', options, {
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
      env: { ...process.env, LD_PRELOAD: registers },
    })
    const console_ = await running.then(
      ({ stdout }) => stdout,
      (error: { stdout?: string }) => String(error.stdout),
    )
    const output = existsSync(join(folder, 'output')) ? readFileSync(join(folder, 'output'), 'utf8') : console_
    const code = existsSync(join(folder, 'code')) ? Number(readFileSync(join(folder, 'code'), 'utf8')) : -1
    return { code, output }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** The first process: an overlay over the host's files becomes its root. `folder` is shared with the host. */
function initOf(folder: string, modules: string): string {
  return `#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DM_DISABLE_UDEV=1
export PATH=${JSON.stringify(join(process.execPath, '..'))}:$PATH
mount -t proc proc /proc
mount -t sysfs sysfs /sys
insmod ${modules}/kernel/fs/overlayfs/overlay.ko
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
cd /mnt/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t devtmpfs devtmpfs dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir -p run/lock run/shared lib/modules
mount --bind ${MODULES} lib/modules
mount -t hostfs -o ${folder} none run/shared
ip link set lo up
chroot . /bin/bash /run/shared/script > run/shared/output 2>&1
echo $? > run/shared/code
sync
echo o > /proc/sysrq-trigger
sleep 5
`
}
