/**
 * The instants people give: a Date, a luxon DateTime or an ISO string. Invariant: a string without an offset is refused,
 * because the same words mean another instant on every server.
 */

import { DateTime } from 'luxon';
import { expectation } from './input-checks.ts';

/** An instant as people may give it. */
export type InstantInput = Date | DateTime | string;

const WHAT = 'a Date, a luxon DateTime or an ISO string with offset such as `2026-03-01T09:00:00+01:00`';
const ENDS_WITH_OFFSET = /T.*(?:Z|[+-]\d{2}(?::?\d{2})?)$/i;

/** What is wrong with it, or `undefined`. */
export function instantProblem(value: unknown, path: string): string | undefined {
  if (value instanceof Date) {
    return Number.isNaN(value.getTime())
      ? `Expected \`${path}\` to be ${WHAT}, got an invalid Date`
      : undefined;
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
