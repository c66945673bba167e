/**
 * The words of a recurring campaign: what people give, and what a checked rule is. Invariant: a checked rule is plain
 * data (strings, numbers, dates, `null`) that can be stored and read back as it is; nothing in it depends on the machine.
 */
import type { DateTime } from 'luxon';
import { cronNumberOf, type Weekday } from './weekdays.ts';

export const INTERVAL_UNITS = ['seconds', 'minutes', 'hours', 'days', 'weeks', 'months'] as const;
export type IntervalUnit = (typeof INTERVAL_UNITS)[number];

/** A day of the month: 1 to 31, the last one, or the nth of a weekday (5: only months that have five; -1: the last). */
export type MonthDay = number | 'last' | { readonly nth: 1 | 2 | 3 | 4 | 5 | -1; readonly weekday: Weekday };

/**
 * What happens to a wall time that the clock skips. `shift`: it occurs as long after midnight as if the clock had not
 * jumped (02:30 becomes 03:30 where 02:00 to 03:00 is missing). `skip`: it does not occur.
 */
export type GapPolicy = 'shift' | 'skip';
/** Which of the two passes of a repeated wall time counts. */
export type OverlapPass = 'first' | 'last' | 'both';
/** `once`: the latest missed occurrence runs, alone. `skip`: none does. `all`: each does, in order. */
export type MisfirePolicy = 'once' | 'skip' | 'all';
/** An occurrence that is due while an earlier run is open is left out, or (one) waits until that run has ended. */
export type RunOverlapPolicy = 'skip' | 'queue';

/** When a campaign recurs. Exactly one of `cron`, `every`, `daily`, `weekly` and `monthly`. */
export interface RecurrenceInput {
  /**
   * Five fields (minute, hour, day of month, month, weekday) or six with seconds first, with lists, ranges, steps, names
   * (`MON`, `JAN`), `L` (last), `W` (nearest working day) and `#` (`MON#2`, `FRI#L`); also `@hourly`, `@daily`, `@weekly`,
   * `@monthly`, `@yearly`. A time matches when day of month *or* weekday does, unless one of them is `*` or the weekday
   * begins with `+`. Evaluated on the wall clock of `timezone`.
   */
  readonly cron?: string | undefined;
  /**
   * One unit and a count, for example `{ hours: 6 }`, counted from `start`. Seconds, minutes and hours are elapsed time,
   * whatever the clock does; days, weeks and months keep the wall time of `start` in `timezone`. Months from the 29th,
   * 30th or 31st use the last day of shorter months, always counted from `start` (31 January, 28 February, 31 March).
   */
  readonly every?: { readonly [Unit in IntervalUnit]?: number | undefined } | undefined;
  /** Every day at a wall time `HH:mm` or `HH:mm:ss`. */
  readonly daily?: { readonly at: string } | undefined;
  /** On these weekdays at a wall time. */
  readonly weekly?: { readonly on: readonly Weekday[]; readonly at: string } | undefined;
  /** On a day of every month at a wall time. A month without a 29th, 30th or 31st is skipped; `last` is in every month. */
  readonly monthly?: { readonly on: MonthDay; readonly at: string } | undefined;
  /** IANA time zone of all wall times. Default: `UTC`. */
  readonly timezone?: string | undefined;
  /** The first instant that may occur, and where `every` counts from: Date, DateTime or ISO string with offset. Default: now. */
  readonly start?: Date | DateTime | string | undefined;
  /** The last instant that may occur (inclusive). Default: no end. */
  readonly end?: Date | DateTime | string | undefined;
  /**
   * Runs after which the rule ends, 1 to 1000000. Occurrences left out and runs of an earlier rule of the campaign do not
   * count. Default: no limit.
   */
  readonly maxRuns?: number | undefined;
  /**
   * Days on which nothing occurs, on the wall clock of `timezone`: at most 1000 dates `YYYY-MM-DD`, and weekdays. The day
   * on which an occurrence really falls counts, after a skipped hour has moved it.
   */
  readonly exclude?:
    | { readonly dates?: readonly string[] | undefined; readonly weekdays?: readonly Weekday[] | undefined }
    | undefined;
  /**
   * Delays every occurrence by a part of this, the same for one campaign each time, so that many campaigns at 09:00 do
   * not start in one second. 0 to 86400000 ms. The nominal instant, and with it the run's key, stays. Default: 0.
   */
  readonly jitterMs?: number | undefined;
  /**
   * Daylight saving time, for wall times only. `gap` default: `shift`. `overlap` default: `first`, but `both` for a cron
   * rule whose hour field has a `*` (`*`, `*` with a step): such a rule keeps a rhythm, any other names a time of day.
   * This `overlap` is about an hour that the clock shows twice; the rule's own `overlap` is about two runs.
   */
  readonly dst?:
    | { readonly gap?: GapPolicy | undefined; readonly overlap?: OverlapPass | undefined }
    | undefined;
  /** What happens to occurrences that no worker ran in time. Default: `once`. */
  readonly misfire?: MisfirePolicy | undefined;
  /**
   * An occurrence later than this is not run any more, 0 to 315360000000 ms; up to a minute late is on time and always
   * runs. Default: however late.
   */
  readonly misfireWindowMs?: number | undefined;
  /**
   * What happens to an occurrence that is due while the run before is still open. `skip`: it is left out. `queue`: it waits
   * for that run, and while one waits, further ones are left out; with `misfire: 'all'`, where every occurrence is wanted,
   * up to 100 wait. What is left out is told as `overlap`. Default: `skip`. An hour that the clock shows twice is the
   * matter of `dst.overlap`.
   */
  readonly overlap?: RunOverlapPolicy | undefined;
}

export type RecurrencePattern =
  | { readonly kind: 'cron'; readonly cron: string }
  | { readonly kind: 'every'; readonly unit: IntervalUnit; readonly count: number }
  | { readonly kind: 'daily'; readonly at: string }
  | { readonly kind: 'weekly'; readonly on: readonly Weekday[]; readonly at: string }
  | { readonly kind: 'monthly'; readonly on: MonthDay; readonly at: string };

/** A checked rule with every default filled in: plain data, safe to store and to read back. */
export interface Recurrence {
  readonly pattern: RecurrencePattern;
  readonly timezone: string;
  /** `start` as given. */
  readonly start: Date | null;
  /** Where the rule begins and `every` counts from: `start`, else the full second in which the rule was made. */
  readonly anchor: Date;
  readonly end: Date | null;
  readonly maxRuns: number | null;
  readonly exclude: { readonly dates: readonly string[]; readonly weekdays: readonly Weekday[] };
  readonly jitterMs: number;
  readonly dst: { readonly gap: GapPolicy; readonly overlap: OverlapPass };
  readonly misfire: MisfirePolicy;
  readonly misfireWindowMs: number | null;
  readonly overlap: RunOverlapPolicy;
}

/** Rules end here at the latest, in ms since the epoch: croner searches no further than the year 3000. */
export const LAST_INSTANT_MS = Date.UTC(2999, 11, 31, 23, 59, 59);

/**
 * The cron form of a pattern that is a set of wall times, `undefined` for `every`. Daily, weekly and monthly rules are
 * cron rules in friendlier words, so that there is one way of finding wall times.
 */
export function cronOf(pattern: RecurrencePattern): string | undefined {
  switch (pattern.kind) {
    case 'every':
      return undefined;
    case 'cron':
      return pattern.cron;
    case 'daily':
      return `${timeFields(pattern.at)} * * *`;
    case 'weekly':
      return `${timeFields(pattern.at)} * * ${pattern.on.map(cronNumberOf).join(',')}`;
    case 'monthly': {
      const { on } = pattern;
      if (on === 'last') return `${timeFields(pattern.at)} L * *`;
      if (typeof on === 'number') return `${timeFields(pattern.at)} ${on} * *`;
      return `${timeFields(pattern.at)} * * ${cronNumberOf(on.weekday)}#${on.nth === -1 ? 'L' : on.nth}`;
    }
  }
}

/** True for a cron rule that keeps a rhythm over the day instead of naming times of day. */
export function keepsRhythm(cron: string): boolean {
  if (cron.startsWith('@')) return cron.toLowerCase() === '@hourly';
  return /[*?]/.test(cron.split(' ').at(-4) ?? '');
}

function timeFields(at: string): string {
  const [hour, minute, second = 0] = at.split(':').map(Number);
  return `${second} ${minute} ${hour}`;
}
