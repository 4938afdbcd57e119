/**
 * The repository's own files as the tests of its shape see them: which file imports which, with comments left out.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

/** Tests run from the repository's root. */
export function filesUnder(folder: string, ending: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(ending))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !/(^|\/)(target|node_modules)\//.test(path))
    .sort()
}

export const read = (path: string): string => readFileSync(path, 'utf8')

/** Whole-line and trailing comments gone, so that prose about `napi` or `console` counts for nothing. */
export function withoutComments(source: string): string {
  return source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|[\s;{}(),])\/\/[^\n]*/g, '$1')
}

const IMPORTS = [
  /\b(?:import|export)\b[^'"();]*?\bfrom\s*['"]([^'"]+)['"]/g,
  /\bimport\s*['"]([^'"]+)['"]/g,
  /\bimport\s*\(\s*['"]([^'"]+)['"]\s*\)/g,
  /\b(?:require|createRequire\s*\([^()]*\))\s*\(\s*['"]([^'"]+)['"]\s*\)/g,
]

/** What a file imports, statically, dynamically or as a type: the names as written. */
export function importsOf(source: string): string[] {
  const code = withoutComments(source)
  return IMPORTS.flatMap((pattern) => [...code.matchAll(pattern)].map((match) => match[1]!))
}

/** What a file starts as another process or thread: used, but not imported. */
export function startsOf(source: string): string[] {
  const pattern = /\bnew URL\(\s*['"](\.[^'"]+\.js)['"]\s*,\s*import\.meta\.url\s*\)/g
  return [...withoutComments(source).matchAll(pattern)].map((match) => match[1]!)
}

/** `./x.js` named in `src/a/b.ts` is `src/a/x.ts`; undefined for packages. */
export function resolveImport(importer: string, name: string): string | undefined {
  if (!name.startsWith('.')) return undefined
  return normalize(join(dirname(importer), name)).replace(/\.js$/, '.ts')
}
