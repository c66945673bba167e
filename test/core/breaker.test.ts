/** The decisions of the circuit breaker, as tables; and against a reference that knows every send of every worker. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Breaker,
  type BreakerSettings,
  closed,
  type Evidence,
  type HalfOpenBreaker,
  isProbeFree,
  judgeEvidence,
  judgeTrial,
  NEW_BREAKER,
  type OpenBreaker,
  opened,
  openedByHand,
  openForMs,
  PROBE_LEASE_MS,
  probedBy,
  rampLimit,
  reopened,
  reset,
  speaksAgainst,
  type Trial,
} from '../../src/core/breaker.ts';
import { breakerOf, documentOf } from '../../src/core/breaker-document.ts';
import { type HeardFailure, OutcomeWindow } from '../../src/core/breaker-window.ts';

const NOW = 1_800_000_000_000;
const SETTINGS: BreakerSettings = {
  failureRate: 0.5,
  minimumVolume: 20,
  consecutiveFailures: 5,
  windowMs: 60_000,
  openMs: 15_000,
  maxOpenMs: 600_000,
  trialSize: 5,
  rampMs: 10_000,
};

/** `ago` ms: when it was written, its row began, its last success was. */
const seen = (
  counts: Partial<Pick<Evidence, 'succeeded' | 'failed' | 'consecutive' | 'inRow'>>,
  ago: { at?: number; row?: number; success?: number } = {},
): Evidence => ({
  at: NOW - (ago.at ?? 0),
  succeeded: 0,
  failed: counts.inRow ?? counts.consecutive ?? 0,
  consecutive: 0,
  inRow: counts.consecutive ?? 0,
  ...counts,
  ...(ago.row === undefined ? {} : { rowSince: NOW - ago.row }),
  ...(ago.success === undefined ? {} : { succeededAt: NOW - ago.success }),
  detail: 'refused',
});
const sick = (consecutive: number, row = 1_000) => seen({ consecutive }, { row });
const well = (succeeded: number, success: number) => seen({ succeeded }, { success });

describe('the evidence', () => {
  it.each<[string, Evidence[], number, boolean]>([
    ['nothing', [], 1, false],
    ['five failures in a row of the only worker', [sick(5)], 1, true],
    ['four', [sick(4)], 1, false],
    ['five of one worker, of which another hears nothing', [sick(5)], 2, false],
    ['three and two of two workers', [sick(3), sick(2)], 2, true],
    ['three and two of two workers out of twenty', [sick(3), sick(2)], 20, true],
    ['many of one worker, one of another', [sick(50), sick(1)], 3, true],
    ['a success of another worker after the row began', [sick(5), sick(5), well(1, 500)], 3, false],
    ['a success of another worker before', [sick(5), sick(5), well(1, 5_000)], 3, true],
    [
      'half of twenty, two workers',
      [seen({ succeeded: 5, failed: 5 }), seen({ succeeded: 5, failed: 5 })],
      2,
      true,
    ],
    ['half of nineteen', [seen({ succeeded: 5, failed: 5 }), seen({ succeeded: 4, failed: 5 })], 2, false],
    ['nine of twenty', [seen({ succeeded: 5, failed: 5 }), seen({ succeeded: 6, failed: 4 })], 2, false],
    [
      'all of one worker, few of the other',
      [seen({ failed: 500 }), seen({ succeeded: 90, failed: 10 })],
      2,
      false,
    ],
    ['all of one worker, and nobody else has it', [seen({ failed: 20 })], 1, true],
    [
      'twenty for good reasons of theirs in a row',
      [seen({ inRow: 12 }, { row: 900 }), seen({ inRow: 8 }, { row: 900 })],
      2,
      true,
    ],
    [
      'the same after a minute full of successes',
      [
        seen({ succeeded: 5_000, inRow: 12 }, { row: 900, success: 950 }),
        seen({ succeeded: 5_000, inRow: 8 }, { row: 900, success: 950 }),
      ],
      2,
      true,
    ],
    ['a row that is older than the window', [seen({ consecutive: 9 }, { at: 60_000, row: 61_000 })], 1, true],
    [
      'the same, of which a later success is older than the window as well',
      [seen({ consecutive: 9 }, { at: 90_000, row: 95_000 }), seen({}, { at: 80_000, success: 80_000 })],
      2,
      false,
    ],
    ['a rate that is older than the window', [seen({ failed: 500 }, { at: 60_000 })], 1, false],
  ])('%s', (_what, all, workers, opens) => {
    const evidence = Object.fromEntries(all.map((one, index) => [`w${index}`, one]));
    const live = new Set(Array.from({ length: workers }, (_, index) => `w${index}`));
    expect(judgeEvidence(evidence, live, SETTINGS, NOW).opens).toBe(opens);
  });

  it.each<[string, Record<string, Evidence>, string[], boolean]>([
    ['a worker before and after its restart', { gone: sick(5), a: sick(5) }, ['a', 'b'], false],
    ['the same, failing fast', { gone: seen({ failed: 50 }), a: seen({ failed: 50 }) }, ['a', 'b'], false],
    ['the only worker before and after its restart', { gone: sick(4), a: sick(1) }, ['a'], true],
    ['two, and one that was there before', { gone: sick(1), a: sick(2), b: sick(2) }, ['a', 'b'], true],
    [
      'the only worker, and one that is gone for long',
      { gone: seen({ consecutive: 9 }, { at: 60_000, row: 70_000 }), a: sick(1) },
      ['a'],
      false,
    ],
  ])('%s', (_what, evidence, live, opens) => {
    expect(judgeEvidence(evidence, new Set(live), SETTINGS, NOW).opens).toBe(opens);
  });

  it('where nobody alone speaks against the messenger, all together do not', () => {
    const counts = fc.integer({ min: 0, max: 40 });
    const ago = fc.integer({ min: 0, max: 59_000 });
    const one = fc
      .record({
        succeeded: counts,
        failed: counts,
        inRow: fc.constantFrom(0, 0, 0, 1, 7),
        row: ago,
        success: ago,
      })
      .map(({ row, success, inRow, ...rest }) =>
        seen({ ...rest, inRow, consecutive: inRow }, { success, ...(inRow === 0 ? {} : { row }) }),
      );
    fc.assert(
      fc.property(fc.array(one, { maxLength: 5 }), (all) => {
        const evidence = Object.fromEntries(all.map((each, index) => [`w${index}`, each]));
        const verdict = judgeEvidence(evidence, new Set(Object.keys(evidence)), SETTINGS, NOW);
        if (verdict.opens) expect(all.some((each) => speaksAgainst(each, SETTINGS))).toBe(true);
      }),
    );
  });

  it('a few among thousands say nothing', () => {
    const healthy = seen({ succeeded: 5_000, failed: 5 }, { success: 10 });
    expect(speaksAgainst(healthy, SETTINGS)).toBe(false);
  });
});

it('failures in a row open it, however far apart they are; one success is enough to begin anew', () => {
  const gaps = fc.array(
    fc.oneof(fc.integer({ min: 0, max: 1_000 }), fc.integer({ min: 0, max: 7_200_000 })),
    {
      minLength: 1,
      maxLength: 12,
    },
  );
  fc.assert(
    fc.property(gaps, fc.option(fc.nat({ max: 11 }), { nil: -1 }), (all, successAfter) => {
      const window = new OutcomeWindow(SETTINGS.windowMs);
      let now = NOW;
      let inRow = 0;
      for (const [n, gapMs] of all.entries()) {
        now += gapMs;
        window.failed({ at: now, startedAt: now, kind: 'unknown', reason: 'no answer' });
        inRow += 1;
        if (n === successAfter) {
          window.succeeded(now);
          inRow = 0;
        }
      }
      const evidence = { w: window.evidence(now, (at) => at) };
      const isByRow = inRow >= SETTINGS.consecutiveFailures;
      expect(judgeEvidence(evidence, new Set(['w']), SETTINGS, now).opens).toBe(isByRow);
    }),
  );
});

describe('how long it is open', () => {
  it.each([
    [1, 15_000],
    [2, 30_000],
    [6, 480_000],
    [7, 600_000],
    [1_000_000, 600_000],
  ])('the time %i in a row', (openings, ms) => {
    expect(openForMs(openings, SETTINGS, 0)).toBe(ms);
    expect(openForMs(openings, SETTINGS, 1)).toBe(ms * 0.8);
  });

  it('grows when it opens again soon after it closed, and begins anew after a while', () => {
    const first = opened(NEW_BREAKER, 'x', SETTINGS, NOW, 0);
    const again = (afterMs: number) => opened(closed(first, NOW), 'x', SETTINGS, NOW + afterMs, 0).openings;
    expect([first.openings, again(59_999), again(60_000)]).toEqual([1, 2, 1]);
  });
});

describe('the trial', () => {
  const trial = (changes: Partial<Trial>): Trial => ({
    started: 5,
    inFlight: 0,
    failed: 0,
    fatal: false,
    quietMs: 0,
    ...changes,
  });
  it.each<[string, Partial<Trial>, ReturnType<typeof judgeTrial>]>([
    ['nobody to try yet', { started: 0, quietMs: 3_600_000 }, 'go-on'],
    ['one is being tried', { started: 1, inFlight: 1 }, 'go-on'],
    ['some have been sent', { started: 4 }, 'go-on'],
    ['all have been sent', {}, 'passed'],
    ['the last is being tried', { inFlight: 1 }, 'go-on'],
    ['some have been sent, nobody else comes', { started: 2, quietMs: 2_000 }, 'passed'],
    ['two of five had trouble of their own', { failed: 2 }, 'passed'],
    ['three of five', { started: 3, failed: 3 }, 'failed'],
    ['the only one', { started: 1, failed: 1, quietMs: 2_000 }, 'failed'],
    ['half', { started: 2, failed: 1, quietMs: 2_000 }, 'failed'],
    ['the provider failed', { started: 1, failed: 1, fatal: true }, 'failed'],
    ['the provider failed at the last', { failed: 1, fatal: true }, 'failed'],
  ])('%s', (_what, changes, verdict) => {
    expect(judgeTrial(trial(changes), SETTINGS)).toBe(verdict);
  });
});

it('after closing more and more sends are in flight, up to all', () => {
  const most = (capacity: number, ms: number) => rampLimit(capacity, ms, 10_000);
  expect([0, 2_500, 5_000, 7_500, 10_000].map((ms) => most(16, ms))).toEqual([1, 2, 4, 8, Infinity]);
  expect([0, 5_000, 9_999, 10_000].map((ms) => most(1_000_000, ms))).toEqual([1, 32, 1_023, Infinity]);
  expect([most(1, 5_000), rampLimit(16, 0, 0), most(16, -1_000)]).toEqual([1, Infinity, 1]);
});

// ---- transitions ------------------------------------------------------------------------------------------------------

/** What people, workers and time do to a breaker; those that do not fit its state do nothing, as a guard would. */
type Step =
  | { kind: 'trip' | 'probe' | 'probe-fails' | 'probe-passes' | 'open-by-hand' | 'close-by-hand' | 'reset' }
  | { kind: 'pass'; ms: number };
const steps = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc
        .constantFrom('trip', 'probe', 'probe-fails', 'probe-passes')
        .map((kind) => ({ kind }) as Step),
    },
    {
      weight: 1,
      arbitrary: fc.constantFrom('open-by-hand', 'close-by-hand', 'reset').map((kind) => ({ kind }) as Step),
    },
    {
      weight: 4,
      arbitrary: fc
        .oneof(fc.integer({ min: 0, max: 20_000 }), fc.integer({ min: 0, max: 2_000_000 }))
        .map((ms): Step => ({ kind: 'pass', ms })),
    },
  ),
  { maxLength: 60 },
);

/** Says in plain words what should be: the state, how often in a row, and from when on it may be tried. */
class Reference {
  state: Breaker['state'] = 'closed';
  inRow = 0;
  triableFrom = Number.POSITIVE_INFINITY;
  closedAt = Number.NEGATIVE_INFINITY;

  do(step: Step, now: number): void {
    const { openMs, maxOpenMs, windowMs } = SETTINGS;
    const open = (inRow: number): void => {
      this.state = 'open';
      this.inRow = inRow;
      let ms = openMs;
      for (let times = 1; times < inRow && ms < maxOpenMs; times += 1) ms *= 2;
      this.triableFrom = now + Math.min(ms, maxOpenMs);
    };
    const close = (at: number): void => {
      this.state = 'closed';
      this.closedAt = at;
      this.triableFrom = Number.POSITIVE_INFINITY;
    };
    if (step.kind === 'trip' && this.state === 'closed')
      open(now - this.closedAt < windowMs ? this.inRow + 1 : 1);
    if (step.kind === 'probe' && this.state !== 'closed' && now >= this.triableFrom) {
      this.state = 'half_open';
      this.triableFrom = now + PROBE_LEASE_MS; // its prober may be gone
    }
    if (step.kind === 'probe-fails' && this.state === 'half_open') open(this.inRow + 1);
    if (step.kind === 'probe-passes' && this.state === 'half_open') close(now);
    if (step.kind === 'close-by-hand') close(now);
    if (step.kind === 'reset') {
      close(Number.NEGATIVE_INFINITY);
      this.inRow = 0;
    }
    if (step.kind === 'open-by-hand') {
      this.state = 'open';
      this.triableFrom = Number.POSITIVE_INFINITY;
    }
  }
}

function apply(breaker: Breaker, step: Step, now: number): Breaker {
  switch (step.kind) {
    case 'trip':
      return breaker.state === 'closed' ? opened(breaker, 'x', SETTINGS, now, 0) : breaker;
    case 'probe': {
      if (breaker.state === 'closed' || !isProbeFree(breaker, now)) return breaker;
      return probedBy(breaker, { token: `t${breaker.term}`, workerId: 'w' }, now);
    }
    case 'probe-fails':
      return breaker.state === 'half_open' ? reopened(breaker, 'x', SETTINGS, now, 0) : breaker;
    case 'probe-passes':
      return breaker.state === 'half_open' ? closed(breaker, now) : breaker;
    case 'open-by-hand':
      return openedByHand(breaker, { by: 'anna', at: now });
    case 'close-by-hand':
      return closed(breaker, now);
    case 'reset':
      return reset(breaker);
    case 'pass':
      return breaker;
  }
}

it('any sequence: like the reference, with a new term at each transition, and the same from its document', () => {
  fc.assert(
    fc.property(steps, (all) => {
      const reference = new Reference();
      let breaker: Breaker = NEW_BREAKER;
      let now = NOW;
      for (const step of all) {
        if (step.kind === 'pass') now += step.ms;
        const before = breaker;
        breaker = apply(breaker, step, now);
        reference.do(step, now);
        expect(breaker.state).toBe(reference.state);
        expect(breaker.openings).toBe(reference.inRow);
        if (breaker.state !== 'closed') expect(isProbeFree(breaker, now)).toBe(now >= reference.triableFrom);
        expect(breaker.term).toBe(breaker === before ? before.term : before.term + 1);
        expect(breakerOf({ ...documentOf(breaker), _id: 'mail', schemaVersion: 1 }, now)).toEqual(breaker);
      }
    }),
    { numRuns: 300 },
  );
});

describe('a document that somebody edited', () => {
  const open: OpenBreaker = { ...opened(NEW_BREAKER, 'refused', SETTINGS, NOW, 0), evidence: { w: sick(3) } };
  const halfOpen: HalfOpenBreaker = probedBy(open, { token: 't', workerId: 'w' }, NOW);
  const by = documentOf(openedByHand(open, { by: 'anna', reason: 'moving', at: NOW }));
  it.each<[string, Record<string, unknown>]>([
    ['nothing', {}],
    ['a state that is none', { ...documentOf(open), state: 'ajar' }],
    ['a state without what it needs', { ...documentOf(NEW_BREAKER), state: 'open' }],
    ['open without a time', { ...documentOf(open), nextProbeAt: null }],
    ['a time in the far future', { ...documentOf(open), nextProbeAt: new Date('3000-01-01') }],
    ['a time as text', { ...documentOf(open), openedAt: '2026-01-01' }],
    ['a date that is none', { ...documentOf(open), openedAt: new Date(Number.NaN) }],
    ['half open without a probe', { ...documentOf(halfOpen), probe: undefined }],
    [
      'a probe for years',
      { ...documentOf(halfOpen), probe: { ...halfOpen.probe, until: new Date('3000-01-01') } },
    ],
    ['a term that is no number', { ...documentOf(open), term: 'three' }],
    ['a negative term', { ...documentOf(open), term: -1 }],
    ['half an opening', { ...documentOf(open), openings: 0.5 }],
    ['evidence that is a list', { ...documentOf(open), evidence: [] }],
    ['evidence that says nothing', { ...documentOf(open), evidence: { w: 7 } }],
    ['a person who is none', { ...by, manual: 'anna' }],
  ])('%s', (_what, document) => {
    expect(breakerOf(document, NOW)).toBeUndefined();
  });

  it('and what this package writes is none of it', () => {
    for (const breaker of [open, halfOpen, closed(open, NOW), reset(open)]) {
      expect(breakerOf(documentOf(breaker), NOW)).toEqual(breaker);
    }
    expect(breakerOf(by, NOW)).toMatchObject({ manual: { by: 'anna', reason: 'moving', at: NOW } });
  });
});

// ---- what a worker has seen -------------------------------------------------------------------------------------------

const BUCKET_MS = SETTINGS.windowMs / 12;
type Heard = { at: number; tookMs: number; kind: 'sent' | HeardFailure['kind'] };
const heard = fc.array(
  fc.record({
    waitMs: fc.oneof(fc.integer({ min: 0, max: 500 }), fc.integer({ min: 0, max: 30_000 })),
    tookMs: fc.integer({ min: 0, max: 2_000 }),
    kind: fc.constantFrom<Heard['kind']>('sent', 'provider', 'provider', 'transient', 'unknown'),
  }),
  { maxLength: 80 },
);

it('the window of a worker counts what a list of everything counts', () => {
  fc.assert(
    fc.property(heard, fc.integer({ min: 0, max: 100_000 }), (all, restMs) => {
      const window = new OutcomeWindow(SETTINGS.windowMs);
      const list: Heard[] = [];
      let now = 1_000_000;
      for (const { waitMs, tookMs, kind } of all) {
        now += waitMs;
        list.push({ at: now, tookMs, kind });
        if (kind === 'sent') window.succeeded(now);
        else window.failed({ at: now, startedAt: now - tookMs, kind, reason: kind });
      }
      now += restMs;
      const evidence = window.evidence(now, (at) => at);
      const since = (ms: number) => list.filter(({ at }) => at > now - ms);
      const count = (some: Heard[], sent: boolean) =>
        some.filter(({ kind }) => (kind === 'sent') === sent).length;
      // The oldest part of the window goes as a whole.
      for (const [sent, counted] of [
        [true, evidence.succeeded],
        [false, evidence.failed],
      ] as const) {
        expect(counted).toBeLessThanOrEqual(count(since(SETTINGS.windowMs), sent));
        expect(counted).toBeGreaterThanOrEqual(count(since(SETTINGS.windowMs - BUCKET_MS), sent));
      }
      const row = list.slice(list.findLastIndex(({ kind }) => kind === 'sent') + 1);
      let lastOfProvider = Number.NEGATIVE_INFINITY;
      const counting = row.map((one) => {
        const begun = one.at - one.tookMs;
        const counts = one.kind === 'unknown' || (one.kind === 'provider' && begun >= lastOfProvider);
        if (one.kind === 'provider' && counts) lastOfProvider = one.at;
        return { ...one, counts };
      });
      expect(evidence.inRow).toBe(counting.length);
      expect(evidence.consecutive).toBe(counting.filter(({ counts }) => counts).length);
      expect(evidence.rowSince).toBe(counting[0]?.at);
    }),
    { numRuns: 300 },
  );
});

it('a success elsewhere ends the row that began before it', () => {
  const window = new OutcomeWindow(SETTINGS.windowMs);
  for (const at of [1_000, 2_000, 3_000]) window.failed({ at, startedAt: at, kind: 'provider', reason: 'x' });
  window.othersSucceeded(2_000);
  expect(window.evidence(3_000, (at) => at)).toMatchObject({ consecutive: 2, rowSince: 2_000, failed: 3 });
});
