/** Several worker processes over one database, and what their messengers have handed over together. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { startWorker, type Worker } from '../support/processes.ts';
import type { WorkerOptions } from './worker.ts';

const SCRIPT = new URL('./worker.ts', import.meta.url);

export interface HandOver {
  readonly pid: number;
  readonly recipient: string;
  readonly run: string;
  readonly key: string;
  readonly attempt: number;
  /** When it arrived, by this machine's clock, ms. */
  readonly at: number;
}

export interface Fleet {
  readonly workers: readonly Worker[];
  /** Tells every worker to do this and waits until all have done it. */
  all(order: string): Promise<void>;
  /** Starts one more process; it does nothing until it is told to `start`. */
  add(more?: Partial<WorkerOptions>): Promise<Worker>;
  /** Everything handed over so far by all processes, dead ones included, in order. */
  handOvers(): HandOver[];
  /** Nobody was handed over twice, and no worker left a rejection unhandled. */
  expectClean(): void;
  clearLog(): void;
  /** Stops those that still live, in order, and ends their processes. */
  stop(): Promise<void>;
}

/** Starts `count` processes that wait for `start`. They are killed after the test at the latest. */
export async function startFleet(count: number, options: Omit<WorkerOptions, 'log'>): Promise<Fleet> {
  const directory = mkdtempSync(join(tmpdir(), 'campaign-scheduler-fleet-'));
  const log = join(directory, 'hand-overs.log');
  const workers: Worker[] = [];
  const gone = new Set<Worker>();
  let skipped = 0;
  const lines = (): string[] => {
    try {
      return readFileSync(log, 'utf8').split('\n').filter(Boolean);
    } catch {
      return []; // nothing was handed over yet
    }
  };
  const add = async (more: Partial<WorkerOptions> = {}): Promise<Worker> => {
    const worker = startWorker(SCRIPT, { args: [JSON.stringify({ ...options, ...more, log })] });
    workers.push(worker);
    void worker.exit.then(() => gone.add(worker));
    await worker.next('ready');
    return worker;
  };
  const handOvers = (): HandOver[] =>
    lines()
      .slice(skipped)
      .map((line) => {
        const [pid, recipient = '', run = '', key = '', attempt, at] = line.split(' ');
        return { pid: Number(pid), recipient, run, key, attempt: Number(attempt), at: Number(at) };
      });
  const kill = () => Promise.all(workers.map((worker) => worker.kill()));
  onTestFinished(async () => {
    await kill();
    rmSync(directory, { recursive: true, force: true });
  });
  await Promise.all(Array.from({ length: count }, () => add()));
  return {
    workers,
    add,
    handOvers,
    all: async (order) => {
      for (const worker of workers) worker.send({ kind: order });
      await Promise.all(workers.map((worker) => worker.next(`${order}-done`)));
    },
    expectClean: () => {
      const keys = handOvers().map(({ key }) => key);
      expect(keys.filter((key, index) => keys.indexOf(key) !== index)).toEqual([]);
      for (const worker of workers) expect(unhandledOf(worker)).toEqual([]);
    },
    clearLog: () => {
      skipped = lines().length;
    },
    stop: async () => {
      const living = workers.filter((worker) => !gone.has(worker));
      for (const worker of living) worker.send({ kind: 'stop' });
      await Promise.all(living.map((worker) => worker.next('stop-done')));
      await kill();
    },
  };
}

export function unhandledOf(worker: Worker): unknown[] {
  return worker.messages.filter(({ kind }) => kind === 'unhandled');
}
