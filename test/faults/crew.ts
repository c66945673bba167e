/** Worker processes of a single test, and what can be waited for through their log. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, onTestFinished } from 'vitest';
import { startWorker, type Worker } from '../support/processes.ts';
import { until } from './fixtures.ts';
import { accepted, type HandOver } from './send-log.ts';
import type { StartOrder, WorkerOrder } from './worker.ts';

const SCRIPT = new URL('./worker.ts', import.meta.url);

export interface Crew {
  readonly logFile: string;
  /** A worker whose scheduler has started. It is killed when the test has finished. */
  start(order?: Partial<StartOrder>): Promise<Worker>;
  /** What the provider took, of one campaign, by one worker or by all. */
  taken(campaignId: string, worker?: Worker): HandOver[];
  /** Waits until the provider has taken so many. */
  untilTaken(campaignId: string, count: number, worker?: Worker): Promise<void>;
}

export const tell = (worker: Worker, order: WorkerOrder): void => worker.send({ ...order });

/** Call it once at the top of a test file. */
export function crew(uri: string): Crew {
  const folder = mkdtempSync(join(tmpdir(), 'campaign-scheduler-faults-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const logFile = join(folder, 'hand-overs.log');
  const taken: Crew['taken'] = (campaignId, worker) =>
    accepted(logFile, campaignId).filter(({ pid }) => worker === undefined || pid === worker.pid);
  return {
    logFile,
    start: async (order = {}) => {
      const worker = startWorker(SCRIPT);
      onTestFinished(async () => {
        await worker.kill();
      });
      tell(worker, { kind: 'start', uri, logFile, seed: 1, ...order });
      await worker.next('started');
      return worker;
    },
    taken,
    untilTaken: (campaignId, count, worker) =>
      until(`${count} taken`, () => taken(campaignId, worker).length >= count),
  };
}

/** What workers said that no worker should say. */
export function troubles(...workers: Worker[]): string[] {
  return workers.flatMap(({ messages }) =>
    messages
      .filter(({ kind, level }) => kind === 'unhandled' || kind === 'refused' || level === 'error')
      .map((message) => JSON.stringify(message)),
  );
}
