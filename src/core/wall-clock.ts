/**
 * From wall times to instants, by our own rule for skipped and repeated hours. A wall time is a number: the milliseconds
 * since the epoch that a clock showing it in UTC would have. Invariant: the answers are exact for every change of offset,
 * be it of an hour, of 30 minutes, or of a whole day (Samoa in 2011), and walking forward they strictly increase.
 */
import { IANAZone } from 'luxon';
import type { GapPolicy, OverlapPass } from './recurrence-rule.ts';

/** Time during which a zone keeps one offset: instants from `startMs` (inclusive) to `endMs` (exclusive). */
export interface Stretch {
  readonly startMs: number;
  readonly endMs: number;
  readonly offsetMs: number;
  /** Offset before `startMs` and from `endMs` on; the same where the stretch only ends because we looked no further. */
  readonly offsetBeforeMs: number;
  readonly offsetAfterMs: number;
}

/** The first wall time of a rule at or after `wallMs`, or `null` when there is none any more. */
export type FirstWallTime = (wallMs: number) => number | null;

const DAY_MS = 86_400_000;
/** Offsets are looked at this often. No zone has changed twice within 6.9 days since 1970. */
const PROBE_MS = 6 * DAY_MS;
/** No zone has ever been further ahead of UTC. */
const MAX_AHEAD_MS = 16 * 3_600_000;
const MAX_CACHED_YEARS = 20_000;

const stretchesByZone = new Map<string, Map<number, readonly Stretch[]>>();
let cachedYears = 0;

/** The wall time in `zone` at an instant. */
export function wallTimeAt(zone: string, atMs: number): number {
  return atMs + stretchAt(zone, atMs).offsetMs;
}

/** The stretch that contains an instant from 1970 on. It starts or ends a month or more away where no change is near. */
export function stretchAt(zone: string, atMs: number): Stretch {
  const year = new Date(atMs).getUTCFullYear();
  let years = stretchesByZone.get(zone);
  if (years === undefined) {
    years = new Map();
    stretchesByZone.set(zone, years);
  }
  let stretches = years.get(year);
  if (stretches === undefined) {
    stretches = stretchesAround(zone, year);
    if (cachedYears >= MAX_CACHED_YEARS) {
      stretchesByZone.clear();
      stretchesByZone.set(zone, years);
      years.clear();
      cachedYears = 0;
    }
    years.set(year, stretches);
    cachedYears += 1;
  }
  for (const stretch of stretches) if (atMs < stretch.endMs) return stretch;
  throw new RangeError(`No offset is known for ${zone} at ${atMs}`);
}

/**
 * The first instant of a rule from `fromMs` to `untilMs`, both inclusive, or `null`.
 *
 * Stretch by stretch, because within one stretch instants and wall times run in parallel. A stretch has wall times of its
 * own and, where it begins with a jump forward, those that were jumped over, moved forward by the length of the jump.
 */
export function firstInstant(
  firstWall: FirstWallTime,
  zone: string,
  dst: { readonly gap: GapPolicy; readonly overlap: OverlapPass },
  fromMs: number,
  untilMs: number,
): number | null {
  let cursorMs = fromMs;
  while (cursorMs <= untilMs) {
    const stretch = stretchAt(zone, cursorMs);
    const { startMs, endMs, offsetMs, offsetBeforeMs, offsetAfterMs } = stretch;
    // Of a repeated hour, the first pass ends the stretch before the change and the last one begins the stretch after it.
    const ownFrom =
      dst.overlap === 'first' ? Math.max(cursorMs + offsetMs, startMs + offsetBeforeMs) : cursorMs + offsetMs;
    const ownEnd = endMs + (dst.overlap === 'last' ? Math.min(offsetMs, offsetAfterMs) : offsetMs);
    const own = firstWall(ownFrom);
    let best = own !== null && own < ownEnd ? own - offsetMs : Number.POSITIVE_INFINITY;

    if (dst.gap === 'shift' && cursorMs + offsetBeforeMs < startMs + offsetMs) {
      const jumpedOver = firstWall(cursorMs + offsetBeforeMs);
      if (jumpedOver !== null && jumpedOver < startMs + offsetMs) {
        best = Math.min(best, jumpedOver - offsetBeforeMs);
      }
    }
    if (best < endMs) return best <= untilMs ? best : null;
    // A repeated hour ahead has wall times that lie behind us; otherwise nothing comes before `own`.
    if (offsetAfterMs < offsetMs) cursorMs = endMs;
    else if (own === null) return null;
    else cursorMs = Math.max(endMs, own - MAX_AHEAD_MS);
  }
  return null;
}

/** A year and a month on either side, so that a change near New Year is seen from both sides. */
function stretchesAround(zone: string, year: number): Stretch[] {
  const fromMs = Date.UTC(year, -1, 1);
  const untilMs = Date.UTC(year + 1, 1, 1);
  const stretches: Stretch[] = [];
  let startMs = fromMs;
  let offsetMs = offsetAt(zone, fromMs);
  let offsetBeforeMs = offsetMs;
  for (let probeMs = fromMs; probeMs < untilMs; probeMs += PROBE_MS) {
    const nextMs = Math.min(probeMs + PROBE_MS, untilMs);
    const offsetAfterMs = offsetAt(zone, nextMs);
    if (offsetAfterMs === offsetMs) continue;
    const endMs = changeBetween(zone, probeMs, nextMs, offsetMs);
    stretches.push({ startMs, endMs, offsetMs, offsetBeforeMs, offsetAfterMs });
    startMs = endMs;
    offsetBeforeMs = offsetMs;
    offsetMs = offsetAfterMs;
  }
  stretches.push({ startMs, endMs: untilMs, offsetMs, offsetBeforeMs, offsetAfterMs: offsetMs });
  return stretches;
}

/** The first instant at which the offset is no longer `offsetMs`. */
function changeBetween(zone: string, beforeMs: number, afterMs: number, offsetMs: number): number {
  let low = beforeMs;
  let high = afterMs;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (offsetAt(zone, middle) === offsetMs) low = middle;
    else high = middle;
  }
  return high;
}

function offsetAt(zone: string, atMs: number): number {
  return Math.round(IANAZone.create(zone).offset(atMs) * 60_000);
}
