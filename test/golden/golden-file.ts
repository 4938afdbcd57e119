/**
 * Golden files are made anew only while nobody has a backup in their format: until 0.2.0 is released. `test/golden/make`, in the
 * commit that changes the format.
 */
import { writeFileSync } from 'node:fs'
import { read } from '../sources.js'

export function writeGolden(name: string, bytes: Uint8Array): void {
  requireUnreleased()
  writeFileSync(`fixtures/golden/${name}-v1.bin`, bytes)
}

export function requireUnreleased(): void {
  if (isReleased(read('CHANGELOG.md'))) throw new Error('0.2.0 is released: its formats stay as they are')
}

/** A heading of 0.2.0 or later with a date. Pure. */
export function isReleased(changelog: string): boolean {
  const headings = [...changelog.matchAll(/^## (\d+)\.(\d+)\.\d+ \((.*)\)$/gm)]
  return headings.some(([, major, minor, when]) => {
    return (Number(major) > 0 || Number(minor) >= 2) && when !== 'not released yet'
  })
}
