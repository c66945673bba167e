/** What the alarm of a recurring campaign does: on time, late, far too late, with runs open, and over a simulated life. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decideOccurrences,
  MAX_COUNTED,
  MAX_QUEUED_RUNS,
  type OccurrencePlan,
  type RecurringSituation,
} from '../../src/core/misfire.ts';
import { jitterOf, nextOccurrence, occurrencesBetween } from '../../src/core/recurrence.ts';
import type { Recurrence, RecurrenceInput } from '../../src/core/recurrence-rule.ts';
import { ruleOf } from './recurrence-rules.ts';

const HOUR_MS = 3_600_000;
const at = (text: string) => new Date(`2026-01-01T${text}Z`);
const hourly = (more: Partial<RecurrenceInput> = {}) =>
  ruleOf({ cron: '0 * * * *', start: '2026-01-01T00:00:00Z', ...more });

function decide(
  rule: Recurrence,
  now: string | Date,
  more: Partial<RecurringSituation> = {},
): OccurrencePlan {
  return decideOccurrences({
    rule,
    lastNominal: at('09:00:00'),
    nextNominal: at('10:00:00'),
    now: typeof now === 'string' ? at(now) : now,
    openRuns: 0,
    queuedRuns: 0,
    runsSoFar: 9,
    jitterKey: 'campaign',
    ...more,
  });
}

/** `open 10:00 late 5 missed 3, skipped coalesced 07:00-09:00 x3, next 11:00`. */
function words(plan: OccurrencePlan): string {
  const time = (date: Date) => date.toISOString().slice(11, 16);
  if (plan.action === 'ended') return 'ended';
  const next = plan.next === null ? 'ended' : `next ${time(plan.next.nominal)}`;
  if (plan.action === 'wait') return `wait ${plan.until}, ${next}`;
  const skipped = plan.skipped.map(
    ({ reason, first, last, count, atLeast }) =>
      `${reason} ${time(first)}-${time(last)} x${count}${atLeast ? '+' : ''}`,
  );
  if (plan.action === 'skip') return ['skip', ...skipped, next].join(', ');
  const { nominal, lateMs, missed, queued } = plan.open;
  const run = `open ${time(nominal)} late ${lateMs / 1_000}${missed > 0 ? ` missed ${missed}` : ''}`;
  expect(plan.lastNominal).toEqual(nominal);
  return [run + (queued ? ' queued' : ''), ...skipped, next].join(', ');
}

const skipBusy = { openRuns: 1 };

describe('one ringing of an hourly rule', () => {
  test.each<[string, Partial<RecurrenceInput>, string, Partial<RecurringSituation>, string]>([
    ['too early', {}, '09:59:59', {}, 'wait due, next 10:00'],
    ['to the second', {}, '10:00:00', {}, 'open 10:00 late 0, next 11:00'],
    ['a little late is no misfire', { misfire: 'skip' }, '10:01:00', {}, 'open 10:00 late 60, next 11:00'],
    ['late, alone', {}, '10:20:00', {}, 'open 10:00 late 1200, next 11:00'],
    [
      'late, alone, not to be run late',
      { misfire: 'skip' },
      '10:20:00',
      {},
      'skip, missed 10:00-10:00 x1, next 11:00',
    ],
    [
      'three missed run once',
      {},
      '12:20:00',
      {},
      'open 12:00 late 1200 missed 2, coalesced 10:00-11:00 x2, next 13:00',
    ],
    [
      'three missed, none runs',
      { misfire: 'skip' },
      '12:20:00',
      {},
      'skip, missed 10:00-12:00 x3, next 13:00',
    ],
    [
      'two missed, the third on time',
      { misfire: 'skip' },
      '12:00:30',
      {},
      'open 12:00 late 30, missed 10:00-11:00 x2, next 13:00',
    ],
    ['three missed, each runs', { misfire: 'all' }, '12:20:00', {}, 'open 10:00 late 8400, next 11:00'],
    [
      'the window: too late to run once',
      { misfireWindowMs: 600_000 },
      '12:20:00',
      {},
      'skip, too-late 10:00-12:00 x3, next 13:00',
    ],
    [
      'the window: the latest is within',
      { misfireWindowMs: 1_200_000 },
      '12:20:00',
      {},
      'open 12:00 late 1200 missed 2, coalesced 10:00-11:00 x2, next 13:00',
    ],
    [
      'the window: all of the last hour and a half',
      { misfire: 'all', misfireWindowMs: 1.5 * HOUR_MS },
      '12:20:00',
      {},
      'open 11:00 late 4800, too-late 10:00-10:00 x1, next 12:00',
    ],
    [
      'the window is never shorter than on time',
      { misfire: 'all', misfireWindowMs: 0 },
      '10:00:59',
      {},
      'open 10:00 late 59, next 11:00',
    ],
    ['busy', {}, '10:00:01', skipBusy, 'skip, overlap 10:00-10:00 x1, next 11:00'],
    ['busy, missed', {}, '12:20:00', skipBusy, 'skip, overlap 10:00-12:00 x3, next 13:00'],
    ['busy, catching up waits', { misfire: 'all' }, '12:20:00', skipBusy, 'wait run-closed, next 10:00'],
    [
      'busy, catching up first records what is too late',
      { misfire: 'all', misfireWindowMs: 1.5 * HOUR_MS },
      '12:20:00',
      skipBusy,
      'skip, too-late 10:00-10:00 x1, next 11:00',
    ],
    [
      'busy, on time, even when all missed ones run',
      { misfire: 'all' },
      '10:00:01',
      skipBusy,
      'skip, overlap 10:00-10:00 x1, next 11:00',
    ],
    ['queued', { overlap: 'queue' }, '10:00:01', skipBusy, 'open 10:00 late 1 queued, next 11:00'],
    [
      'queued, missed',
      { overlap: 'queue' },
      '11:20:00',
      skipBusy,
      'open 11:00 late 1200 missed 1 queued, coalesced 10:00-10:00 x1, next 12:00',
    ],
    [
      'one waits already',
      { overlap: 'queue' },
      '10:00:01',
      { openRuns: 2, queuedRuns: 1 },
      'skip, overlap 10:00-10:00 x1, next 11:00',
    ],
    [
      'one waits already, and more were missed',
      { overlap: 'queue' },
      '12:20:00',
      { openRuns: 2, queuedRuns: 1 },
      'skip, overlap 10:00-12:00 x3, next 13:00',
    ],
    [
      'one waits already, what is late is not to run anyhow',
      { overlap: 'queue', misfire: 'skip' },
      '12:00:30',
      { openRuns: 2, queuedRuns: 1 },
      'skip, missed 10:00-11:00 x2, overlap 12:00-12:00 x1, next 13:00',
    ],
    [
      'many wait where all are wanted',
      { overlap: 'queue', misfire: 'all' },
      '10:00:01',
      { openRuns: MAX_QUEUED_RUNS, queuedRuns: MAX_QUEUED_RUNS - 1 },
      'open 10:00 late 1 queued, next 11:00',
    ],
    [
      'the queue is full',
      { overlap: 'queue', misfire: 'all' },
      '10:00:01',
      { openRuns: MAX_QUEUED_RUNS + 1, queuedRuns: MAX_QUEUED_RUNS },
      'skip, queue-full 10:00-10:00 x1, next 11:00',
    ],
    [
      'the queue is full while catching up',
      { overlap: 'queue', misfire: 'all' },
      '12:20:00',
      { openRuns: MAX_QUEUED_RUNS + 1, queuedRuns: MAX_QUEUED_RUNS },
      'wait run-closed, next 10:00',
    ],
    ['the last of maxRuns', { maxRuns: 10 }, '10:00:00', {}, 'open 10:00 late 0, ended'],
    ['after maxRuns', { maxRuns: 9 }, '10:00:00', {}, 'ended'],
    ['the last before the end', { end: '2026-01-01T10:59:00Z' }, '10:00:00', {}, 'open 10:00 late 0, ended'],
    [
      'the end came while nobody looked',
      { misfire: 'skip', end: '2026-01-01T11:00:00Z' },
      '15:00:00',
      {},
      'skip, missed 10:00-11:00 x2, ended',
    ],
    ['after the end', { end: '2026-01-01T09:00:00Z' }, '15:00:00', { nextNominal: null }, 'ended'],
    ['nobody set an alarm', {}, '10:00:00', { nextNominal: null }, 'open 10:00 late 0, next 11:00'],
    ['the alarm is behind', {}, '10:00:00', { nextNominal: at('09:00:00') }, 'open 10:00 late 0, next 11:00'],
    [
      'a new rule begins with its start',
      {},
      '00:00:05',
      { lastNominal: null, nextNominal: null, runsSoFar: 0 },
      'open 00:00 late 5, next 01:00',
    ],
    [
      'a changed rule never fires the past',
      {},
      '12:20:00',
      { lastNominal: at('12:20:00'), nextNominal: null },
      'wait due, next 13:00',
    ],
    [
      'the clock went back',
      {},
      '08:00:00',
      { lastNominal: at('09:00:00'), nextNominal: null },
      'wait due, next 10:00',
    ],
  ])('%s', (_, input, now, more, expected) => {
    expect(words(decide(hourly(input), now, more))).toBe(expected);
  });
});

test('the jitter delays the ringing and is no lateness; the nominal instant stays', () => {
  const rule = hourly({ jitterMs: 1_800_000, misfire: 'skip' });
  const jitterMs = jitterOf(rule, 'campaign');
  expect(jitterMs).toBeGreaterThan(60_000);
  const due = new Date(at('10:00:00').getTime() + jitterMs);
  expect(decide(rule, new Date(due.getTime() - 1))).toEqual({
    action: 'wait',
    until: 'due',
    next: { nominal: at('10:00:00'), ringAt: due },
  });
  expect(decide(rule, due)).toMatchObject({
    action: 'open',
    open: { nominal: at('10:00:00'), lateMs: 0 },
    next: { nominal: at('11:00:00'), ringAt: new Date(due.getTime() + HOUR_MS) },
  });
});

describe('five years of missed seconds are bounded', () => {
  const now = new Date('2031-01-01T00:00:00.500Z');
  const since = { lastNominal: new Date('2026-01-01T00:00:00Z'), nextNominal: null };
  test.each(['once', 'skip', 'all'] as const)('%s', (misfire) => {
    const rule = ruleOf({
      cron: '* * * * * *',
      start: '2026-01-01T00:00:00Z',
      timezone: 'Europe/Berlin',
      misfire,
      misfireWindowMs: HOUR_MS,
    });
    const plan = decide(rule, now, since);
    if (plan.action !== 'open') throw new Error(plan.action);
    const lateMs = { once: 500, skip: 59_500, all: HOUR_MS - 500 }[misfire];
    expect(plan.open.lateMs).toBe(lateMs);
    expect(plan.skipped).toMatchObject([{ first: at('00:00:01'), count: MAX_COUNTED, atLeast: true }]);
    expect(plan.open.missedAtLeast).toBe(misfire === 'once');
  });

  test('elapsed rules are counted exactly', () => {
    const rule = ruleOf({ every: { minutes: 1_000 }, start: '2026-01-01T00:00:00Z' });
    const plan = decide(rule, now, since);
    const counted = Math.floor((now.getTime() - at('00:00:00').getTime()) / 60_000_000) - 1;
    expect(plan).toMatchObject({ action: 'open', open: { missed: counted, missedAtLeast: false } });
  });
});

test('over a life of ringings: every occurrence is opened or skipped, once, in order, whatever happens', () => {
  const scenario = fc.record({
    input: fc.record({
      cron: fc.constantFrom('* * * * *', '*/20 * * * * *', '*/7 * * * *', '0 * * * *', '30 2 * * *'),
      timezone: fc.constantFrom('UTC', 'Europe/Berlin', 'Australia/Lord_Howe'),
      misfire: fc.constantFrom('once' as const, 'skip' as const, 'all' as const),
      misfireWindowMs: fc.constantFrom(undefined, 0, 600_000, 6 * HOUR_MS),
      overlap: fc.constantFrom('skip' as const, 'queue' as const),
      maxRuns: fc.constantFrom(undefined, 1, 20),
      jitterMs: fc.constantFrom(0, 90_000),
      exclude: fc.constantFrom(undefined, { weekdays: ['saturday' as const] }),
    }),
    start: fc.constantFrom('2026-03-28T20:00:00Z', '2026-10-24T20:00:00Z', '2026-04-03T20:00:00Z'),
    // Gaps between ringings beyond the time the alarm was set to, and how many runs are closed before each.
    rings: fc.array(
      fc.record({
        lateMs: fc.oneof(
          fc.constant(0),
          fc.integer({ min: 0, max: 30_000 }),
          fc.integer({ min: 0, max: 40 * HOUR_MS }),
        ),
        closed: fc.integer({ min: 0, max: 3 }),
      }),
      { minLength: 1, maxLength: 40 },
    ),
  });
  fc.assert(
    fc.property(scenario, ({ input, start, rings }) => {
      const rule = ruleOf({ ...input, start });
      const opened: number[] = [];
      const jitterMs = jitterOf(rule, 'c');
      let accounted = 0;
      let lastNominal: Date | null = null;
      let nextNominal: Date | null = nextOccurrence(rule, new Date(rule.anchor.getTime() - 1));
      let ringAt = rule.anchor.getTime();
      let openRuns = 0;
      for (const { lateMs, closed } of rings) {
        const now = new Date(ringAt + lateMs);
        openRuns = Math.max(0, openRuns - closed);
        const queuedRuns = Math.max(0, openRuns - 1);
        const situation = { rule, lastNominal, nextNominal, now, openRuns, queuedRuns };
        const plan = decideOccurrences({ ...situation, runsSoFar: opened.length, jitterKey: 'c' });
        expect(decideOccurrences({ ...situation, runsSoFar: opened.length, jitterKey: 'c' })).toEqual(plan);
        if (plan.action === 'ended') break;
        if (plan.action === 'wait') {
          expect(plan.until === 'due' ? now < plan.next.ringAt : openRuns > 0).toBe(true);
          ringAt = Math.max(now.getTime(), plan.next.ringAt.getTime());
          continue;
        }
        for (const { first, last, count, atLeast } of plan.skipped) {
          if (lastNominal !== null) expect(first.getTime()).toBeGreaterThan(lastNominal.getTime());
          expect(last.getTime()).toBeGreaterThanOrEqual(first.getTime());
          const since = new Date(last.getTime() + 1);
          const exact = occurrencesBetween(rule, first, since, 1_000_000).occurrences.length;
          expect(count).toBe(atLeast ? MAX_COUNTED : exact);
          accounted += exact;
          lastNominal = last;
        }
        if (plan.action === 'open') {
          const { nominal, lateMs } = plan.open;
          if (lastNominal !== null) expect(nominal.getTime()).toBeGreaterThan(lastNominal.getTime());
          expect(nominal.getTime() + jitterMs).toBeLessThanOrEqual(now.getTime());
          if (rule.misfire === 'skip') expect(lateMs).toBeLessThanOrEqual(60_000);
          opened.push(nominal.getTime());
          accounted += 1;
          openRuns += 1;
        }
        expect(plan.lastNominal.getTime()).toBeLessThanOrEqual(now.getTime());
        lastNominal = plan.lastNominal;
        nextNominal = plan.next?.nominal ?? null;
        const since = new Date(lastNominal.getTime() + 1);
        expect(occurrencesBetween(rule, rule.anchor, since, 1_000_000).occurrences.length).toBe(accounted);
        if (plan.next === null) {
          expect(opened.length).toBe(rule.maxRuns);
          break;
        }
        expect(nextNominal).toEqual(nextOccurrence(rule, lastNominal));
        ringAt = Math.max(now.getTime(), plan.next.ringAt.getTime());
      }
    }),
    { numRuns: 60 },
  );
});
