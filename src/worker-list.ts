/** The workers of the cluster as people see them. Reads only. Invariant: nobody's own clock says who is alive. */
import { hostname } from 'node:os';
import { integerProblems, refuseProblems } from './input-checks.ts';
import { hasEnded } from './process-info.ts';
import type { CrashDoc, WorkerDoc } from './store/documents.ts';
import type { Store } from './store/store.ts';
import { latestWorkers } from './store/workers.ts';

export interface WorkerView {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  /** `offline`: no sign of life for `workerOfflineAfterMs`. */
  readonly state: WorkerDoc['state'];
  /** Does its process exist? Null: it is of another machine, which only its heartbeat tells of. */
  readonly processAlive: boolean | null;
  readonly startedAt: Date;
  readonly heartbeatAt: Date;
  /** Of the last heartbeat, ms. */
  readonly ageMs: number;
  readonly messengers: readonly string[];
  readonly sources: readonly string[];
  readonly pagesHeld: number;
  readonly inFlight: number;
  readonly lastProgressAt: Date | null;
  readonly load: number;
  readonly memory: { readonly rssBytes: number; readonly heapUsedBytes: number };
  readonly eventLoopDelayMs: number;
  readonly clockSkewMs: number;
  readonly crash?: CrashDoc;
}

const MAX_LISTED = 1_000;

export interface WorkerListOptions {
  readonly store: Store;
  readonly serverNow: () => Date;
  readonly workerOfflineAfterMs: number;
}

/** @throws ValidationError `invalid_options`. */
export async function listWorkers(options: WorkerListOptions, limit = 100): Promise<WorkerView[]> {
  const problems = integerProblems('limit', limit, 1, MAX_LISTED);
  refuseProblems('Workers cannot be listed', problems);
  const found = await latestWorkers(options.store, limit);
  const now = options.serverNow().getTime();
  return found.map((worker) => {
    const { _id, messengers, processStartedAt: _, resting: __, schemaVersion: ___, ...shown } = worker;
    const ageMs = Math.max(0, now - worker.heartbeatAt.getTime());
    const isSilent = ageMs > options.workerOfflineAfterMs;
    const isOver = worker.state === 'stopped' || worker.state === 'crashed';
    return {
      id: _id,
      ...shown,
      messengers: messengers.map(({ name }) => name),
      state: isSilent && !isOver ? 'offline' : worker.state,
      processAlive: processAlive(worker),
      ageMs,
    };
  });
}

/** Null: of another machine. */
export function processAlive(worker: Pick<WorkerDoc, 'host' | 'pid' | 'processStartedAt'>): boolean | null {
  return worker.host === hostname() ? !hasEnded(worker) : null;
}
