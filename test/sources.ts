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

/** Bodies of tests gone: what a file is made of, not what tries it. */
export function withoutRustTests(source: string): string {
  return source.split(/^#\[cfg\(test\)\]\n(?:pub(?:\([^)]*\))? )?mod \w+ \{/m)[0]!
}

/** `a::{b, c::{self, d}}` as `a::b`, `a::c::self`, `a::c::d`. */
function expandUse(tree: string): string[] {
  const [, head, body] = /^([^{]*)\{(.*)\}$/s.exec(tree.trim()) ?? []
  if (head === undefined || body === undefined) return [tree.trim().replace(/\s+as\s+\w+$/, '')]
  const parts = ['']
  let depth = 0
  for (const character of body) {
    depth += character === '{' ? 1 : character === '}' ? -1 : 0
    if (character === ',' && depth === 0) parts.push('')
    else parts[parts.length - 1] += character
  }
  return parts.filter((part) => part.trim() !== '').flatMap((part) => expandUse(head.trim() + part.trim()))
}

const moduleOf = (folder: string, file: string) =>
  file
    .slice(folder.length + 1)
    .replace(/(?:\/mod)?\.rs$/, '')
    .split('/')

/**
 * For each of these files of a crate whose sources lie in `folder`, the files that it names: in `use`, and in paths in code,
 * whether they begin with `crate`, `super`, `self` or a module below. `mod x;` alone names nothing.
 */
export function rustImports(folder: string, files: readonly string[]): Map<string, string[]> {
  const modules = new Map(files.map((file) => [moduleOf(folder, file).join('::'), file]))
  const resolve = (own: readonly string[], path: string): string | undefined => {
    const parts = path.split('::')
    let at: string[]
    if (parts[0] === 'crate') at = []
    else if (parts[0] === 'super' || parts[0] === 'self') at = [...own]
    else if (modules.has([...own, parts[0]].join('::'))) at = [...own]
    else return undefined
    for (const part of parts) {
      if (part === 'super') at.pop()
      else if (part !== 'crate' && part !== 'self') {
        if (!modules.has([...at, part].join('::'))) break
        at.push(part)
      }
    }
    return modules.get(at.join('::'))
  }
  return new Map(
    files.map((file) => {
      const code = withoutComments(withoutRustTests(read(file)))
      const uses = [...code.matchAll(/\buse\s+([^;]+);/g)].flatMap((match) => expandUse(match[1]!))
      const paths = code.replace(/\buse\s+[^;]+;/g, '').matchAll(/(?<![\w:])[a-z_]\w*(?:::\w+)+/g)
      const named = [...uses, ...[...paths].map((match) => match[0])]
      const targets = named.flatMap((path) => resolve(moduleOf(folder, file), path) ?? [])
      return [file, [...new Set(targets)].filter((target) => target !== file)]
    }),
  )
}

/** Files that import each other, each circle once, as `a > b > a`. */
export function circlesIn(imports: ReadonlyMap<string, readonly string[]>): string[] {
  const done = new Set<string>()
  const circles: string[] = []
  const visit = (file: string, way: readonly string[]) => {
    if (way.includes(file)) circles.push([...way.slice(way.indexOf(file)), file].join(' > '))
    if (done.has(file) || way.includes(file)) return
    for (const target of imports.get(file) ?? []) visit(target, [...way, file])
    done.add(file)
  }
  for (const file of imports.keys()) visit(file, [])
  return circles
}
