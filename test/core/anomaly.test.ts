/** What is wrong, from facts: a table of each anomaly, and the sliding window of failures against a reference. */
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import type { AlertNews } from '../../src/core/alert-policy.ts';
import {
  drifted,
  type FailureSample,
  failureRates,
  failureShare,
  manyFailed,
  noWorker,
  offlineWorkers,
  orphanedPages,
  type RunCounts,
  skewedClocks,
  slowMongo,
  type WatchedWorker,
  withinWindow,
} from '../../src/core/anomaly.ts';
import { freezePatienceMs } from '../../src/core/freezing.ts';

const keys = (news: readonly AlertNews[]): string[] => news.map(({ key }) => key);

const worker = (more: Partial<WatchedWorker> = {}): WatchedWorker => ({
  id: 'w',
  host: 'h',
  pid: 1,
  state: 'running',
  silentMs: 0,
  lastSeenAt: new Date(1_500),
  startedAt: new Date(1_000),
  clockSkewMs: 0,
  ...more,
});

const run = (more: Partial<RunCounts> = {}): RunCounts => ({
  runId: 'c:once',
  campaignId: 'c',
  name: 'News',
  total: 100,
  sent: 0,
  failed: 0,
  ...more,
});

test.each([
  [0, 0, 0, []],
  [0, 0, 3, []],
  [1, 0, 1, []],
  [1, 0, 0, ['workers:none']],
  [0, 2, 0, ['workers:none']],
])('%i campaigns in progress, %i overdue, %i workers: %j', (processing, overdue, live, expected) => {
  expect(keys(noWorker(processing, overdue, live))).toEqual(expected);
});

test.each([
  [0, 1],
  [1, 1],
  [2, 2],
  [5, 16],
  [9, 16],
])('attempt %i of reading a source may be silent for %i times as long', (attempt, times) => {
  expect(freezePatienceMs(attempt, 1_000)).toBe(times * 1_000);
});

const DAY_MS = 24 * 3_600_000;
const OFFLINE = worker({ state: 'offline', silentMs: 150_000 });

test.each<[string, WatchedWorker[], string[]]>([
  ['running', [worker()], []],
  ['stopping', [worker({ state: 'stopping' })], []],
  ['offline', [OFFLINE], ['worker:offline:w']],
  ['ended by an error', [worker({ state: 'crashed', silentMs: 5_000, error: 'x' })], ['worker:offline:w']],
  ['offline for a day', [{ ...OFFLINE, silentMs: DAY_MS + 1 }], []],
  [
    'offline, and one runs that was started on its machine since',
    [OFFLINE, worker({ id: 'v', startedAt: new Date(2_000) })],
    [],
  ],
  [
    'offline, and another that ran beside it on its machine still does',
    [OFFLINE, worker({ id: 'v', startedAt: new Date(1_200) })],
    ['worker:offline:w'],
  ],
  [
    'offline, and one runs that was started elsewhere since',
    [OFFLINE, worker({ id: 'v', host: 'i', startedAt: new Date(2_000) })],
    ['worker:offline:w'],
  ],
  [
    'two of a machine that is gone',
    [OFFLINE, { ...OFFLINE, id: 'v', startedAt: new Date(2_000) }],
    ['worker:offline:w', 'worker:offline:v'],
  ],
])('a worker that is %s', (_name, workers, expected) => {
  expect(keys(offlineWorkers(workers))).toEqual(expected);
});

test.each([
  ['running', 5_000, undefined],
  ['running', 5_001, '5 s behind'],
  ['running', -3_600_000, '3600 s ahead of'],
  ['offline', -3_600_000, undefined],
])('the clock of a worker that is %s, %i ms', (state, clockSkewMs, words) => {
  const news = skewedClocks([worker({ state, clockSkewMs })], 5_000);
  expect(news.map(({ message }) => message)).toEqual(
    words === undefined ? [] : [expect.stringContaining(words)],
  );
});

test('pages that are held by workers that are gone are one alert, which names some', () => {
  expect(orphanedPages([])).toEqual([]);
  const many = Array.from({ length: 30 }, (_, n) => ({ pageId: `p${n}`, workerId: `w${n % 2}` }));
  const [news] = orphanedPages(many);
  expect(news).toMatchObject({ key: 'pages:orphaned', detail: { pages: 30, workers: ['w0', 'w1'] } });
  expect(news?.detail?.first).toHaveLength(10);
});

test.each([
  [10, 10, []],
  [11, 10, ['run:failed:c:once']],
  [1, 0, ['run:failed:c:once']],
])('%i failed where %i may', (failed, failedAbove, expected) => {
  expect(keys(manyFailed([run({ failed })], failedAbove))).toEqual(expected);
});

test('books that contradict themselves', () => {
  const about = { runId: 'c:once', campaignId: 'c' };
  const [pages, report] = drifted([
    { ...about, pageIds: ['a', 'b'] },
    { ...about, pageIds: [] },
  ]);
  expect(pages).toMatchObject({ key: 'run:drift:c:once', level: 'critical', campaignId: 'c' });
  expect(pages?.message).toMatch(/counts of 2 pages differ/);
  expect(report?.message).toMatch(/report differs/);
});

test.each<[number[], string[]]>([
  [[], []],
  [[900, 900], []],
  [[900, 900, 900], ['mongo:slow']],
  [[900, 900, 100], []],
  [[100, 900, 900, 900], ['mongo:slow']],
  [[500, 500, 500], []],
])('round trips of %j ms', (roundTrips, expected) => {
  expect(keys(slowMongo(roundTrips, 500))).toEqual(expected);
});

describe('the rate of failures', () => {
  const at = (atMs: number, sent: number, failed: number): FailureSample => ({ atMs, sent, failed });
  const limits = { failureRate: 0.2, failureWindowMs: 1_000, failureMinimum: 10 };

  test.each<[string, FailureSample[], number | undefined]>([
    ['nothing', [], undefined],
    ['one sample', [at(0, 50, 50)], undefined],
    ['too little', [at(0, 0, 0), at(1, 5, 4)], undefined],
    ['enough', [at(0, 0, 0), at(1, 5, 5)], 0.5],
    ['only what came since the first', [at(0, 1_000, 900), at(1, 1_010, 900)], 0],
    ['taken back by an order', [at(0, 0, 50), at(1, 20, 0)], 0],
  ])('of %s', (_name, samples, share) => {
    expect(failureShare(samples, 10)).toBe(share);
  });

  test('is an alert above the limit', () => {
    const of = (failed: number) =>
      failureRates([{ ...run(), samples: [at(0, 0, 0), at(9, 8, failed)] }], limits);
    expect(of(2)).toEqual([]);
    expect(of(3)).toMatchObject([{ key: 'run:failure-rate:c:once', detail: { percent: 27 } }]);
  });

  it('law: what is measured is what happened since the last sample before the window', () => {
    const step = fc.record({ afterMs: fc.nat(400), sent: fc.nat(20), failed: fc.nat(20) });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 40 }), (steps) => {
        const all: FailureSample[] = [];
        let kept: FailureSample[] = [];
        for (const { afterMs, sent, failed } of steps) {
          const last = all.at(-1) ?? at(0, 0, 0);
          const next = at(last.atMs + afterMs, last.sent + sent, last.failed + failed);
          all.push(next);
          kept = withinWindow([...kept, next], next.atMs, 1_000);

          const begins = next.atMs - 1_000;
          const from = all.findLast(({ atMs }) => atMs <= begins) ?? (all[0] as FailureSample);
          const happened = next.sent - from.sent + (next.failed - from.failed);
          const expected = happened < 10 ? undefined : (next.failed - from.failed) / happened;
          expect(failureShare(kept, 10)).toBe(expected);
          expect(kept.filter(({ atMs }) => atMs <= begins).length).toBeLessThanOrEqual(1);
        }
      }),
    );
  });
});

it('law: one trouble has one key, and what is not there any more is not among the answers', () => {
  const facts = fc.uniqueArray(
    fc.record({
      id: fc.string({ minLength: 1, maxLength: 5 }),
      host: fc.constantFrom('a', 'b'),
      state: fc.constantFrom('running', 'stopping', 'offline'),
      silentMs: fc.nat(2 * DAY_MS),
      lastSeenAt: fc.nat(10).map((ms) => new Date(ms)),
      startedAt: fc.nat(10).map((ms) => new Date(ms)),
      clockSkewMs: fc.integer({ min: -10_000, max: 10_000 }),
    }),
    { selector: ({ id }) => id },
  );
  fc.assert(
    fc.property(facts, (given) => {
      const workers = given.map((each) => worker(each));
      const news = [...offlineWorkers(workers), ...skewedClocks(workers, 5_000)];
      expect(new Set(keys(news)).size).toBe(news.length);
      const healthy = workers.map((each) => ({ ...each, state: 'running', clockSkewMs: 0 }));
      expect([...offlineWorkers(healthy), ...skewedClocks(healthy, 5_000)]).toEqual([]);
    }),
  );
});
