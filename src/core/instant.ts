/**
 * The instants and dates people give: a Date, a luxon DateTime, an ISO string, a day of the calendar. Invariant: a string
 * without an offset is refused, because the same words mean another instant on every server.
 */

import { DateTime } from 'luxon';
import { expectation, type Problem } from './expectation.ts';

/** An instant as people may give it. */
export type InstantInput = Date | DateTime | string;

const WHAT = 'a Date, a luxon DateTime or an ISO string with offset such as `2026-03-01T09:00:00+01:00`';
const ENDS_WITH_OFFSET = /T.*(?:Z|[+-]\d{2}(?::?\d{2})?)$/i;

/** What is wrong with it, or `undefined`. */
export function instantProblem(value: unknown, path: string): string | undefined {
  if (value instanceof Date) {
    return Number.isNaN(value.getTime()) ? expectation(path, WHAT, value) : undefined;
  }
  if (DateTime.isDateTime(value)) {
    if (value.isValid) return undefined;
    return `Expected \`${path}\` to be ${WHAT}, got an invalid DateTime (${value.invalidExplanation ?? value.invalidReason})`;
  }
  if (typeof value !== 'string') return expectation(path, WHAT, value);
  const parsed = DateTime.fromISO(value, { setZone: true });
  if (!parsed.isValid) return expectation(path, WHAT, value);
  if (ENDS_WITH_OFFSET.test(value)) return undefined;
  const example = DateTime.fromISO(value, { zone: 'utc' }).toISO({ suppressMilliseconds: true });
  return `${expectation(path, WHAT, value)}: without an offset nobody can know which instant that is. Write for example ${example}`;
}

/** Milliseconds since the epoch of what `instantProblem` found nothing wrong with. */
export function instantOf(value: InstantInput): number {
  if (value instanceof Date) return value.getTime();
  return (typeof value === 'string' ? DateTime.fromISO(value) : value).toMillis();
}

/** What is wrong with a list of days `YYYY-MM-DD`, entry by entry; 30 February is none. */
export function dateProblems(path: string, value: unknown, most: number): Problem[] {
  if (!Array.isArray(value) || value.length > most) {
    return [{ path, message: expectation(path, `a list of at most ${most} dates \`YYYY-MM-DD\``, value) }];
  }
  return value.flatMap((date: unknown, index): Problem[] => {
    if (isDate(date)) return [];
    const entry = `${path}[${index}]`;
    return [{ path: entry, message: expectation(entry, 'a date of the calendar as `YYYY-MM-DD`', date) }];
  });
}

function isDate(value: unknown): boolean {
  if (typeof value !== 'string' || !/^\d{4}-\d{2}-\d{2}$/.test(value)) return false;
  return DateTime.fromISO(value, { zone: 'utc' }).isValid;
}
