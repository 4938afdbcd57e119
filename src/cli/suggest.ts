/** "Did you mean": the known word that is fewest edits away, if it is near enough to be a typing error. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  let best: string | undefined
  let bestEdits = Math.ceil(word.length / 3) + 1
  for (const candidate of known) {
    const edits = candidate.startsWith(word) && word.length > 2 ? 1 : editDistance(word, candidate)
    if (edits < bestEdits) [best, bestEdits] = [candidate, edits]
  }
  return best
}

/** Levenshtein, a row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replace = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replace, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
