/**
 * When messages may leave: whether a window is open at an instant, when that changes, and the next intervals of sending.
 *
 * Invariant: the window of a day is the shortest span of time that holds every moment of that day's window on the wall
 * clock. So where the clock is changed,
 * - a window that would open within the skipped hour opens when the hour has been skipped, one that would close within
 *   it closes then, and one that lies within it does not open that day;
 * - a window that opens or closes within the repeated hour lasts from its first opening to its last closing, without
 *   closing in between. It never sends the same hour as two windows.
 *
 * A window across midnight belongs to the day on which it began: weekdays and holidays are those of that day, also where
 * the night between was skipped. Windows that touch or overlap are one interval.
 */

import { isTimeZone } from './recipient.ts';
import { RECIPIENT_ZONE, type SendWindow } from './send-window-check.ts';
import { WEEKDAYS, type Weekday, weekdayOfDay } from './weekdays.ts';
import { clockOf, DAY_MS, type ZoneClock } from './zone-clock.ts';

export type WindowState =
  /** `closesAt` is the first instant at which nothing may begin; `null`: it never closes. */
  { readonly open: true; readonly closesAt: Date | null } | { readonly open: false; readonly opensAt: Date };

/** A span of time in which messages may leave: from `opensAt` on, before `closesAt`. */
export interface SendInterval {
  readonly opensAt: Date;
  /** `null`: it never closes. */
  readonly closesAt: Date | null;
}

export interface IntervalsOptions {
  /** Most intervals. Default: no limit, which goes on for ever. */
  readonly limit?: number | undefined;
  /** Only intervals that open before this instant. Default: no limit. */
  readonly until?: Date | undefined;
}

const MINUTE_MS = 60_000;
const YEAR_10000_MS = Date.UTC(10_000, 0, 1);

/**
 * The zone whose wall clock holds for a recipient or a page. A recipient's zone that this runtime does not know counts
 * as none, because one bad row must not stop a page: it takes the window's `fallbackTimezone`.
 */
export function zoneOf(window: SendWindow, recipientZone: string | undefined): string {
  if (window.timezone !== RECIPIENT_ZONE) return window.timezone;
  if (recipientZone !== undefined && isTimeZone(recipientZone)) return recipientZone;
  return window.fallbackTimezone ?? 'UTC';
}

/**
 * Whether messages may leave at an instant, and when that changes.
 *
 * @param zone an IANA zone, from `zoneOf`
 * @throws RangeError for an unknown zone, an invalid Date, or one outside the years 1970 to 9999.
 */
export function windowAt(window: SendWindow, zone: string, at: Date): WindowState {
  const atMs = instantOf(at);
  const { beginMs, endMs } = nextSpan(planOf(window), clockOf(zone), atMs);
  if (beginMs > atMs) return { open: false, opensAt: new Date(beginMs) };
  return { open: true, closesAt: endMs === null ? null : new Date(endMs) };
}

/**
 * The intervals of sending from an instant on, in order, never touching each other. The first opens at `from` itself if
 * the window is open then. Lazy: each is worked out when it is asked for.
 *
 * @param zone an IANA zone, from `zoneOf`
 * @throws RangeError as `windowAt`, when the first interval is asked for.
 */
export function* intervals(
  window: SendWindow,
  zone: string,
  from: Date,
  options: IntervalsOptions = {},
): Generator<SendInterval, void, undefined> {
  const { limit = Number.POSITIVE_INFINITY, until } = options;
  const untilMs = until?.getTime() ?? Number.POSITIVE_INFINITY;
  const plan = planOf(window);
  const clock = clockOf(zone);
  let afterMs = instantOf(from);
  for (let count = 0; count < limit; count += 1) {
    const { beginMs, endMs } = nextSpan(plan, clock, afterMs);
    const opensMs = Math.max(beginMs, afterMs);
    if (opensMs >= untilMs) return;
    yield { opensAt: new Date(opensMs), closesAt: endMs === null ? null : new Date(endMs) };
    if (endMs === null) return;
    afterMs = endMs;
  }
}

interface Span {
  readonly beginMs: number;
  /** `null`: it never ends. */
  readonly endMs: number | null;
}

/**
 * The first span that ends after an instant, with all that it touches. It always exists: holidays are finite, and a
 * window falls into a skipped hour only now and then.
 */
function nextSpan(plan: Plan, clock: ZoneClock, afterMs: number): Span {
  let found: { readonly beginMs: number; readonly endMs: number } | undefined;
  // A window of the day before may still be open, and where a whole day was repeated one of the day before that.
  for (let day = Math.floor(clock.wallAt(afterMs) / DAY_MS) - 2; ; day += 1) {
    if (!begins(plan, day)) continue;
    const span = spanOf(plan, clock, day);
    if (span.endMs <= Math.max(span.beginMs, afterMs)) continue;
    if (found !== undefined && span.beginMs > found.endMs) return found;
    found = { beginMs: found?.beginMs ?? span.beginMs, endMs: span.endMs };
    if (!plan.always) continue;
    // Only a holiday ends it; the days until then need no look.
    const holiday = plan.holidays.find((date) => date > day);
    if (holiday === undefined) return { beginMs: found.beginMs, endMs: null };
    day = holiday - 1;
    found = { beginMs: found.beginMs, endMs: spanOf(plan, clock, day).endMs };
  }
}

/** Empty where `endMs` is not after `beginMs`. Begin and end of a later day are never earlier. */
function spanOf(plan: Plan, clock: ZoneClock, day: number): { beginMs: number; endMs: number } {
  return {
    beginMs: clock.firstAtOrAfter(day * DAY_MS + plan.fromMs),
    endMs: clock.lastBefore(day * DAY_MS + plan.toMs),
  };
}

/** A window in numbers. Days are counted from 1 January 1970 of the wall clock. */
interface Plan {
  /** Both from the beginning of the day, `toMs` up to 2 days. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly weekdays: ReadonlySet<Weekday>;
  /** In order. */
  readonly holidays: readonly number[];
  readonly isHoliday: ReadonlySet<number>;
  /** Open all day on every day of the week. */
  readonly always: boolean;
}

const plans = new WeakMap<SendWindow, Plan>();

function planOf(window: SendWindow): Plan {
  const known = plans.get(window);
  if (known !== undefined) return known;
  const fromMs = timeMs(window.from);
  const toMs = timeMs(window.to);
  const holidays = window.holidays.map((date) => Date.parse(date) / DAY_MS);
  const plan: Plan = {
    fromMs,
    toMs: toMs <= fromMs ? toMs + DAY_MS : toMs,
    weekdays: new Set(window.days),
    holidays,
    isHoliday: new Set(holidays),
    always: toMs - fromMs === DAY_MS && window.days.length === WEEKDAYS.length,
  };
  plans.set(window, plan);
  return plan;
}

/** True if a window begins on the day. */
function begins(plan: Plan, day: number): boolean {
  return plan.weekdays.has(weekdayOfDay(day)) && !plan.isHoliday.has(day);
}

/** `HH:MM` in ms from the beginning of the day. */
function timeMs(time: string): number {
  return (Number(time.slice(0, 2)) * 60 + Number(time.slice(3, 5))) * MINUTE_MS;
}

function instantOf(date: Date): number {
  const instantMs = date.getTime();
  if (instantMs >= 0 && instantMs < YEAR_10000_MS) return instantMs;
  throw new RangeError(
    Number.isNaN(instantMs) ? 'The Date is invalid' : 'The Date is outside the years 1970 to 9999',
  );
}
