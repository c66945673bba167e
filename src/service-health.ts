/**
 * Looks at this process: how long ago each kind of work was last seen to succeed. Invariant: asking is cheap, however much
 * is being sent: nothing of the ledger is read, MongoDB is asked at most once a second, and a database that does not answer
 * holds nobody up for longer than a short time.
 */
import type { Clock } from './clock.ts';
import { breakerOf } from './core/breaker-document.ts';
import {
  judgeService,
  type QueueFacts,
  type ServiceHealth,
  type ServiceLimits,
} from './core/service-health.ts';
import { orAtDeadline } from './deadline.ts';
import type { RunSharing } from './delivery/run-sharing.ts';
import type { Alarms } from './queue/alarms.ts';
import type { Heartbeat } from './services/heartbeat.ts';
import { type ReadBreaker, readBreakers } from './store/breakers.ts';
import type { Store } from './store/store.ts';
import { anyLiveWorker, ping } from './store/workers.ts';

/** MongoDB is asked again after this, ms. */
const FRESH_MS = 1_000;
/** A question without an answer has failed after this, ms. */
const ANSWER_MS = 1_000;
/** Where MongoDB was heard a moment ago, or is known to be away, an answer is waited for no longer than this, ms. */
const SHORT_MS = 30;
const RECENT_MS = 3_000;
/** Rounds may be late by so much before somebody has to look, ms. */
const LATE_MS = 30_000;

export interface ServiceHealthOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly serverNow: () => Date;
  readonly options: {
    readonly messengers: Readonly<Record<string, unknown>>;
    /** `false`: there are none. */
    readonly breaker: unknown;
    readonly processEveryMs: number;
    readonly pollMs: number;
    readonly claimTtlMs: number;
    readonly workerOfflineAfterMs: number;
  };
  /** Undefined: this process only serves the API. */
  readonly worker:
    | {
        readonly alarms: Pick<Alarms, 'lookedAt'>;
        readonly sharing: Pick<RunSharing, 'lookedAt' | 'holdsSince' | 'pagesHeld' | 'inFlight' | 'resting'>;
        readonly heartbeat: Pick<Heartbeat, 'ageMs' | 'flushedAt' | 'eventLoopDelayMs'>;
      }
    | undefined;
}

/** Answers in a few milliseconds where MongoDB does, and within a second where it just went away. Never rejects. */
export function createServiceHealth(context: ServiceHealthOptions): () => Promise<ServiceHealth> {
  const { store, clock, options, worker } = context;
  const { workerOfflineAfterMs } = options;
  const limits: ServiceLimits = {
    alarmsMs: Math.max(LATE_MS, 10 * options.processEveryMs),
    workMs: Math.max(LATE_MS, 10 * options.pollMs),
    flushMs: Math.max(LATE_MS, 2 * options.claimTtlMs),
    heartbeatMs: workerOfflineAfterMs / 2,
  };
  const startedAt = clock.monotonic(); // MongoDB had just been heard, and nothing can be older
  let asking: Promise<void> | undefined;
  let askedAt = Number.NEGATIVE_INFINITY;
  let answeredAt = startedAt;
  let latencyMs: number | null = null;
  let unanswered = 0;
  let liveWorker: boolean | null = null;
  let opened: ReadonlyMap<string, string> = new Map();

  const names = Object.keys(options.messengers);
  const question = async (): Promise<void> => {
    const [lives, breakers] = await Promise.all([
      worker === undefined ? anyLiveWorker(store, workerOfflineAfterMs) : ping(store).then(() => null),
      options.breaker === false ? new Map() : readBreakers(store, names),
    ]);
    liveWorker = lives;
    opened = openBreakers(breakers);
    answeredAt = clock.monotonic(); // also where it comes too late
  };
  const ask = async (): Promise<void> => {
    askedAt = clock.monotonic();
    try {
      await orAtDeadline(question(), ANSWER_MS, clock, () => {
        throw new Error('no answer in time');
      });
      latencyMs = clock.monotonic() - askedAt;
      unanswered = 0;
    } catch {
      unanswered += 1;
    }
  };
  const heardAt = (): number => Math.max(answeredAt, worker?.sharing.lookedAt ?? startedAt);
  const since = (at: number | undefined): number => Math.round(clock.monotonic() - (at ?? startedAt));

  const queue = (): QueueFacts => {
    if (worker === undefined) return { worker: false, liveWorker };
    const { alarms, sharing, heartbeat } = worker;
    const { holdsSince, pagesHeld, inFlight } = sharing;
    return {
      worker: true,
      alarmsMsAgo: since(alarms.lookedAt()),
      workMsAgo: since(sharing.lookedAt),
      flushMsAgo:
        holdsSince === undefined ? null : since(Math.max(holdsSince, heartbeat.flushedAt() ?? startedAt)),
      heartbeatMsAgo: Math.round(heartbeat.ageMs() ?? since(undefined)),
      eventLoopDelayMs: heartbeat.eventLoopDelayMs(),
      pagesHeld,
      inFlight,
    };
  };
  const messengers = () => {
    const resting = new Map(worker?.sharing.resting.map((rest) => [rest.messenger, rest.forMs]));
    return names.map((name) => {
      const forMs = resting.get(name);
      return { name, sick: opened.get(name) ?? (forMs === undefined ? undefined : restWords(forMs)) };
    });
  };

  return async () => {
    if (clock.monotonic() - askedAt >= FRESH_MS) {
      asking ??= ask().finally(() => {
        asking = undefined;
      });
    }
    if (asking !== undefined) {
      const isKnown = unanswered > 0 || (latencyMs !== null && clock.monotonic() - heardAt() < RECENT_MS);
      await orAtDeadline(asking, isKnown ? SHORT_MS : ANSWER_MS, clock, () => undefined);
    }
    const database = { answeredMsAgo: clock.monotonic() - heardAt(), latencyMs, unanswered };
    return judgeService(
      { now: context.serverNow(), database, queue: queue(), messengers: messengers() },
      limits,
    );
  };
}

/** Why those that are not closed are not, by messenger. */
function openBreakers(breakers: ReadonlyMap<string, ReadBreaker>): Map<string, string> {
  const found = new Map<string, string>();
  for (const [name, { document, now }] of breakers) {
    const breaker = breakerOf(document, now);
    if (breaker === undefined || breaker.state === 'closed') continue; // nonsense is repaired to closed
    found.set(name, `Its breaker is ${breaker.state.replace('_', ' ')}: ${breaker.detail}`);
  }
  return found;
}

const restWords = (forMs: number): string =>
  forMs > 0
    ? `It failed here and rests; it is tried again in ${Math.ceil(forMs / 1_000)} s.`
    : 'It failed here and is being tried again.';
