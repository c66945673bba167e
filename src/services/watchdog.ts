/**
 * Looks every now and then whether all goes on, puts right what stands still, and tells what is wrong. Invariant: one
 * process does it for the cluster, under a lease that nothing depends on: two at once, or one that was stopped and wakes
 * up, write only what any worker may write at any time. A check that throws stops no other, and clears nothing. A process
 * that sends nothing watches only while no worker is alive.
 */
import type { AlertNews } from '../core/alert-policy.ts';
import { manyFailed } from '../core/anomaly.ts';
import { hasEnded } from '../process-info.ts';
import { heldByBreakers } from '../store/campaign-transitions.ts';
import { releaseLease, takeLease } from '../store/leases.ts';
import { isGone, openRunRows, overdueCampaigns, runProgress, seenWorkers } from '../store/watch.ts';
import type { Alerter } from './alerter.ts';
import { createDuty, type Duty } from './duty.ts';
import { checkAside, quarantinedOf } from './watchdog-aside.ts';
import { checkBooks, checkFailures } from './watchdog-books.ts';
import { checkBreakers } from './watchdog-breakers.ts';
import type { Check, Round, WatchdogContext } from './watchdog-check.ts';
import { checkAlarms, checkFreezes, checkPages } from './watchdog-holds.ts';
import { checkOverdue, checkRuns } from './watchdog-runs.ts';
import { checkMongo, checkWorkers } from './watchdog-workers.ts';

export interface WatchdogDutyOptions extends WatchdogContext {
  readonly alerter: Alerter;
  readonly workerId: string;
}

const LEASE = 'watchdog';
/** A round may take a while; a leader that died is followed after this many rounds, and not before this time. */
const LEASE_ROUNDS = 2;
const LEASE_LEAST_MS = 5_000;
const MOST_OVERDUE = 5;

const sum = (numbers: readonly number[]): number => numbers.reduce((total, each) => total + each, 0);

export function createWatchdog(options: WatchdogDutyOptions): Duty {
  const { store, clock, alerter, events, logger, limits, workerId } = options;
  // The first one marks workers, on which the others act.
  const checks: readonly Check[] = [
    checkWorkers(options),
    checkAlarms(options),
    checkFreezes(options),
    checkPages(options),
    checkRuns(options),
    checkOverdue(options),
    checkFailures(options),
    checkBooks(options),
    checkAside(options),
    checkBreakers(options),
    checkMongo(options),
  ];
  const kinds = checks.flatMap((check) => check.kinds);
  const failing = new Set<Check>();
  let statusAt = Number.NEGATIVE_INFINITY;
  let holds = false;

  const run = async (): Promise<void> => {
    const askedAt = clock.monotonic();
    let round: Round | undefined;
    try {
      round = await read(askedAt);
    } catch (error) {
      for (const check of checks) check.forget?.();
      throw error;
    }
    if (round === undefined) {
      for (const check of checks) check.forget?.(); // whoever watches now has seen what this one has not
      return;
    }
    const news: AlertNews[] = [];
    const settled: string[] = [];
    for (const check of checks) {
      try {
        news.push(...(await check.look(round)));
        settled.push(...check.kinds);
        if (failing.delete(check)) logger.info({ check: check.name }, 'a check of the watchdog works again');
      } catch (error) {
        check.forget?.();
        if (!failing.has(check))
          logger.warn({ check: check.name, error }, 'a check of the watchdog failed; it goes on');
        failing.add(check);
      }
    }
    await alerter.settle(settled, news, round.raised);
    tellStatus(round);
  };

  const letGo = async (): Promise<void> => {
    if (!holds) return;
    holds = false;
    await releaseLease(store, LEASE, workerId, null).catch(() => undefined); // it runs out by itself
  };

  /** Undefined: another process watches. */
  const read = async (askedAt: number): Promise<Round | undefined> => {
    const workers = await seenWorkers(store);
    const roundTripMs = clock.monotonic() - askedAt;
    const alive = workers.filter((worker) => {
      return !isGone(worker) && worker.silentMs < options.workerOfflineAfterMs && !hasEnded(worker);
    });
    if (options.takingOver === undefined && alive.length > 0) {
      await letGo();
      return undefined;
    }
    holds = await takeLease(
      store,
      LEASE,
      workerId,
      workerId,
      Math.max(LEASE_LEAST_MS, LEASE_ROUNDS * limits.everyMs),
    );
    if (!holds) return undefined;
    const [open, held, overdue, raised] = await Promise.all([
      openRunRows(store),
      // Only a worker can find out whether their messenger works again.
      alive.length > 0 ? new Map<string, number>() : heldByBreakers(store),
      overdueCampaigns(store, limits.stuckAfterMs, MOST_OVERDUE),
      alerter.raised(kinds),
    ]);
    const runs = await runProgress(
      store,
      open.map(({ runId }) => runId),
    );
    return {
      askedAt,
      answeredAt: clock.monotonic(),
      roundTripMs,
      workers,
      live: new Set(alive.map(({ _id }) => _id)),
      offline: new Set(workers.filter(isGone).map(({ _id }) => _id)),
      runs,
      processing: open.length + sum([...held.values()]),
      overdue: overdue.map((id) => id.toHexString()),
      raised,
    };
  };

  const tellStatus = ({ workers, live, runs }: Round): void => {
    const now = clock.monotonic();
    if (now - statusAt < limits.statusEveryMs) return;
    statusAt = now;
    const inFlight = workers.filter(({ _id }) => live.has(_id)).map((worker) => worker.inFlight);
    const processing = sum(inFlight);
    const left = sum(runs.map(({ total = 0, checkpoint }) => total - (checkpoint?.done ?? 0)));
    logger.info(
      {
        workers: live.size,
        campaigns: runs.length,
        pending: Math.max(0, left - processing),
        processing,
        failed: sum(runs.map(({ checkpoint }) => checkpoint?.failed ?? 0)),
      },
      'status',
    );
  };

  const duty = createDuty({ name: 'watchdog', everyMs: limits.everyMs, clock, logger, run });
  let ignore: (() => void) | undefined;
  return {
    ...duty,
    start: () => {
      // A run may begin and end between two rounds.
      ignore ??= events.on('run:completed', async ({ campaign, run: { id: runId }, report }) => {
        const { total, sent, failed, unknown } = report;
        const counts = { runId, campaignId: campaign.id, name: campaign.name, total, sent, failed };
        for (const each of manyFailed([counts], limits.failedAbove)) await alerter.raise(each);
        if (unknown === 0) return;
        const [run] = await runProgress(store, [runId]).catch(() => []);
        const aside = run === undefined ? [] : await quarantinedOf(store, run).catch(() => []);
        for (const each of aside) await alerter.raise(each);
      });
      duty.start();
    },
    stop: async () => {
      ignore?.();
      ignore = undefined;
      await duty.stop();
      await letGo();
    },
  };
}
