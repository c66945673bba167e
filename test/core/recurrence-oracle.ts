/**
 * The slow way of finding occurrences, for comparison: every minute of a span is looked at, with offsets from Intl and no
 * code of the package. It knows nothing finer than a minute.
 */
import { MINUTE_MS, piecesOf } from './intl-wall-clock.ts';

const DAY_MS = 86_400_000;
const MARGIN_MS = 3 * DAY_MS;

export interface OracleDst {
  readonly gap: 'shift' | 'skip';
  readonly overlap: 'first' | 'last' | 'both';
}

/** True for wall times (as UTC) that belong to the rule. */
export type WallPredicate = (wallMs: number) => boolean;

/** All occurrences from `fromMs` (inclusive) to `toMs` (exclusive), both on full minutes. */
export function bruteForce(
  zone: string,
  belongs: WallPredicate,
  dst: OracleDst,
  fromMs: number,
  toMs: number,
): number[] {
  const pieces = piecesOf(zone, fromMs - MARGIN_MS, toMs + MARGIN_MS);
  const byWall = new Map<number, number[]>();
  const found = new Set<number>();
  for (const [index, piece] of pieces.entries()) {
    for (let at = piece.startMs; at < piece.endMs; at += MINUTE_MS) {
      const wall = at + piece.offsetMs;
      if (!belongs(wall)) continue;
      const passes = byWall.get(wall);
      if (passes === undefined) byWall.set(wall, [at]);
      else passes.push(at);
    }
    const after = pieces[index + 1];
    if (after === undefined || dst.gap === 'skip') continue;
    const missingUntil = after.startMs + after.offsetMs;
    for (let wall = piece.endMs + piece.offsetMs; wall < missingUntil; wall += MINUTE_MS) {
      if (belongs(wall)) found.add(wall - piece.offsetMs);
    }
  }
  for (const passes of byWall.values()) {
    if (dst.overlap === 'both') for (const at of passes) found.add(at);
    else found.add((dst.overlap === 'first' ? passes[0] : passes.at(-1)) ?? Number.NaN);
  }
  return [...found].filter((at) => at >= fromMs && at < toMs).sort((a, b) => a - b);
}
