/**
 * What is wrong, from what is seen: facts in, alerts out. Pure; whoever calls it clears what is no longer among its
 * answers. Invariant: one trouble has one key, whoever sees it and however often.
 */
import type { AlertNews } from './alert-policy.ts';

/** A worker as its heartbeats show it. */
export interface WatchedWorker {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly state: string;
  /** Its last sign of life, server time, and how long ago that was, ms. */
  readonly lastSeenAt: Date;
  readonly silentMs: number;
  /** Server time. */
  readonly startedAt: Date;
  /** Server time minus its machine's wall clock, ms. */
  readonly clockSkewMs: number;
  /** What ended it, where it is `crashed`. */
  readonly error?: string | undefined;
}

/** What was counted of a run, or stands in its report. */
export interface RunCounts {
  readonly runId: string;
  readonly campaignId: string;
  readonly name: string;
  readonly total: number;
  readonly sent: number;
  readonly failed: number;
}

/** A worker that is offline or crashed is told of for a day: by then it is history. */
const OFFLINE_TOLD_MS = 24 * 3_600_000;
const MAX_NAMED = 10;

const wholeSeconds = (ms: number): string => `${Math.round(ms / 1_000)} s`;
const plural = (count: number, one: string, many = `${one}s`): string =>
  `${count} ${count === 1 ? one : many}`;
const about = ({ campaignId }: { campaignId: string }) => ({ campaignId });

/** Something is to be done and nobody is there to do it. `overdue`: campaigns that should have begun. */
export function noWorker(processing: number, overdue: number, liveWorkers: number): AlertNews[] {
  if (processing + overdue === 0 || liveWorkers > 0) return [];
  return [
    {
      key: 'workers:none',
      kind: 'no_worker',
      level: 'critical',
      message: 'there is work to do, and no worker is alive',
      detail: { processing, overdue },
    },
  ];
}

/** Over when it is back, when one that was started since on its machine has taken its place, or after a day. */
export function offlineWorkers(workers: readonly WatchedWorker[]): AlertNews[] {
  const replaced = (worker: WatchedWorker): boolean =>
    workers.some(
      ({ host, state, startedAt }) =>
        state === 'running' && host === worker.host && startedAt > worker.lastSeenAt,
    );
  return workers.flatMap((worker) => {
    const { id, host, pid, state, silentMs, error = 'unknown' } = worker;
    const crashed = state === 'crashed';
    if (!(crashed || state === 'offline') || silentMs > OFFLINE_TOLD_MS || replaced(worker)) return [];
    const what = crashed ? `was ended by an error (${error})` : 'gives no sign of life';
    return {
      key: `worker:offline:${id}`,
      kind: 'worker_offline',
      level: 'warning',
      message: `worker ${id} (${host}, process ${pid}) ${what}; what it held is released`,
      detail: { workerId: id, host, pid, state },
    };
  });
}

export function skewedClocks(workers: readonly WatchedWorker[], clockSkewMs: number): AlertNews[] {
  return workers.flatMap(({ id, host, state, clockSkewMs: skewMs }) => {
    if (state !== 'running' || Math.abs(skewMs) <= clockSkewMs) return [];
    const how = `${wholeSeconds(Math.abs(skewMs))} ${skewMs > 0 ? 'behind' : 'ahead of'}`;
    return {
      key: `worker:clock:${id}`,
      kind: 'clock_skew',
      level: 'warning',
      message: `the clock of ${host} is ${how} MongoDB's; MongoDB's counts`,
      detail: { workerId: id, host, skewMs },
    };
  });
}

/** Pages that are held beyond what living workers hold. */
export function orphanedPages(
  orphaned: readonly { readonly pageId: string; readonly workerId: string }[],
): AlertNews[] {
  if (orphaned.length === 0) return [];
  const workers = [...new Set(orphaned.map(({ workerId }) => workerId))];
  return [
    {
      key: 'pages:orphaned',
      kind: 'pages_orphaned',
      level: 'warning',
      message: `${plural(orphaned.length, 'page is', 'pages are')} held by workers that are gone, and nobody takes over`,
      detail: {
        pages: orphaned.length,
        first: orphaned.slice(0, MAX_NAMED).map(({ pageId }) => pageId),
        workers: workers.slice(0, MAX_NAMED),
      },
    },
  ];
}

export function manyFailed(runs: readonly RunCounts[], failedAbove: number): AlertNews[] {
  return runs.flatMap((run) => {
    const { runId, name, failed, total } = run;
    if (failed <= failedAbove) return [];
    return {
      key: `run:failed:${runId}`,
      kind: 'many_failed',
      level: 'warning',
      message: `${name}: ${failed} of ${total} recipients have failed`,
      ...about(run),
      detail: { runId, failed, total },
    };
  });
}

/** What was counted of one run at one instant. */
export interface FailureSample {
  /** Monotonic, ms. */
  readonly atMs: number;
  readonly sent: number;
  readonly failed: number;
}

export interface FailureLimits {
  /** From 0 to 1. */
  readonly failureRate: number;
  readonly failureWindowMs: number;
  /** With fewer outcomes in the window nothing is concluded. */
  readonly failureMinimum: number;
}

/** The samples that a window still needs: those within it, and the last one before it as what it is measured against. */
export function withinWindow(
  samples: readonly FailureSample[],
  nowMs: number,
  windowMs: number,
): FailureSample[] {
  const first = samples.findIndex(({ atMs }) => atMs > nowMs - windowMs);
  if (first === -1) return samples.slice(-1);
  return samples.slice(Math.max(0, first - 1));
}

/** Share of failures among what happened between the first sample and the last; undefined: too little happened. */
export function failureShare(samples: readonly FailureSample[], minimum: number): number | undefined {
  const [from, to] = [samples.at(0), samples.at(-1)];
  if (from === undefined || to === undefined) return undefined;
  // A person's order takes outcomes back: less than before is nothing that has happened.
  const failed = Math.max(0, to.failed - from.failed);
  const sent = Math.max(0, to.sent - from.sent);
  return failed + sent < Math.max(1, minimum) ? undefined : failed / (failed + sent);
}

/** `samples` of each run, the oldest first, as `withinWindow` leaves them. */
export function failureRates(
  runs: readonly (Omit<RunCounts, 'total' | 'sent' | 'failed'> & {
    readonly samples: readonly FailureSample[];
  })[],
  { failureRate, failureWindowMs, failureMinimum }: FailureLimits,
): AlertNews[] {
  return runs.flatMap((run) => {
    const share = failureShare(run.samples, failureMinimum);
    if (share === undefined || share <= failureRate) return [];
    const percent = Math.round(share * 100);
    return {
      key: `run:failure-rate:${run.runId}`,
      kind: 'failure_rate',
      level: 'warning',
      message: `${run.name}: ${percent} % of the last ${wholeSeconds(failureWindowMs)} failed`,
      ...about(run),
      detail: { runId: run.runId, percent },
    };
  });
}

/** Where the books contradict themselves. */
export interface Drift {
  readonly runId: string;
  readonly campaignId: string;
  /** Pages whose counts differ from their outcomes; none: the report differs from the pages. */
  readonly pageIds: readonly string[];
}

export function drifted(drifts: readonly Drift[]): AlertNews[] {
  return drifts.map((drift) => {
    const { runId, pageIds } = drift;
    const what =
      pageIds.length === 0
        ? 'the report differs from the pages'
        : `the counts of ${plural(pageIds.length, 'page')} differ from the outcomes`;
    return {
      key: `run:drift:${runId}`,
      kind: 'ledger_drift',
      level: 'critical',
      message: `the books of run ${runId} contradict themselves: ${what}`,
      ...about(drift),
      detail: { runId, pageIds: pageIds.slice(0, MAX_NAMED) },
    };
  });
}

/** The last round trips, ms: slow when every one of three was. */
export function slowMongo(roundTripsMs: readonly number[], slowMongoMs: number): AlertNews[] {
  const last = roundTripsMs.slice(-SLOW_ROUNDS);
  if (last.length < SLOW_ROUNDS || last.some((ms) => ms <= slowMongoMs)) return [];
  const ms = Math.round(Math.min(...last));
  return [
    {
      key: 'mongo:slow',
      kind: 'mongo_slow',
      level: 'warning',
      message: `MongoDB is slow: the last ${SLOW_ROUNDS} round trips took ${ms} ms and more`,
      detail: { roundTripsMs: last.map(Math.round) },
    },
  ];
}

export const SLOW_ROUNDS = 3;
