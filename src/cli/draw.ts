/** `map --svg`: the command's other half, loaded only when it is asked for. */
import { inspectOutput, writeOutput } from '../disk/output.js'
import { scanSource } from '../jobs/map/map.js'
import { type Bytes, pictureOf } from '../jobs/map/picture.js'
import { renderSvg } from './svg.js'

export interface Drawn {
  readonly status: 'done'
  readonly svg: string
  readonly size: number
  readonly bytes: Bytes
  readonly residentBytes: number
}

export async function drawMap(source: string, svg: string, force: boolean): Promise<Drawn> {
  const options = { force, source }
  // Refused before the work.
  inspectOutput(svg, options)
  const picture = pictureOf(await scanSource(source, false), source)
  writeOutput(svg, renderSvg(picture), options)
  const { sizeBytes: size, bytes, residentBytes } = picture
  return { status: 'done', svg, size, bytes, residentBytes }
}
