/**
 * The wall clock of one time zone: from an instant to what the clock on the wall shows, and back, exactly at the
 * changes to and from daylight saving time too. Wall time is a number: the milliseconds since the epoch that UTC would
 * have if its clock showed the same. Invariant: the offset is asked once per zone and UTC midnight and remembered; between
 * two midnights with different offsets there is one change, searched to the second.
 */

import { IANAZone } from 'luxon';
import { isTimeZone } from './recipient.ts';

export const DAY_MS = 86_400_000;

/** No zone has ever been this far from UTC. */
const MAX_OFFSET_MS = 16 * 3_600_000;
/** Midnights remembered per zone: more than a schedule looks at, little enough for every zone there is. */
const MAX_MIDNIGHTS = 512;
const MAX_CLOCKS = 1_000;

export class ZoneClock {
  readonly #zone: IANAZone;
  /** Offset in ms at the beginning of a UTC day, by the number of the day. */
  readonly #midnights = new Map<number, number>();
  /** Instant of the change within a UTC day, by the number of the day. */
  readonly #changes = new Map<number, number>();

  constructor(zone: string) {
    this.#zone = IANAZone.create(zone);
  }

  /** What the clock on the wall shows at an instant. */
  wallAt(instantMs: number): number {
    const day = Math.floor(instantMs / DAY_MS);
    const before = this.#midnight(day);
    const after = this.#midnight(day + 1);
    return instantMs + (instantMs < this.#change(day, before, after) ? before : after);
  }

  /**
   * The first instant at which the clock shows `wallMs` or later: of a time that comes twice the first, of a time that is
   * left out the end of the gap.
   */
  firstAtOrAfter(wallMs: number): number {
    const lastDay = Math.floor((wallMs + MAX_OFFSET_MS) / DAY_MS);
    for (let day = Math.floor((wallMs - MAX_OFFSET_MS) / DAY_MS); day <= lastDay; day += 1) {
      const before = this.#midnight(day);
      const after = this.#midnight(day + 1);
      const change = this.#change(day, before, after);
      if (change + before > wallMs) return Math.max(day * DAY_MS, wallMs - before);
      if ((day + 1) * DAY_MS + after > wallMs) return Math.max(change, wallMs - after);
    }
    return wallMs + MAX_OFFSET_MS;
  }

  /**
   * The instant from which the clock never again shows a time before `wallMs`: of a time that comes twice the second, of
   * a time that is left out the end of the gap.
   */
  lastBefore(wallMs: number): number {
    const firstDay = Math.floor((wallMs - MAX_OFFSET_MS) / DAY_MS);
    for (let day = Math.floor((wallMs + MAX_OFFSET_MS) / DAY_MS); day >= firstDay; day -= 1) {
      const before = this.#midnight(day);
      const after = this.#midnight(day + 1);
      const change = this.#change(day, before, after);
      if (change + after < wallMs) return Math.min((day + 1) * DAY_MS, wallMs - after);
      if (day * DAY_MS + before < wallMs) return Math.min(change, wallMs - before);
    }
    return wallMs - MAX_OFFSET_MS;
  }

  #midnight(day: number): number {
    const known = this.#midnights.get(day);
    if (known !== undefined) return known;
    const offset = this.#offset(day * DAY_MS);
    if (this.#midnights.size >= MAX_MIDNIGHTS) this.#midnights.clear();
    this.#midnights.set(day, offset);
    return offset;
  }

  /** First instant of the new offset; the end of the day when it has no change. */
  #change(day: number, before: number, after: number): number {
    if (before === after) return (day + 1) * DAY_MS;
    const known = this.#changes.get(day);
    if (known !== undefined) return known;
    let old = (day * DAY_MS) / 1_000;
    let changed = old + DAY_MS / 1_000;
    while (changed - old > 1) {
      const middle = Math.floor((old + changed) / 2);
      if (this.#offset(middle * 1_000) === before) old = middle;
      else changed = middle;
    }
    if (this.#changes.size >= MAX_MIDNIGHTS) this.#changes.clear();
    this.#changes.set(day, changed * 1_000);
    return changed * 1_000;
  }

  #offset(instantMs: number): number {
    return Math.round(this.#zone.offset(instantMs) * 60_000);
  }
}

const clocks = new Map<string, ZoneClock>();

/**
 * The clock of an IANA zone, the same object every time.
 *
 * @throws RangeError for a zone that this runtime does not know.
 */
export function clockOf(zone: string): ZoneClock {
  const known = clocks.get(zone);
  if (known !== undefined) return known;
  if (!isTimeZone(zone)) throw new RangeError(`Unknown time zone ${JSON.stringify(zone.slice(0, 60))}`);
  const clock = new ZoneClock(zone);
  // Zones can be spelled in many cases; a million spellings must not fill the memory.
  if (clocks.size >= MAX_CLOCKS) clocks.clear();
  clocks.set(zone, clock);
  return clock;
}
