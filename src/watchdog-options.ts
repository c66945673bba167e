/** The option `watchdog`: how long something may stand still, and from when on something is wrong. */
import { z } from 'zod';
import type { Problem } from './errors.ts';
import { expectation, expecting, integer, share } from './input-checks.ts';

export interface WatchdogOptions {
  /** How often is looked, 100 to 600000 ms. Default: 30000. */
  readonly everyMs?: number | undefined;
  /**
   * What makes no progress for so long and has no reason to wait is stuck, 1000 to 86400000 ms: more than `sendTimeoutMs`,
   * at least 3 × `heartbeatMs` and `lockLifetimeMs`. Default: 180000; where that is too little twice the largest of these.
   * A source may give no row for so long, and for twice as long in each further attempt.
   */
  readonly stuckAfterMs?: number | undefined;
  /** A line in the log with the state of the whole, at least `everyMs`, at most 86400000 ms. Default: 300000. */
  readonly statusEveryMs?: number | undefined;
  /** More failed recipients of a run than this are an alert, 0 to 1000000000. Default: 10. */
  readonly failedAbove?: number | undefined;
  /** A larger share of failures among the outcomes of the window is an alert, 0 to 1. Default: 0.2. */
  readonly failureRate?: number | undefined;
  /** The window, 1000 to 86400000 ms. Default: 600000. */
  readonly failureWindowMs?: number | undefined;
  /** With fewer outcomes in the window nothing is concluded, 1 to 1000000. Default: 20. */
  readonly failureMinimum?: number | undefined;
  /** A worker's clock may differ from MongoDB's by so much, 100 to 86400000 ms. Default: 5000. */
  readonly clockSkewMs?: number | undefined;
  /** Three round trips in a row that take longer are an alert, 10 to 60000 ms. Default: 1000. */
  readonly slowMongoMs?: number | undefined;
}

export type ResolvedWatchdogOptions = {
  readonly [Key in keyof WatchdogOptions]-?: Exclude<WatchdogOptions[Key], undefined>;
};

export function watchdogOptionsSchema(defaults: ResolvedWatchdogOptions) {
  return z
    .strictObject(
      {
        everyMs: integer(100, 600_000).default(defaults.everyMs),
        stuckAfterMs: integer(1_000, 86_400_000).optional(),
        statusEveryMs: integer(100, 86_400_000).default(defaults.statusEveryMs),
        failedAbove: integer(0, 1_000_000_000).default(defaults.failedAbove),
        failureRate: share().default(defaults.failureRate),
        failureWindowMs: integer(1_000, 86_400_000).default(defaults.failureWindowMs),
        failureMinimum: integer(1, 1_000_000).default(defaults.failureMinimum),
        clockSkewMs: integer(100, 86_400_000).default(defaults.clockSkewMs),
        slowMongoMs: integer(10, 60_000).default(defaults.slowMongoMs),
      },
      expecting('an object'),
    )
    .prefault({});
}

interface Others {
  readonly sendTimeoutMs: number;
  readonly heartbeatMs: number;
  readonly lockLifetimeMs: number;
}

/** The least that `stuckAfterMs` may be: below it something that is well may look stuck. */
function leastStuckMs({ sendTimeoutMs, heartbeatMs, lockLifetimeMs }: Others): number {
  return Math.max(sendTimeoutMs + 1, 3 * heartbeatMs, lockLifetimeMs);
}

/** The default where it is enough. */
export function defaultStuckAfterMs(others: Others, usual: number): number {
  const least = leastStuckMs(others);
  return usual >= least ? usual : 2 * least;
}

/** Rules between these options and others. */
export function watchdogProblems(
  given: unknown,
  others: Others,
  defaults: ResolvedWatchdogOptions,
): Problem[] {
  const { stuckAfterMs, everyMs, statusEveryMs } = Object(given) as WatchdogOptions;
  const problems: Problem[] = [];
  const least = leastStuckMs(others);
  if (stuckAfterMs !== undefined && stuckAfterMs < least) {
    const what = `more than \`sendTimeoutMs\`, at least 3 × \`heartbeatMs\` and \`lockLifetimeMs\`: at least ${least}`;
    const path = 'watchdog.stuckAfterMs';
    problems.push({ path, message: expectation(path, what, stuckAfterMs) });
  }
  const leastStatusMs = everyMs ?? defaults.everyMs;
  if (statusEveryMs !== undefined && statusEveryMs < leastStatusMs) {
    const path = 'watchdog.statusEveryMs';
    const what = `at least \`watchdog.everyMs\`, ${leastStatusMs}`;
    problems.push({ path, message: expectation(path, what, statusEveryMs) });
  }
  return problems;
}
