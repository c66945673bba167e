/**
 * One rate over several processes and a real MongoDB, measured where the messages leave. `FAULTS=long` measures for half
 * a minute. Tokens that nobody took while the machine stood still are lost by design: in the short measurement the seconds
 * in which it did not stand still say whether all are used, and none may be above.
 */
import { expect, test } from 'vitest';
import { campaignRateKey } from '../../src/store/rates.ts';
import { testDatabase } from '../support/mongo.ts';
import { startWorker, type Worker } from '../support/processes.ts';
import { fullest } from './rate-senders.ts';
import type { RateWorkerOptions } from './rate-worker.ts';

const { uri, db } = await testDatabase();
const long = process.env.FAULTS === 'long';
const MEASURED_MS = long ? 30_000 : 6_000;
const PER_SECOND = 100;

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A receiver of the messages of any number of workers. */
function receiver(campaign: string) {
  const arrivals: number[] = [];
  const heard = new Map<Worker, number>();
  const workers: Worker[] = [];
  const options: RateWorkerOptions = { uri, campaign, rate: { perSecond: PER_SECOND } };
  return {
    arrivals,
    workers,
    start: async (count: number): Promise<void> => {
      const started = Array.from({ length: count }, () =>
        startWorker(new URL('./rate-worker.ts', import.meta.url), { args: [JSON.stringify(options)] }),
      );
      await Promise.all(started.map((worker) => worker.next('ready', 60_000)));
      for (const worker of started) worker.send({ kind: 'go' });
      workers.push(...started);
    },
    /** Notes what arrives for so long. */
    listen: async (ms: number): Promise<void> => {
      const until = performance.now() + ms;
      while (performance.now() < until) {
        for (const worker of workers) {
          const news = worker.messages.slice(heard.get(worker) ?? 0);
          heard.set(worker, worker.messages.length);
          for (const { kind, at } of news) if (kind === 'send') arrivals.push(Number(at));
        }
        await sleep(2);
      }
      arrivals.sort((a, b) => a - b);
    },
    stop: async (): Promise<void> => {
      for (const worker of workers) worker.send({ kind: 'stop' });
      await Promise.all(workers.map((worker) => worker.next('stopped')));
      expect(workers.flatMap(({ messages }) => messages.filter(({ kind }) => kind === 'unhandled'))).toEqual(
        [],
      );
    },
  };
}

const within = (arrivals: readonly number[], from: number, ms: number): number =>
  arrivals.filter((at) => at >= from && at < from + ms).length;

test(`${PER_SECOND} a second over three processes stays within 5 %, and no second is a block above`, async () => {
  const { arrivals, start, listen, stop, workers } = receiver('steady');
  await start(3);
  await listen(1_000 + MEASURED_MS);
  await stop();
  const from = (arrivals[0] ?? 0) + 900;
  const expected = (PER_SECOND * MEASURED_MS) / 1_000;
  const counted = within(arrivals, from, MEASURED_MS);
  if (long) expect(counted).toBeGreaterThanOrEqual(expected * 0.95);
  const seconds = Array.from({ length: MEASURED_MS / 1_000 }, (_, n) =>
    within(arrivals, from + n * 1_000, 1_000),
  );
  expect(seconds.sort((a, b) => a - b).at(-2)).toBeGreaterThanOrEqual(PER_SECOND * 0.9);
  expect(counted).toBeLessThanOrEqual(expected * 1.05);
  expect(fullest(arrivals, 1_000)).toBeLessThanOrEqual(2 * PER_SECOND);
  for (const { messages } of workers) expect(messages.length).toBeGreaterThan(PER_SECOND / 10);
  const bucket = await db.collection<{ _id: string }>('rates').findOne({ _id: campaignRateKey('steady') });
  expect(bucket).toMatchObject({ rate: { perSecond: PER_SECOND } });
});

test('processes that are killed and started again grant no second burst', async () => {
  const { arrivals, start, listen, stop, workers } = receiver('killed');
  await start(2);
  while (arrivals.length <= PER_SECOND / 2) await listen(1_500);
  await Promise.all(workers.splice(0).map((worker) => worker.kill()));
  await start(2);
  while (arrivals.length <= PER_SECOND) await listen(1_500);
  await stop();
  expect(fullest(arrivals, 1_000)).toBeLessThanOrEqual(2 * PER_SECOND);
  const [first = 0] = arrivals;
  for (const [position, at] of arrivals.entries()) {
    expect(position + 1).toBeLessThanOrEqual((PER_SECOND * (at - first)) / 1_000 + PER_SECOND);
  }
});
