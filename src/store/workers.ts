/** The workers' signs of life, by the server's time: nobody's own clock says who is alive. */
import type { Filter } from 'mongodb';
import { hasEnded } from '../process-info.ts';
import { type CrashDoc, SCHEMA_VERSION, type WorkerDoc } from './documents.ts';
import type { Store } from './store.ts';

/** What a worker says of itself with each heartbeat. */
type HeartbeatFields = Omit<WorkerDoc, 'heartbeatAt' | 'schemaVersion' | '_id'>;

/** Writes a heartbeat and returns the server's time of it. */
export async function writeHeartbeat(store: Store, workerId: string, fields: HeartbeatFields): Promise<Date> {
  const written = await store.workers.findOneAndUpdate(
    { _id: workerId },
    { $set: { ...fields, schemaVersion: SCHEMA_VERSION }, $currentDate: { heartbeatAt: true } },
    { upsert: true, returnDocument: 'after', projection: { heartbeatAt: 1 } },
  );
  return written?.heartbeatAt ?? new Date(0);
}

/**
 * The workers that gave a sign of life within `withinMs` of the server's present, and have not ended since: a process of
 * this machine that is gone does not live, however recent its heartbeat is.
 */
export async function liveWorkers(store: Store, withinMs: number): Promise<WorkerDoc[]> {
  const found = await store.workers.find(live(withinMs)).toArray();
  return found.filter((worker) => !hasEnded(worker));
}

function live(withinMs: number): Filter<WorkerDoc> {
  return {
    state: { $in: ['running', 'stopping'] },
    $expr: { $gt: ['$heartbeatAt', { $subtract: ['$$NOW', withinMs] }] },
  };
}

/** Workers of the last week, those that gave a sign of life last first. */
export async function latestWorkers(store: Store, limit: number): Promise<WorkerDoc[]> {
  return store.workers.find().sort({ heartbeatAt: -1 }).limit(limit).toArray();
}

/** Had this worker been told to stop? Then it did not die of what it was doing. */
export async function wasStopping(store: Store, workerId: string): Promise<boolean> {
  const found = await store.workers.findOne({ _id: workerId }, { projection: { state: 1 } });
  return found?.state === 'stopping' || found?.state === 'stopped';
}

export async function readWorkers(store: Store, ids: readonly string[]): Promise<WorkerDoc[]> {
  if (ids.length === 0) return [];
  return store.workers.find({ _id: { $in: [...ids] } }).toArray();
}

/** Does any worker live? */
export async function anyLiveWorker(store: Store, withinMs: number): Promise<boolean> {
  return (await store.workers.findOne(live(withinMs), { projection: { _id: 1 } })) !== null;
}

/** Messengers and sources that workers have announced within a week. */
export async function announced(store: Store): Promise<Pick<WorkerDoc, 'messengers' | 'sources'>> {
  const workers = await store.workers.find({}, { projection: { messengers: 1, sources: 1 } }).toArray();
  return {
    messengers: workers.flatMap((worker) => worker.messengers),
    sources: [...new Set(workers.flatMap((worker) => worker.sources))],
  };
}

/** The server's present time. */
export async function serverTime(store: Store): Promise<Date> {
  const answer = await store.db.command({ hello: 1 });
  return answer.localTime as Date;
}

/** The server's version, as `7.0.14`. */
export async function serverVersion(store: Store): Promise<string> {
  const answer = await store.db.command({ buildInfo: 1 });
  return String(answer.version);
}

/** Does the database answer? Rejects when not. */
export async function ping(store: Store): Promise<void> {
  await store.db.command({ ping: 1 });
}

/** Writes down what ended a worker, or, where it goes on, what would have. */
export async function noteCrash(store: Store, crash: CrashDoc, ends: boolean): Promise<void> {
  const state = ends ? { state: 'crashed' as const } : {};
  await store.workers.updateOne({ _id: crash.workerId }, { $set: { crash, ...state } });
}
