/**
 * The options of a scheduler, resolved once: defaults filled in, every problem reported together, the result frozen.
 * Invariant: no message of this file shows the MongoDB URI or anything a messenger holds.
 */

import type { Connection } from 'mongoose';
import { z } from 'zod';
import { type AlertOptions, alertOptionsSchema, type ResolvedAlertOptions } from './alert-options.ts';
import type { AudienceSource } from './audience-input.ts';
import { type BreakerOptions, breakerOptionsSchema } from './breaker-options.ts';
import { type Clock, systemClock } from './clock.ts';
import type { BreakerSettings } from './core/breaker.ts';
import { type Problem, ValidationError } from './errors.ts';
import { type HealthOptions, healthOptionsSchema, type ResolvedHealthOptions } from './health-options.ts';
import {
  expectation,
  expecting,
  fitting,
  flag,
  hasMethod,
  integer,
  named,
  problemsOf,
  unobjectionable,
} from './input-checks.ts';
import { type Logger, lineLogger } from './logger.ts';
import type { Messenger } from './messengers/messenger.ts';
import { messengerProblem } from './messengers/messenger-check.ts';
import { suggestionSentence } from './suggestion.ts';
import {
  defaultStuckAfterMs,
  type ResolvedWatchdogOptions,
  type WatchdogOptions,
  watchdogOptionsSchema,
  watchdogProblems,
} from './watchdog-options.ts';

/** Every default on one screen. Times are milliseconds unless the name says otherwise. */
export const DEFAULTS = Object.freeze({
  worker: true,
  handleSignals: false,
  crashHandlers: false,
  collectionPrefix: '',
  pageSize: 250,
  claimTtlMs: 10_000,
  claimMarginMs: 2_000,
  sendTimeoutMs: 30_000,
  heartbeatMs: 10_000,
  workerOfflineAfterMs: 120_000,
  lockLifetimeMs: 10_000,
  processEveryMs: 1_000,
  pollMs: 1_000,
  recoverEveryMs: 30_000,
  stopTimeoutMs: 25_000,
  journalDays: 90,
  maxPagesBytes: 32 * 1024 * 1024,
  alerts: Object.freeze({ cooldownMs: 600_000, minimumLevel: 'info', perMinute: 30 } as const),
  breaker: Object.freeze({
    failureRate: 0.5,
    minimumVolume: 20,
    consecutiveFailures: 5,
    windowMs: 60_000,
    openMs: 15_000,
    maxOpenMs: 600_000,
    trialSize: 5,
    rampMs: 10_000,
  } satisfies BreakerSettings),
  watchdog: Object.freeze({
    everyMs: 30_000,
    stuckAfterMs: 180_000,
    statusEveryMs: 300_000,
    failedAbove: 10,
    failureRate: 0.2,
    failureWindowMs: 600_000,
    failureMinimum: 20,
    clockSkewMs: 5_000,
    slowMongoMs: 1_000,
  }),
  health: Object.freeze({ staleAfterMs: 600_000, failureRate: 0.2, failureMinimum: 20 }),
});

export interface SchedulerOptions {
  /** `mongodb://` or `mongodb+srv://` URI, or a mongoose `Connection` of the host's (which the host closes). Required. */
  readonly mongo: string | Connection;
  /** What this process can send with, by name (1 to 64 of `A-Z a-z 0-9 _ -`). Default: none. */
  readonly messengers?: Readonly<Record<string, Messenger>> | undefined;
  /** Where this process can read audiences from, by name (as above). Default: none. */
  readonly audiences?: Readonly<Record<string, AudienceSource>> | undefined;
  /** Takes part in sending, freezing and recovery. `false`: only the API. Default: true. */
  readonly worker?: boolean | undefined;
  /** SIGTERM and SIGINT stop the scheduler, a second one forces. Default: false. */
  readonly handleSignals?: boolean | undefined;
  /**
   * An uncaught exception or unhandled rejection is written down on the runs that this worker holds pages of, in the
   * journal and with the worker, in at most 2 s; then the process ends as it would have, unless the host listens for such
   * errors itself. Workers only. Default: false.
   */
  readonly crashHandlers?: boolean | undefined;
  /** Any pino-like logger. Default: readable lines on standard error. */
  readonly logger?: Logger | undefined;
  /** Time as a port, for tests. Default: the system's. */
  readonly clock?: Clock | undefined;
  /** From 0 to 1, for jitter. Default: `Math.random`. */
  readonly random?: (() => number) | undefined;
  /** Put before the name of every collection. Default: none, so that they are called `campaigns`, `agendaJobs`, … */
  readonly collectionPrefix?: string | undefined;
  /** Recipients in a page, 10 to 1000. Default: 250. */
  readonly pageSize?: number | undefined;
  /** A page whose holder shows no sign for this long may be taken over, 1000 to 600000 ms. Default: 10000. */
  readonly claimTtlMs?: number | undefined;
  /**
   * No send starts in the last `claimMarginMs` of a claim, 10 to 300000 ms, at most half of `claimTtlMs`.
   * Default: 2000; a fifth of `claimTtlMs` when that is less than 4000.
   */
  readonly claimMarginMs?: number | undefined;
  /** A send that takes longer is given up and counts as unknown, 100 to 600000 ms. Default: 30000. */
  readonly sendTimeoutMs?: number | undefined;
  /** How often a worker says that it lives, 100 to 600000 ms. Default: 10000. */
  readonly heartbeatMs?: number | undefined;
  /** A worker silent for this long is offline, 300 to 86400000 ms, at least 3 × `heartbeatMs`. Default: 120000. */
  readonly workerOfflineAfterMs?: number | undefined;
  /** Lock of an alarm while its handler runs, 300 to 600000 ms, at least 3 × `processEveryMs`. Default: 10000. */
  readonly lockLifetimeMs?: number | undefined;
  /** How often alarms are looked for, 100 to 60000 ms. Default: 1000. */
  readonly processEveryMs?: number | undefined;
  /** How often work is looked for, 50 to 60000 ms. Default: 1000. */
  readonly pollMs?: number | undefined;
  /** How often campaigns without an alarm or a holder are looked for, 100 to 3600000 ms. Default: 30000. */
  readonly recoverEveryMs?: number | undefined;
  /** How long `stop()` waits for sends in flight, 0 to 3600000 ms. Default: 25000. */
  readonly stopTimeoutMs?: number | undefined;
  /** Days the journal is kept, 1 to 3650. Default: 90. */
  readonly journalDays?: number | undefined;
  /** Most bytes of pages a worker holds at once (always at least one page), 1 MiB to 4 GiB. Default: 32 MiB. */
  readonly maxPagesBytes?: number | undefined;
  /** Who is told of alerts. Default: they are stored, logged and told to listeners. */
  readonly alerts?: AlertOptions | undefined;
  /** The circuit breaker of every messenger, the same in all processes; `false`: none. Default: see `BreakerOptions`. */
  readonly breaker?: BreakerOptions | false | undefined;
  /** What is looked after, and from when on something is wrong. Default: see each. */
  readonly watchdog?: WatchdogOptions | undefined;
  /** What `health()` calls stale, and what it warns of. */
  readonly health?: HealthOptions | undefined;
}

/** Options with every default filled in; frozen, but for the connection, messengers and other parts the host owns. */
export type ResolvedOptions = {
  readonly [Key in keyof SchedulerOptions]-?: Exclude<SchedulerOptions[Key], undefined>;
} & {
  readonly alerts: ResolvedAlertOptions;
  readonly breaker: BreakerSettings | false;
  readonly watchdog: ResolvedWatchdogOptions;
  readonly health: ResolvedHealthOptions;
};

const schema = z.strictObject({
  mongo: unobjectionable<string | Connection>(mongoProblem),
  messengers: named(unobjectionable<Messenger>(messengerProblem)),
  audiences: named(
    fitting<AudienceSource>('a function that returns rows', (value) => typeof value === 'function'),
  ),
  worker: flag().default(DEFAULTS.worker),
  handleSignals: flag().default(DEFAULTS.handleSignals),
  crashHandlers: flag().default(DEFAULTS.crashHandlers),
  logger: withMethods<Logger>('a logger with debug, info, warn and error', [
    'debug',
    'info',
    'warn',
    'error',
  ]),
  clock: withMethods<Clock>('a clock with now, monotonic and schedule', ['now', 'monotonic', 'schedule']),
  random: fitting<() => number>('a function', (value) => typeof value === 'function').optional(),
  collectionPrefix: z
    .string(expecting('a string'))
    .regex(
      /^(?!system\.)([A-Za-z_][A-Za-z0-9_.-]{0,39})?$/,
      expecting('at most 40 of A-Z a-z 0-9 _ . - that begin with a letter or _'),
    )
    .default(DEFAULTS.collectionPrefix),
  pageSize: integer(10, 1_000).default(DEFAULTS.pageSize),
  claimTtlMs: integer(1_000, 600_000).default(DEFAULTS.claimTtlMs),
  claimMarginMs: integer(10, 300_000).optional(),
  sendTimeoutMs: integer(100, 600_000).default(DEFAULTS.sendTimeoutMs),
  heartbeatMs: integer(100, 600_000).default(DEFAULTS.heartbeatMs),
  workerOfflineAfterMs: integer(300, 86_400_000).default(DEFAULTS.workerOfflineAfterMs),
  lockLifetimeMs: integer(300, 600_000).default(DEFAULTS.lockLifetimeMs),
  processEveryMs: integer(100, 60_000).default(DEFAULTS.processEveryMs),
  pollMs: integer(50, 60_000).default(DEFAULTS.pollMs),
  recoverEveryMs: integer(100, 3_600_000).default(DEFAULTS.recoverEveryMs),
  stopTimeoutMs: integer(0, 3_600_000).default(DEFAULTS.stopTimeoutMs),
  journalDays: integer(1, 3_650).default(DEFAULTS.journalDays),
  maxPagesBytes: integer(1024 * 1024, 4 * 1024 ** 3).default(DEFAULTS.maxPagesBytes),
  alerts: alertOptionsSchema(DEFAULTS.alerts),
  breaker: breakerOptionsSchema(DEFAULTS.breaker),
  watchdog: watchdogOptionsSchema(DEFAULTS.watchdog),
  health: healthOptionsSchema(DEFAULTS.health),
});

/**
 * Checks the options and fills in the defaults.
 *
 * @throws ValidationError `invalid_options`, with every problem at once.
 */
export function resolveOptions(options: SchedulerOptions): ResolvedOptions {
  const isOff = Object(options).breaker === false;
  const parsed = schema.safeParse(isOff ? { ...options, breaker: undefined } : options);
  const problems = parsed.success
    ? []
    : problemsOf(parsed.error, 'options', {
        '': Object.keys(schema.shape),
        breaker: Object.keys(DEFAULTS.breaker),
        alerts: ['sinks', ...Object.keys(DEFAULTS.alerts)],
        watchdog: Object.keys(DEFAULTS.watchdog),
        health: Object.keys(DEFAULTS.health),
      });
  problems.push(...crossProblems(options, problems));
  if (problems.length > 0 || parsed.data === undefined) {
    throw new ValidationError('invalid_options', 'Invalid options of the scheduler', problems);
  }
  const { messengers, audiences, claimMarginMs, logger, clock, random, breaker, ...rest } = parsed.data;
  return Object.freeze({
    ...rest,
    alerts: Object.freeze({ ...rest.alerts, sinks: Object.freeze([...rest.alerts.sinks]) }),
    watchdog: Object.freeze({
      ...rest.watchdog,
      stuckAfterMs: rest.watchdog.stuckAfterMs ?? defaultStuckAfterMs(rest, DEFAULTS.watchdog.stuckAfterMs),
    }),
    health: Object.freeze({
      ...rest.health,
      staleAfterMs: rest.health.staleAfterMs ?? Math.max(DEFAULTS.health.staleAfterMs, 3 * rest.heartbeatMs),
    }),
    messengers: frozenMap(messengers),
    audiences: frozenMap(audiences),
    claimMarginMs: claimMarginMs ?? defaultMarginMs(rest.claimTtlMs),
    logger: logger ?? lineLogger(),
    clock: clock ?? systemClock,
    random: random ?? Math.random,
    breaker: isOff ? false : Object.freeze(breaker),
  });
}

/** Rules between two options; a rule is left out where one of its options is wrong by itself. */
function crossProblems(options: unknown, problems: readonly Problem[]): Problem[] {
  const given: Partial<Record<string, unknown>> = Object(options);
  const found: Problem[] = [];
  const atLeast = (large: keyof typeof DEFAULTS, times: number, small: keyof typeof DEFAULTS): void => {
    if (problems.some(({ path }) => path === large || path === small)) return;
    const value = Number(given[large] ?? DEFAULTS[large]);
    const least = times * Number(given[small] ?? DEFAULTS[small]);
    if (value >= least) return;
    found.push({
      path: large,
      message: expectation(large, `at least ${times} × \`${small}\`, ${least}`, value),
    });
  };
  if (given.claimMarginMs !== undefined) atLeast('claimTtlMs', 2, 'claimMarginMs');
  atLeast('workerOfflineAfterMs', 3, 'heartbeatMs');
  atLeast('lockLifetimeMs', 3, 'processEveryMs');
  found.push(...sinkProblems(given), ...staleProblems(given, problems));
  const others = ['sendTimeoutMs', 'heartbeatMs', 'lockLifetimeMs', 'watchdog'] as const;
  if (!problems.some(({ path }) => others.some((name) => path.startsWith(name)))) {
    found.push(
      ...watchdogProblems(given.watchdog, { ...DEFAULTS, ...withoutUndefined(given) }, DEFAULTS.watchdog),
    );
  }
  return found;
}

function withoutUndefined(given: object): object {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

/** What is called stale must have had the time for a few heartbeats. */
function staleProblems(
  { health, heartbeatMs = DEFAULTS.heartbeatMs }: Partial<Record<string, unknown>>,
  problems: readonly Problem[],
): Problem[] {
  const path = 'health.staleAfterMs';
  const value: unknown = Object(health).staleAfterMs;
  if (
    value === undefined ||
    problems.some((problem) => problem.path === path || problem.path === 'heartbeatMs')
  )
    return [];
  const least = 3 * Number(heartbeatMs);
  if (Number(value) >= least) return [];
  return [{ path, message: expectation(path, `at least 3 × \`heartbeatMs\`, ${least}`, value) }];
}

/** A sink that sends with a messenger needs one of that name. */
function sinkProblems({ alerts, messengers }: Partial<Record<string, unknown>>): Problem[] {
  const sinks: unknown = Object(alerts).sinks;
  if (!Array.isArray(sinks)) return [];
  const names = Object.keys(Object(messengers));
  return sinks.flatMap((sink: unknown, index) => {
    const name: unknown = Object(sink).messenger;
    if (typeof name !== 'string' || names.includes(name)) return [];
    const path = `alerts.sinks[${index}]`;
    const message = `Expected \`${path}\` to send with one of \`messengers\`. ${suggestionSentence(name, names, 'messengers')}`;
    return [{ path, message }];
  });
}

function defaultMarginMs(claimTtlMs: number): number {
  return claimTtlMs < 2 * DEFAULTS.claimMarginMs ? Math.floor(claimTtlMs / 5) : DEFAULTS.claimMarginMs;
}

function withMethods<T>(what: string, methods: readonly string[]): z.ZodOptional<z.ZodType<T>> {
  return fitting<T>(what, (value) => methods.every((method) => hasMethod(value, method))).optional();
}

/** Without a prototype, so that `constructor` is not the name of a messenger. */
function frozenMap<T>(parts: Readonly<Record<string, T>>): Readonly<Record<string, T>> {
  return Object.freeze(Object.assign(Object.create(null), parts));
}

/** Says only the type or the scheme: the rest may hold a password. */
function mongoProblem(value: unknown, path: string): string | undefined {
  const what = 'a `mongodb://` or `mongodb+srv://` URI or a mongoose Connection';
  if (typeof value === 'string') {
    const scheme = /^([a-z][a-z0-9+.-]{0,20}):\/\//i.exec(value)?.[1];
    if (scheme === 'mongodb' || scheme === 'mongodb+srv') return undefined;
    return `Expected \`${path}\` to be ${what}, got a string ${scheme === undefined ? 'without a scheme' : `with scheme \`${scheme}\``}`;
  }
  if (hasMethod(value, 'model') && hasMethod(value, 'collection') && hasMethod(value, 'getClient'))
    return undefined;
  if (hasMethod(value, 'model') && hasMethod(value, 'createConnection')) {
    return `Expected \`${path}\` to be ${what}, got mongoose itself. Did you mean \`mongoose.connection\`?`;
  }
  return expectation(path, what, value);
}
