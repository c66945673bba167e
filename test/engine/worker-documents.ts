/** Documents of workers that tests play. */
import type { WorkerDoc } from '../../src/store/documents.ts';

type Fields = Omit<WorkerDoc, '_id' | 'heartbeatAt'>;

/** Of one on another machine that lives and does nothing. */
export function workerFields(more: Partial<WorkerDoc> = {}): Fields & Partial<WorkerDoc> {
  return {
    host: 'elsewhere',
    pid: 1,
    processStartedAt: 'x',
    version: '0',
    messengers: [],
    sources: [],
    state: 'running',
    startedAt: new Date(),
    pagesHeld: 0,
    inFlight: 0,
    lastProgressAt: null,
    load: 0,
    memory: { rssBytes: 0, heapUsedBytes: 0 },
    eventLoopDelayMs: 0,
    clockSkewMs: 0,
    schemaVersion: 1,
    ...more,
  };
}
