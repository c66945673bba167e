/** How fast a run has been sending: an average over a span that is told, or nothing. */
import { describe, expect, it } from 'vitest';
import { emptyCounts } from '../../src/core/ledger-page.ts';
import { measuredRate, nextSamples, type ProgressSample } from '../../src/core/progress-rate.ts';

const NOW = Date.UTC(2030, 0, 1, 12);
/** So many seconds before now. */
const ago = (seconds: number): Date => new Date(NOW - seconds * 1_000);
const sample = (settled: number, seconds: number): ProgressSample => ({ settled, at: ago(seconds) });

describe('the rate', () => {
  it.each<[string, number, ProgressSample[], Date, { perSecond: number; overMs: number } | null]>([
    ['nobody has looked before: since it was opened', 600, [], ago(60), { perSecond: 10, overMs: 60_000 }],
    [
      'since the oldest look',
      600,
      [sample(100, 50), sample(500, 20)],
      ago(900),
      { perSecond: 10, overMs: 50_000 },
    ],
    [
      'a look of exactly five minutes ago counts',
      600,
      [sample(0, 300)],
      ago(900),
      { perSecond: 2, overMs: 300_000 },
    ],
    ['an older one does not', 900, [sample(899, 301)], ago(900), { perSecond: 1, overMs: 900_000 }],
    ['nothing has moved', 100, [sample(100, 60)], ago(900), { perSecond: 0, overMs: 60_000 }],
    ['exactly a second', 5, [], ago(1), { perSecond: 5, overMs: 1_000 }],
    ['it has only just begun', 5, [], ago(0.999), null],
    ['the clock stands before its beginning', 5, [], ago(-10), null],
    ['an order has put settled ones back', 90, [sample(100, 60)], ago(900), null],
  ])('%s', (_what, settled, samples, openedAt, expected) => {
    expect(measuredRate(settled, samples, openedAt, new Date(NOW))).toEqual(expected);
  });
});

describe('the samples that are kept', () => {
  const sum = (sent: number, seconds: number, samples?: ProgressSample[]) => ({
    counts: { ...emptyCounts(), sent, pending: 7, sending: 2, retrying: 1 },
    at: ago(seconds),
    ...(samples === undefined ? {} : { samples }),
  });
  it.each<[string, Parameters<typeof nextSamples>[0], ProgressSample[]]>([
    ['nothing before', undefined, []],
    ['the sum before, of settled ones only', sum(40, 5), [sample(40, 5)]],
    ['ten seconds apart', sum(40, 5, [sample(30, 15)]), [sample(30, 15), sample(40, 5)]],
    ['not one that is nearer', sum(40, 5, [sample(30, 14.9)]), [sample(30, 14.9)]],
    [
      'none that is older than five minutes',
      sum(40, 5, [sample(1, 301), sample(2, 300)]),
      [sample(2, 300), sample(40, 5)],
    ],
    ['nor the sum before, where it is', sum(40, 400), []],
    [
      'six at most, the latest',
      sum(
        7,
        10,
        [6, 5, 4, 3, 2, 1].map((n, index) => sample(index + 1, 10 + 20 * n)),
      ),
      [...[5, 4, 3, 2, 1].map((n, index) => sample(index + 2, 10 + 20 * n)), sample(7, 10)],
    ],
  ])('%s', (_what, before, expected) => {
    expect(nextSamples(before, new Date(NOW))).toEqual(expected);
  });

  it('every settled state counts', () => {
    const counts = { ...emptyCounts(), sent: 1, failed: 2, skipped: 4, unknown: 8 };
    expect(nextSamples({ counts, at: ago(1) }, new Date(NOW))).toEqual([sample(15, 1)]);
  });
});
