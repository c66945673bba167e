/**
 * When an audience will have been sent, given its window and a rate: for one zone, and for recipients in many zones who
 * share the rate. Invariant: sending time is counted only while a window is open. Nothing is projected further than a
 * year: it would be a guess, and working it out would take long.
 */

import { intervals, type SendInterval, zoneOf } from './send-window.ts';
import type { SendWindow } from './send-window-check.ts';
import { DAY_MS } from './zone-clock.ts';

/** Furthest projected end, in days from the beginning. */
export const FORECAST_DAYS = 366;

export type ProjectedEnd =
  /** `interval` is the one in which the last recipient is sent; `null`: nobody was left. */
  | { readonly endsAt: Date; readonly interval: SendInterval | null; readonly reason?: undefined }
  /**
   * `no_rate`: no rate is known, or it is 0. `too_far`: after more than `FORECAST_DAYS` days, or after the last of the
   * intervals given. `interval` is the next one in which anything is sent; `null`: there is none.
   */
  | { readonly endsAt: null; readonly interval: SendInterval | null; readonly reason: 'no_rate' | 'too_far' };

export interface ProjectionInput {
  /** The intervals of sending from `from` on, in order: `intervals(window, zone, from)`. Read only as far as needed. */
  readonly intervals: Iterable<SendInterval>;
  /** Sends per second while the window is open. `undefined`: not known. */
  readonly ratePerSecond: number | undefined;
  /** Recipients not sent yet. */
  readonly left: number;
  readonly from: Date;
}

/**
 * When `left` recipients will have been sent, if the rate is kept whenever the window is open, rounded up to a
 * millisecond.
 */
export function projectEnd(input: ProjectionInput): ProjectedEnd {
  const { ratePerSecond, left, from } = input;
  if (!(left > 0)) return { endsAt: from, interval: null };
  const lastMs = from.getTime() + FORECAST_DAYS * DAY_MS;
  let neededMs = neededMsOf(left, ratePerSecond);
  let first: SendInterval | null = null;
  for (const interval of input.intervals) {
    if (neededMs === undefined) return { endsAt: null, interval, reason: 'no_rate' };
    first ??= interval;
    const opensMs = Math.max(interval.opensAt.getTime(), from.getTime());
    const endsMs = opensMs + neededMs;
    if (endsMs > lastMs) break;
    if (endsMs <= closesMsOf(interval)) return { endsAt: new Date(endsMs), interval };
    neededMs -= Math.max(0, closesMsOf(interval) - opensMs);
  }
  return { endsAt: null, interval: first, reason: neededMs === undefined ? 'no_rate' : 'too_far' };
}

/** Recipients not sent yet who have the same zone of their own. */
export interface RecipientsLeft {
  /** Their own zone; `undefined`: none. */
  readonly timezone?: string | undefined;
  readonly left: number;
}

/** The forecast for the recipients for whom the same wall clock holds. */
export interface ZoneForecast {
  readonly zone: string;
  readonly left: number;
  readonly end: ProjectedEnd;
}

export interface Forecast {
  /** For all together: the last end of a zone, or why there is none. */
  readonly end: ProjectedEnd;
  /** Each zone once, most recipients first. */
  readonly zones: readonly ZoneForecast[];
}

export interface ForecastInput {
  readonly window: SendWindow;
  readonly recipients: readonly RecipientsLeft[];
  /** Sends per second over all zones, as long as the window is open in at least one. `undefined`: not known. */
  readonly ratePerSecond: number | undefined;
  readonly from: Date;
}

/**
 * `projectEnd` for recipients in several zones, who share one rate: at any time it is divided among the zones that are
 * open, in proportion to how many each of them has left then, because pages are taken without regard to their zone.
 * Less than half a recipient, which only such a division leaves, counts as nobody.
 *
 * @throws RangeError as `windowAt`.
 */
export function forecast(input: ForecastInput): Forecast {
  const { window, recipients, ratePerSecond, from } = input;
  const counts = new Map<string, number>();
  for (const { timezone, left } of recipients) {
    if (!(left > 0)) continue;
    const zone = zoneOf(window, timezone);
    counts.set(zone, (counts.get(zone) ?? 0) + left);
  }
  const zones = [...counts].sort(([, left], [, other]) => other - left);
  const ends =
    zones.length > 1 && ratePerSecond !== undefined && ratePerSecond > 0
      ? shareRate(window, zones, ratePerSecond, from)
      : zones.map(([zone, left]) =>
          projectEnd({ intervals: intervals(window, zone, from), ratePerSecond, left, from }),
        );
  return {
    end: lastEnd(ends, from),
    zones: zones.flatMap(([zone, left], index) => {
      const end = ends[index];
      return end === undefined ? [] : [{ zone, left, end }];
    }),
  };
}

/** One zone while time goes on. */
interface ZoneProgress {
  left: number;
  readonly ahead: Iterator<SendInterval, void>;
  /** The interval that is open, or the next one. */
  interval: SendInterval | undefined;
  end: ProjectedEnd | undefined;
}

/** Goes from one opening or closing of any zone to the next; between two of them the same zones share the rate. */
function shareRate(
  window: SendWindow,
  zones: readonly (readonly [zone: string, left: number])[],
  ratePerSecond: number,
  from: Date,
): ProjectedEnd[] {
  const all = zones.map(([zone, left]): ZoneProgress => {
    const ahead = intervals(window, zone, from);
    return { left, ahead, interval: ahead.next().value ?? undefined, end: undefined };
  });
  const first = all.map(({ interval }) => interval ?? null);
  const lastMs = from.getTime() + FORECAST_DAYS * DAY_MS;
  let nowMs = from.getTime();
  let busy = all;
  while (busy.length > 0) {
    const open = busy.filter((zone) => opensMsOf(zone) <= nowMs);
    const left = busy.reduce((sum, zone) => sum + zone.left, 0);
    if (nowMs + (left / ratePerSecond) * 1_000 > lastMs) break;
    const changesMs = Math.min(
      ...busy.map((zone) => (opensMsOf(zone) > nowMs ? opensMsOf(zone) : closesMsOf(zone.interval))),
    );
    const openLeft = open.reduce((sum, zone) => sum + zone.left, 0);
    const neededMs = (openLeft / ratePerSecond) * 1_000;
    const untilMs = open.length === 0 ? changesMs : Math.min(changesMs, nowMs + neededMs);
    const sent = neededMs > untilMs - nowMs ? (untilMs - nowMs) / neededMs : 1;
    for (const zone of open) {
      zone.left *= 1 - sent;
      if (zone.left >= 0.5 || zone.interval === undefined) continue;
      zone.end = { endsAt: new Date(Math.ceil(untilMs)), interval: zone.interval };
    }
    nowMs = untilMs;
    busy = busy.filter(({ end }) => end === undefined);
    for (const zone of busy) {
      if (closesMsOf(zone.interval) <= nowMs) zone.interval = zone.ahead.next().value ?? undefined;
    }
  }
  return all.map(
    ({ end }, index) => end ?? { endsAt: null, interval: first[index] ?? null, reason: 'too_far' },
  );
}

function lastEnd(ends: readonly ProjectedEnd[], from: Date): ProjectedEnd {
  let last: ProjectedEnd = { endsAt: from, interval: null };
  for (const end of ends) {
    if (end.endsAt === null && last.endsAt === null) {
      // What people wait for is the zone that opens first.
      if (opensMsOf(end) < opensMsOf(last)) last = end;
    } else if (last.endsAt !== null && (end.endsAt === null || end.endsAt >= last.endsAt)) {
      last = end;
    }
  }
  return last;
}

function neededMsOf(left: number, ratePerSecond: number | undefined): number | undefined {
  if (ratePerSecond === undefined || !(ratePerSecond > 0)) return undefined;
  return Math.ceil((left / ratePerSecond) * 1_000);
}

function opensMsOf({ interval }: { readonly interval?: SendInterval | null | undefined }): number {
  return interval?.opensAt.getTime() ?? Number.POSITIVE_INFINITY;
}

/** Infinite for an interval that never closes. */
function closesMsOf(interval: SendInterval | undefined): number {
  return interval?.closesAt?.getTime() ?? Number.POSITIVE_INFINITY;
}
