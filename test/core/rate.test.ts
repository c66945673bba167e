/** How fast may be sent: what a person may give, and what a shared bucket grants to many at once. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  AHEAD_MS,
  BLOCK_LIFE_MS,
  type Bucket,
  blockTokens,
  bucketAt,
  checkRate,
  highestLevel,
  LATE_MS,
  lowestLevel,
  putBack,
  type Rate,
  restMsOf,
  spacingMs,
  takeBlock,
  tokensPerMs,
} from '../../src/core/rate.ts';

const NOW = Date.UTC(2026, 0, 1);

describe('checkRate', () => {
  test.each<[Rate, number]>([
    [{ perSecond: 100 }, 10],
    [{ perSecond: 0.5 }, 2_000],
    [{ perMinute: 1 }, 60_000],
    [{ perHour: 60 }, 60_000],
    [{ perDay: 1 }, 86_400_000],
    [{ perSecond: 1_000_000 }, 0.001],
    [{ perDay: 1 / 366 }, 366 * 86_400_000],
  ])('%j: one every %d ms', (rate, spacing) => {
    expect(checkRate(rate)).toEqual({ rate });
    expect(spacingMs(rate)).toBeCloseTo(spacing, 6);
    expect(tokensPerMs(rate) * spacingMs(rate)).toBeCloseTo(1, 12);
  });

  const units = 'perSecond, perMinute, perHour, perDay';
  test.each<[unknown, string, string]>([
    [
      { perSecond: 0 },
      'rate.perSecond',
      'Expected `rate.perSecond` to be a positive number, got `0` (number)',
    ],
    [{ perHour: -1 }, 'rate.perHour', 'Expected `rate.perHour` to be a positive number, got `-1` (number)'],
    [
      { perDay: Number.NaN },
      'rate.perDay',
      'Expected `rate.perDay` to be a positive number, got `NaN` (number)',
    ],
    [
      { perDay: Number.POSITIVE_INFINITY },
      'rate.perDay',
      'Expected `rate.perDay` to be a positive number, got `Infinity` (number)',
    ],
    [
      { perMinute: '5' },
      'rate.perMinute',
      'Expected `rate.perMinute` to be a positive number, got `5` (string)',
    ],
    [
      { perSecond: 2e6 },
      'rate.perSecond',
      'Expected `rate.perSecond` to be at most a million a second, got `2000000` (number)',
    ],
    [
      { perDay: 0.001 },
      'rate.perDay',
      'Expected `rate.perDay` to be at least one a year, got `0.001` (number)',
    ],
    [5, 'rate', `Expected \`rate\` to be an object with one of ${units}, got \`5\` (number)`],
    [undefined, 'rate', `Expected \`rate\` to be an object with one of ${units}, got nothing`],
    [{}, 'rate', `Expected \`rate\` to have exactly one of ${units}, got none of them`],
    [{ perWeek: 5 }, 'rate', `Expected \`rate\` to have exactly one of ${units}, got \`perWeek\``],
    [
      { perSecond: 1, perDay: 2 },
      'rate',
      `Expected \`rate\` to have exactly one of ${units}, got \`perSecond\` and \`perDay\``,
    ],
  ])('%j is refused', (input, path, message) => {
    expect(checkRate(input)).toEqual({ problem: { path, message } });
  });

  test('a value that is not given does not count, and the path is the caller’s', () => {
    expect(checkRate({ perSecond: 5, perDay: undefined })).toEqual({ rate: { perSecond: 5 } });
    expect(checkRate(0, 'messengers.email.rate').problem?.path).toBe('messengers.email.rate');
  });
});

describe('takeBlock', () => {
  const fast: Rate = { perSecond: 100 };
  const slow: Rate = { perMinute: 1 };

  test('blocks follow each other without a gap, and are refused when they would be too far ahead', () => {
    const first = takeBlock(undefined, fast, NOW, 1_000);
    expect(first.grant).toEqual({ granted: 25, firstInMs: 0, waitMs: 0, blockedForMs: 0 });
    const second = takeBlock(first.bucket, fast, NOW, 1_000);
    expect(second.grant).toMatchObject({ granted: 25, firstInMs: AHEAD_MS });
    const third = takeBlock(second.bucket, fast, NOW, 1_000);
    expect(third.grant).toMatchObject({ granted: 0, waitMs: 250 });
    expect(takeBlock(third.bucket, fast, NOW + 249, 1).grant.granted).toBe(0);
    expect(takeBlock(third.bucket, fast, NOW + 250, 1).grant).toMatchObject({ granted: 1, firstInMs: 250 });
  });

  test('an hour without questions gives no more than a quarter of a second', () => {
    const { bucket } = takeBlock(undefined, fast, NOW, 1);
    const later = takeBlock(bucket, fast, NOW + 3_600_000, 1_000);
    expect(later.grant.firstInMs).toBeCloseTo(-LATE_MS, 6);
    expect(later.grant.granted).toBe(25);
  });

  test('one a minute: one token, and the next a minute after the last moment at which it could be used', () => {
    const first = takeBlock(undefined, slow, NOW, 10);
    expect(first.grant).toMatchObject({ granted: 1, firstInMs: 0 });
    const refused = takeBlock(first.bucket, slow, NOW + 1_000, 1);
    expect(refused.grant.granted).toBe(0);
    expect(refused.grant.waitMs).toBeCloseTo(60_000 - AHEAD_MS, 6);
    const next = takeBlock(first.bucket, slow, NOW + 61_000, 1);
    expect(next.grant.granted).toBe(1);
    expect(next.grant.firstInMs).toBeCloseTo(0, 6);
    expect(takeBlock(first.bucket, slow, NOW + 86_400_000, 1).grant.firstInMs).toBeCloseTo(0, 6);
  });

  test('a rest refuses everything until it is over, and no tokens add up in it', () => {
    const resting: Bucket = { tokens: 0, at: NOW, blockedUntil: NOW + 5_000 };
    const refused = takeBlock(resting, fast, NOW + 1_000, 10);
    expect(refused.grant).toMatchObject({ granted: 0, waitMs: 4_000, blockedForMs: 4_000 });
    const after = takeBlock(refused.bucket, fast, NOW + 5_000, 100);
    expect(after.grant.granted).toBe(25);
    expect(after.grant.firstInMs).toBeGreaterThanOrEqual(-LATE_MS - 1e-6);
  });

  test('a new rate counts at once, in both directions', () => {
    const waiting = takeBlock(undefined, { perDay: 1 }, NOW, 1).bucket;
    expect(takeBlock(waiting, fast, NOW + 10, 25).grant.granted).toBe(25);
    const ahead = takeBlock(takeBlock(undefined, fast, NOW, 25).bucket, fast, NOW, 25).bucket;
    const { grant } = takeBlock(ahead, slow, NOW, 1);
    expect(grant.granted).toBe(0);
    expect(grant.waitMs).toBeLessThan(62_000);
  });

  test('a server’s clock that was set back stops nobody for longer than a block, or a token', () => {
    const { bucket } = takeBlock(undefined, fast, NOW, 25);
    const back = NOW - 3_600_000;
    expect(takeBlock(bucket, fast, back, 1).bucket.at).toBe(back);
    expect(takeBlock(bucket, fast, back, 25).grant.granted).toBe(25);
    expect(takeBlock(takeBlock(undefined, slow, NOW, 1).bucket, slow, back, 1).grant.waitMs).toBeLessThan(
      62_000,
    );
    // Two operations that overtook each other are no clock that was set.
    expect(takeBlock(bucket, fast, NOW - 5, 1).bucket.at).toBe(NOW);
    expect(takeBlock(bucket, fast, NOW - 5, 1).grant.firstInMs).toBe(255);
  });
});

interface Step {
  readonly gapMs: number;
  readonly wanted: number;
  readonly lateMs: number;
  /** Part of the block that is used; the rest is returned at once. */
  readonly keep: number;
}

const stepsWith = (lateMs: number, keep: number): fc.Arbitrary<Step[]> =>
  fc.array(
    fc.record({
      gapMs: fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 20_000 })),
      wanted: fc.integer({ min: 1, max: 2_000 }),
      lateMs: fc.integer({ min: 0, max: lateMs }),
      keep: fc.integer({ min: keep * 100, max: 100 }).map((percent) => percent / 100),
    }),
    { minLength: 1, maxLength: 60 },
  );
const anyRate: fc.Arbitrary<Rate> = fc.oneof(
  fc.record({ perSecond: fc.double({ min: 0.05, max: 300, noNaN: true }) }),
  fc.record({ perMinute: fc.integer({ min: 1, max: 300 }) }),
);

/** When the tokens are used by takers that come one after another, each late by its own time. */
function usesOf(rate: Rate, steps: readonly Step[]): number[] {
  const uses: number[] = [];
  let bucket: Bucket | undefined;
  let now = NOW;
  for (const { gapMs, wanted, lateMs, keep } of steps) {
    now += gapMs;
    const taken = takeBlock(bucket, rate, now, wanted);
    bucket = taken.bucket;
    const { granted, firstInMs } = taken.grant;
    const kept = Math.ceil(granted * keep);
    const endsAt = now + BLOCK_LIFE_MS + Math.min(0, firstInMs);
    for (let k = 0; k < kept; k += 1) {
      const point = now + firstInMs + k * spacingMs(rate);
      const at = Math.max(now, point + lateMs);
      if (at < endsAt) uses.push(at);
    }
    if (kept < granted) bucket = putBack(bucket, rate, now, granted - kept);
  }
  return uses.sort((a, b) => a - b);
}

/** How far the fullest window, of any length, is above rate × its length. */
function mostAbove(rate: Rate, uses: readonly number[]): number {
  let above = 0;
  for (let from = 0; from < uses.length; from += 1) {
    for (let to = from; to < uses.length; to += 1) {
      const lengthMs = (uses[to] ?? 0) - (uses[from] ?? 0);
      above = Math.max(above, to - from + 1 - tokensPerMs(rate) * lengthMs);
    }
  }
  return above;
}

describe('whatever many takers do', () => {
  test('no window has more than rate × its length and one second’s tokens more', () => {
    fc.assert(
      fc.property(anyRate, stepsWith(999, 1), (rate, steps) => {
        const uses = usesOf(rate, steps).slice(0, 600);
        expect(mostAbove(rate, uses)).toBeLessThanOrEqual(tokensPerMs(rate) * 1_000 + 1 + 1e-6);
      }),
      { numRuns: 60 },
    );
  });

  test('nor when tokens are returned and the others are used within half a second of their points', () => {
    fc.assert(
      fc.property(anyRate, stepsWith(500, 0), (rate, steps) => {
        const uses = usesOf(rate, steps).slice(0, 600);
        expect(mostAbove(rate, uses)).toBeLessThanOrEqual(tokensPerMs(rate) * 1_000 + 1 + 1e-6);
      }),
      { numRuns: 60 },
    );
  });

  test('at one a minute and slower, two sends are never closer than their distance', () => {
    const slow: fc.Arbitrary<Rate> = fc.oneof(
      fc.record({ perMinute: fc.double({ min: 0.1, max: 1, noNaN: true }) }),
      fc.record({ perHour: fc.integer({ min: 1, max: 60 }) }),
    );
    fc.assert(
      fc.property(slow, stepsWith(999, 0), (rate, steps) => {
        const uses = usesOf(rate, steps);
        for (const [position, at] of uses.entries()) {
          const before = uses[position - 1] ?? Number.NEGATIVE_INFINITY;
          expect(at - before).toBeGreaterThanOrEqual(spacingMs(rate) - 1e-6);
        }
      }),
    );
  });

  test('the level stays within its bounds, and returning gives back exactly what was taken or less', () => {
    fc.assert(
      fc.property(anyRate, stepsWith(0, 0), (rate, steps) => {
        let bucket: Bucket = { tokens: 0, at: NOW, blockedUntil: 0 };
        let now = NOW;
        for (const { gapMs, wanted, keep } of steps) {
          now += gapMs;
          const before = bucketAt(bucket, rate, now);
          const { bucket: after, grant } = takeBlock(bucket, rate, now, wanted);
          expect(after.tokens).toBeGreaterThanOrEqual(lowestLevel(rate) - 1e-9);
          expect(grant.granted).toBeLessThanOrEqual(blockTokens(rate));
          expect(putBack(after, rate, now, grant.granted).tokens).toBeCloseTo(before.tokens, 9);
          bucket = putBack(after, rate, now, Math.floor(grant.granted * keep));
          expect(bucket.tokens).toBeLessThanOrEqual(highestLevel(rate));
        }
      }),
    );
  });

  test('takers that ask when told to lose nothing: the rate is kept exactly', () => {
    const rate: Rate = { perSecond: 100 };
    let bucket: Bucket | undefined;
    let granted = 0;
    for (let now = NOW; now < NOW + 30_000; now += 40) {
      const taken = takeBlock(bucket, rate, now, 1_000);
      bucket = taken.bucket;
      granted += taken.grant.granted;
    }
    expect(granted).toBeGreaterThanOrEqual(3_000);
    expect(granted).toBeLessThanOrEqual(3_050);
  });
});

test.each<[Parameters<typeof restMsOf>[0], number | undefined]>([
  [{ kind: 'provider', code: '429' }, 2_000],
  [{ kind: 'provider', code: '421' }, 2_000],
  [{ kind: 'provider', code: '429', retryAfterMs: 30_000.2 }, 30_001],
  [{ kind: 'provider', code: '503', retryAfterMs: 10_000 }, 10_000],
  [{ kind: 'provider', retryAfterMs: 10 * 86_400_000 }, 86_400_000],
  [{ kind: 'provider', code: 'ECONNREFUSED' }, undefined],
  [{ kind: 'provider', code: '503' }, undefined],
  [{ kind: 'transient', code: '450', retryAfterMs: 60_000 }, undefined],
  [{ kind: 'sent' }, undefined],
])('restMsOf(%j) is %s', (outcome, ms) => {
  expect(restMsOf(outcome, 2_000)).toBe(ms);
});
