/**
 * A run's sign of life: who works on it and how far it is. For people and for the watchdog; the engine decides nothing by
 * it. Invariant: written only while the run sends, by the server's time, and by one of the workers that hold pages of it
 * in each period, however many they are.
 */
import type { AnyBulkWriteOperation } from 'mongodb';
import { type Checkpoint, percentOf, progressText } from '../core/checkpoint.ts';
import type { Counts } from '../core/ledger-page.ts';
import type { CrashDoc, RunDoc, RunHeartbeatDoc } from './documents.ts';
import { COUNT_SUMS, totalCounts } from './ledger-sums.ts';
import type { Store } from './store.ts';

/** One lost with a failover is written again in the next period. */
const QUICK = { writeConcern: { w: 1 } } as const;

export type SilentRun = Pick<RunDoc, '_id' | 'total'> & { readonly heartbeat?: { readonly at: Date } };

/** Those of these runs that send and have had no sign of life for so long. */
export async function silentRuns(
  store: Store,
  runIds: readonly string[],
  silentMs: number,
): Promise<SilentRun[]> {
  const since = { $ifNull: ['$heartbeat.at', new Date(0)] };
  return store.runs
    .find(
      {
        _id: { $in: [...runIds] },
        status: 'sending',
        $expr: { $lt: [since, { $subtract: ['$$NOW', silentMs] }] },
      },
      { projection: { total: 1, 'heartbeat.at': 1 } },
    )
    .toArray();
}

/** The counts of these runs, summed in one question. */
export async function sumManyRuns(
  store: Store,
  runs: readonly Pick<RunDoc, '_id' | 'total'>[],
): Promise<Map<string, Counts>> {
  // Pages beyond a run's audience were never touched: they have no counts and add nothing.
  const rows = await store.ledgerPages
    .aggregate<Counts & { _id: string }>([
      { $match: { runId: { $in: runs.map(({ _id }) => _id) } } },
      { $group: { _id: '$runId', ...COUNT_SUMS } },
    ])
    .toArray();
  const byRun = new Map(rows.map((row) => [row._id, row]));
  return new Map(
    runs.map(({ _id, total = 0 }) => {
      const { _id: _, ...counts } = byRun.get(_id) ?? { _id };
      return [_id, totalCounts([counts as Counts], total)];
    }),
  );
}

export interface RunBeat {
  readonly runId: string;
  /** The heartbeat before, as read; undefined: there was none. */
  readonly before: Date | undefined;
  /** The one handed over last in this worker. */
  readonly recipient: string | null;
  readonly workerId: string;
  /** Undefined: nothing was summed this time, and what was known stays. */
  readonly checkpoint: Checkpoint | undefined;
}

/** Filter: it sends, and nobody else has written a heartbeat since it was read. */
export async function writeRunHeartbeats(store: Store, beats: readonly RunBeat[]): Promise<void> {
  const writes = beats.map(({ runId, before, checkpoint, ...who }): AnyBulkWriteOperation<RunDoc> => {
    const known = checkpoint === undefined ? {} : { checkpoint };
    const fields = heartbeatFields({ ...who, status: 'sending' }, checkpoint);
    return {
      updateOne: {
        filter: { _id: runId, status: 'sending', 'heartbeat.at': before ?? { $exists: false } },
        update: { $set: { ...fields, ...known }, $currentDate: { 'heartbeat.at': true } },
      },
    };
  });
  await store.runs.bulkWrite(writes, { ordered: false, ...QUICK });
}

/** The fields to set of a heartbeat of this process; its instant is the server's. */
export function heartbeatFields(
  beat: Pick<RunHeartbeatDoc, 'status' | 'workerId'> & Partial<Pick<RunHeartbeatDoc, 'recipient'>>,
  checkpoint: Checkpoint | undefined,
): Record<string, unknown> {
  const told =
    checkpoint === undefined ? {} : { progress: progressText(checkpoint), percent: percentOf(checkpoint) };
  const fields = { ...beat, pid: process.pid, ...told };
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [`heartbeat.${name}`, value]));
}

/** Notes on these runs that a worker that held pages of them ended by an error. */
export async function recordCrash(store: Store, runIds: readonly string[], crash: CrashDoc): Promise<void> {
  if (runIds.length === 0) return;
  await store.runs.updateMany({ _id: { $in: [...runIds] } }, { $set: { crash } });
}
