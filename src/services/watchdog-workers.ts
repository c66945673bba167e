/**
 * Workers: those that are silent are marked offline, so that the checks after this one release what they held, also after
 * a watchdog that died in between. Invariant: a worker is marked by a write that names its heartbeat as read, judged by
 * the server's clock; one that gives a sign of life again is running again by that.
 */
import { noWorker, offlineWorkers, SLOW_ROUNDS, skewedClocks, slowMongo } from '../core/anomaly.ts';
import { isGone, markOffline } from '../store/watch.ts';
import { asRaised, type Check, type WatchdogContext } from './watchdog-check.ts';

export function checkWorkers(context: WatchdogContext): Check {
  const { store, events, limits, workerOfflineAfterMs } = context;
  /** A worker that has just been started has not told yet that it lives. */
  let missingBefore = false;
  return {
    name: 'workers',
    kinds: ['worker_offline', 'no_worker', 'clock_skew'],
    look: async ({ workers, live, offline, processing, overdue, raised }) => {
      for (const worker of workers) {
        if (isGone(worker) || worker.silentMs < workerOfflineAfterMs) continue;
        if (!(await markOffline(store, worker, workerOfflineAfterMs))) continue;
        offline.add(worker._id);
        const { _id: workerId, host, pid, heartbeatAt: lastSeenAt } = worker;
        events.emit('worker:offline', { workerId, host, pid, lastSeenAt });
      }
      const facts = workers.map((worker) => ({
        ...worker,
        id: worker._id,
        lastSeenAt:
          worker.state === 'crashed' ? (worker.crash?.at ?? worker.heartbeatAt) : worker.heartbeatAt,
        state: worker.state !== 'crashed' && offline.has(worker._id) ? 'offline' : worker.state,
        error: worker.crash?.error,
      }));
      const missing = noWorker(processing, overdue.length, live.size);
      const isKnown = missingBefore || raised.some(({ kind }) => kind === 'no_worker');
      const news = isKnown ? missing : [];
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
    look: async ({ roundTripMs, raised }) => {
      roundTrips = [...roundTrips, roundTripMs].slice(-SLOW_ROUNDS);
      const tooFew = roundTrips.length < SLOW_ROUNDS && roundTrips.every((ms) => ms > limits.slowMongoMs);
      const before = tooFew ? raised.filter(({ kind }) => kind === 'mongo_slow').map(asRaised) : [];
      return [...before, ...slowMongo(roundTrips, limits.slowMongoMs)];
    },
    forget: () => {
      roundTrips = [];
    },
  };
}
