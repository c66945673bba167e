/**
 * Workers: those that are silent are marked offline, so that the checks after this one release what they held, also after
 * a watchdog that died in between. Invariant: a worker is marked by a write that names its heartbeat as read, judged by
 * the server's clock; one that gives a sign of life again is running again by that.
 */
import { noWorker, offlineWorkers, SLOW_ROUNDS, skewedClocks, slowMongo } from '../core/anomaly.ts';
import { markOffline } from '../store/watch.ts';
import type { Check, WatchdogContext } from './watchdog-check.ts';

export function checkWorkers(context: WatchdogContext): Check {
  const { store, events, limits, workerOfflineAfterMs } = context;
  /** A worker that has just been started has not told yet that it lives. */
  let missingBefore = false;
  return {
    name: 'workers',
    kinds: ['worker_offline', 'no_worker', 'clock_skew'],
    look: async ({ workers, live, offline, processing, overdue }) => {
      for (const worker of workers) {
        if (worker.state === 'offline' || worker.silentMs < workerOfflineAfterMs) continue;
        if (!(await markOffline(store, worker, workerOfflineAfterMs))) continue;
        offline.add(worker._id);
        const { _id: workerId, host, pid, heartbeatAt: lastSeenAt } = worker;
        events.emit('worker:offline', { workerId, host, pid, lastSeenAt });
      }
      const facts = workers.map((worker) => ({
        ...worker,
        id: worker._id,
        lastSeenAt: worker.heartbeatAt,
        state: offline.has(worker._id) ? 'offline' : worker.state,
      }));
      const missing = noWorker(processing, overdue.length, live.size);
      const news = missingBefore ? missing : [];
      missingBefore = missing.length > 0;
      return [...news, ...offlineWorkers(facts), ...skewedClocks(facts, limits.clockSkewMs)];
    },
    forget: () => {
      missingBefore = false;
    },
  };
}

export function checkMongo({ limits }: WatchdogContext): Check {
  let roundTrips: number[] = [];
  return {
    name: 'mongo',
    kinds: ['mongo_slow'],
    look: async ({ roundTripMs }) => {
      roundTrips = [...roundTrips, roundTripMs].slice(-SLOW_ROUNDS);
      return slowMongo(roundTrips, limits.slowMongoMs);
    },
  };
}
