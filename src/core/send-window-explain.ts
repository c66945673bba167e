/**
 * A send window in words: what it says, when it is open next, and when the audience will have been sent. Invariant:
 * every time is shown on the wall clock of its zone together with the offset, so that it names one instant; the words
 * are the same on every server, whatever its language.
 */

import { DateTime } from 'luxon';
import { capital, listed } from './plain-english.ts';
import { intervals, zoneOf } from './send-window.ts';
import { RECIPIENT_ZONE, type SendWindow } from './send-window-check.ts';
import { FORECAST_DAYS, forecast, type ProjectedEnd, type RecipientsLeft } from './send-window-forecast.ts';
import { WEEKDAYS } from './weekdays.ts';

export interface ExplainOptions {
  /** The instant from which on it is explained. */
  readonly at: Date;
  /** Recipients not sent yet, by their own zones. Default: nothing is said of them. */
  readonly recipients?: readonly RecipientsLeft[] | undefined;
  /** Sends per second over all zones. Default: not known, so no end is projected. */
  readonly ratePerSecond?: number | undefined;
  /** Intervals shown per zone, at least 1. Default: 3. */
  readonly intervals?: number | undefined;
  /** Zones shown, those with most recipients first. Default: 8. */
  readonly zones?: number | undefined;
}

const SHOWN_HOLIDAYS = 3;

/**
 * Lines for people, for example
 *
 * ```text
 * Sends on Monday to Friday from 09:00 to 17:30, Europe/Paris. No window begins on 2026-12-25.
 * Europe/Paris, 1,200 left:
 *   now, until Wed 2026-12-23 17:30 +01:00
 *   Thu 2026-12-24 09:00 +01:00 to Thu 2026-12-24 17:30 +01:00
 *   Mon 2026-12-28 09:00 +01:00 to Mon 2026-12-28 17:30 +01:00
 * Projected end at 1 per second: Thu 2026-12-24 09:10 +01:00 (Europe/Paris).
 * ```
 *
 * @throws RangeError as `windowAt`.
 */
export function explainWindow(window: SendWindow, options: ExplainOptions): string[] {
  const { at, recipients = [], ratePerSecond, intervals: limit = 3, zones: shown = 8 } = options;
  const { end, zones } = forecast({ window, recipients, ratePerSecond, from: at });
  const lines = [`${rule(window)}${holidays(window, at)}`];
  for (const { zone, left } of zones.slice(0, shown)) {
    lines.push(`${zone}, ${count(left)} left:`, ...nextLines(window, zone, at, limit));
  }
  const more = zones.length - shown;
  if (more > 0) lines.push(`And ${count(more)} more ${more === 1 ? 'zone' : 'zones'}.`);
  if (zones.length === 0) {
    const zone = zoneOf(window, undefined);
    lines.push(`${zone}:`, ...nextLines(window, zone, at, limit));
  } else {
    const last = zones.find((zone) => zone.end === end) ?? zones[0];
    lines.push(endLine(end, last?.zone ?? zoneOf(window, undefined), ratePerSecond));
  }
  return lines;
}

function rule(window: SendWindow): string {
  const { from, to, timezone, fallbackTimezone } = window;
  const where =
    timezone === RECIPIENT_ZONE
      ? `in each recipient's own time zone (${fallbackTimezone} for those without one)`
      : timezone;
  return `Sends ${daysOf(window)} from ${from} to ${to}${to <= from ? ' of the next day' : ''}, ${where}.`;
}

function daysOf({ days }: SendWindow): string {
  if (days.length === WEEKDAYS.length) return 'every day';
  const names = days.map(capital);
  const firstDay = days[0];
  const inARow =
    firstDay !== undefined &&
    days[days.length - 1] === WEEKDAYS[WEEKDAYS.indexOf(firstDay) + days.length - 1];
  if (inARow && days.length > 2) return `on ${names[0]} to ${names[names.length - 1]}`;
  return `on ${listed(names)}`;
}

/** Those to come; one that was yesterday may still be today somewhere. */
function holidays(window: SendWindow, at: Date): string {
  const yesterday = DateTime.fromJSDate(at, { zone: 'utc' }).minus({ days: 1 }).toFormat('yyyy-MM-dd');
  const dates = window.holidays.filter((date) => date >= yesterday);
  if (dates.length === 0) return '';
  const shown = dates.slice(0, SHOWN_HOLIDAYS);
  if (dates.length > shown.length) shown.push(`${count(dates.length - shown.length)} more dates`);
  return ` No window begins on ${listed(shown)}.`;
}

function nextLines(window: SendWindow, zone: string, at: Date, limit: number): string[] {
  return [...intervals(window, zone, at, { limit })].map(({ opensAt, closesAt }) => {
    const closes = closesAt === null ? undefined : wallTime(closesAt, zone);
    // An interval that opens at this very instant is open now as well.
    if (opensAt.getTime() === at.getTime()) {
      return closes === undefined ? '  now, and never closes' : `  now, until ${closes}`;
    }
    const opens = wallTime(opensAt, zone);
    return closes === undefined ? `  ${opens}, and never closes` : `  ${opens} to ${closes}`;
  });
}

function endLine(end: ProjectedEnd, zone: string, ratePerSecond: number | undefined): string {
  if (end.reason === 'no_rate') return 'No end is projected: the rate is not known.';
  const rate = `at ${ratePerSecond?.toLocaleString('en-US', { maximumSignificantDigits: 3 })} per second`;
  if (end.endsAt === null) return `Projected end ${rate}: more than ${FORECAST_DAYS} days away.`;
  return `Projected end ${rate}: ${wallTime(end.endsAt, zone)} (${zone}).`;
}

/** `Mon 2026-03-02 09:00 +01:00`. */
function wallTime(instant: Date, zone: string): string {
  return DateTime.fromJSDate(instant, { zone }).setLocale('en').toFormat('ccc yyyy-MM-dd HH:mm ZZ');
}

function count(number: number): string {
  return number.toLocaleString('en-US');
}
