/**
 * What `why` asks of MongoDB, gathered: questions that are asked at the same moment, about one campaign or about a hundred,
 * are one question. Invariant: an answer is what MongoDB said after it was asked for; nothing is remembered.
 */
import type { Bucket } from './core/rate.ts';
import type { OtherCampaign, PageFacts } from './core/standing.ts';
import type { AlarmState } from './queue/alarm.ts';
import type { Alarms } from './queue/alarms.ts';
import { type FreezingAttempts, freezingAttempts } from './store/audiences.ts';
import { type ReadBreaker, readBreakers } from './store/breakers.ts';
import type { RunDoc, WorkerDoc } from './store/documents.ts';
import { readBuckets } from './store/rates.ts';
import { refreshRuns } from './store/runs.ts';
import { openZones, otherSenders, type RunOfPages, readPageFacts, type Sender } from './store/standing.ts';
import type { Store } from './store/store.ts';
import { liveWorkers } from './store/workers.ts';

export interface StandingReadsOptions {
  readonly store: Store;
  readonly alarms: Pick<Alarms, 'find'>;
  /** A worker silent for this long is offline, ms. */
  readonly workerOfflineAfterMs: number;
}

/** A run without its content: nobody here needs it. */
export type RunHead = Omit<RunDoc, 'content'>;

export type StandingReads = ReturnType<typeof standingReads>;

export function standingReads({ store, alarms, workerOfflineAfterMs }: StandingReadsOptions) {
  let workers: Promise<WorkerDoc[]> | undefined;
  return {
    alarm: together<string, AlarmState | undefined>(String, async (ids) => {
      return new Map((await alarms.find(ids)).map((alarm) => [alarm.campaignId, alarm]));
    }),
    run: together<string, RunHead | undefined>(String, async (ids) => {
      return new Map((await refreshRuns(store, ids)).map((run) => [run._id, run]));
    }),
    attempts: together<string, FreezingAttempts | undefined>(String, (ids) => freezingAttempts(store, ids)),
    pages: together<RunOfPages, PageFacts>(runKey, (runs) => readPageFacts(store, runs)),
    /** Those of the recipients that are left. */
    zones: together<RunOfPages, (string | undefined)[] | undefined>(runKey, (runs) => openZones(store, runs)),
    bucket: together<string, { bucket: Bucket } | undefined>(String, (keys) => readBuckets(store, keys)),
    breaker: together<string, ReadBreaker | undefined>(String, (names) => readBreakers(store, names)),
    others: together<Sender, OtherCampaign[]>(
      ({ id }) => id.toHexString(),
      (senders) => otherSenders(store, senders),
    ),
    workers: (): Promise<WorkerDoc[]> => {
      workers ??= liveWorkers(store, workerOfflineAfterMs);
      return workers;
    },
  };
}

const runKey = ({ runId }: RunOfPages): string => runId;

/** Asks once for all that is asked for until the event loop has turned. Where `V` is not optional, every question has an answer. */
function together<K, V>(
  keyOf: (asked: K) => string,
  answerAll: (asked: readonly K[]) => Promise<ReadonlyMap<string, V & {}>>,
): (asked: K) => Promise<V> {
  let open: { readonly asked: Map<string, K>; readonly answer: Promise<ReadonlyMap<string, V>> } | undefined;
  const begin = () => {
    const asked = new Map<string, K>();
    const turned = new Promise<void>((resolve) => setImmediate(resolve));
    const answer = turned.then(() => {
      open = undefined;
      return answerAll([...asked.values()]);
    });
    return { asked, answer };
  };
  return async (asked) => {
    open ??= begin();
    const key = keyOf(asked);
    open.asked.set(key, asked);
    return (await open.answer).get(key) as V;
  };
}
