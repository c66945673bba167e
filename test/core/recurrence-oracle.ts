/**
 * The slow way of finding occurrences, for comparison: every minute of a span is looked at, with offsets from Intl and no
 * code of the package. It knows nothing finer than a minute.
 */
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
const MARGIN_MS = 3 * DAY_MS;

export interface OracleDst {
  readonly gap: 'shift' | 'skip';
  readonly overlap: 'first' | 'last' | 'both';
}

/** True for wall times (as UTC) that belong to the rule. */
export type WallPredicate = (wallMs: number) => boolean;

const formats = new Map<string, Intl.DateTimeFormat>();

export function intlWallTime(zone: string, atMs: number): number {
  let format = formats.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
    formats.set(zone, format);
  }
  const part: Record<string, number> = {};
  for (const { type, value } of format.formatToParts(atMs)) part[type] = Number(value);
  const { year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0 } = part;
  return Date.UTC(year, month - 1, day, hour, minute, second);
}

interface Piece {
  readonly startMs: number;
  readonly endMs: number;
  readonly offsetMs: number;
}

/** Offsets over a span, looked at every hour, and every minute where they change. */
export function piecesOf(zone: string, fromMs: number, toMs: number): Piece[] {
  const offset = (atMs: number): number => intlWallTime(zone, atMs) - atMs;
  const pieces: Piece[] = [];
  let startMs = fromMs;
  let offsetMs = offset(fromMs);
  for (let hour = fromMs; hour < toMs; hour += HOUR_MS) {
    if (offset(hour + HOUR_MS) === offsetMs) continue;
    let change = hour;
    while (offset(change) === offsetMs) change += MINUTE_MS;
    pieces.push({ startMs, endMs: change, offsetMs });
    startMs = change;
    offsetMs = offset(change);
  }
  pieces.push({ startMs, endMs: toMs + HOUR_MS, offsetMs });
  return pieces;
}

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
