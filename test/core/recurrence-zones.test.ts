/**
 * Occurrences in every time zone, against a scan of every minute. `FAULTS=long` compares five years of every zone, which
 * takes a quarter of an hour; `SEED` repeats a run.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  countOccurrences,
  nextOccurrence,
  occurrencesBetween,
  previousOccurrence,
} from '../../src/core/recurrence.ts';
import { stretchAt } from '../../src/core/wall-clock.ts';
import { intlWallTime, piecesOf } from './intl-wall-clock.ts';
import { bruteForce } from './recurrence-oracle.ts';
import { dstRule, type RandomRule, ruleOf, wallRule } from './recurrence-rules.ts';

const long = process.env.FAULTS === 'long';
const timeout = long ? 7_200_000 : 60_000;
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000_000);
const ZONES = Intl.supportedValuesOf('timeZone');
/** Zones with a history: half hours, whole days skipped, moves of the standard time, Ramadan, midnight changes. */
const ODD_ZONES = [
  'Australia/Lord_Howe',
  'Pacific/Chatham',
  'Pacific/Apia',
  'Asia/Pyongyang',
  'Africa/Casablanca',
  'America/Caracas',
  'America/Sao_Paulo',
  'America/St_Johns',
  'Europe/Berlin',
  'America/New_York',
  'Australia/Sydney',
  'America/Santiago',
  'Asia/Beirut',
  'Asia/Gaza',
  'America/Havana',
  'Antarctica/Casey',
  'Antarctica/Troll',
  'America/Nuuk',
  'Europe/Moscow',
  'Pacific/Fongafale',
].filter((zone) => ZONES.includes(zone));
const DAY_MS = 86_400_000;
const YEARS_FROM = Date.UTC(2007, 0, 1);
const YEARS_TO = Date.UTC(2032, 0, 1);

type Dst = { gap: 'shift' | 'skip'; overlap: 'first' | 'last' | 'both' };

function compare(zone: string, random: RandomRule, dst: Dst, fromMs: number, days: number): void {
  const start = new Date(fromMs - 10 * DAY_MS);
  const rule = ruleOf({ ...random.input, timezone: zone, dst, start });
  const toMs = fromMs + days * DAY_MS;
  const belongs = random.belongs(intlWallTime(zone, start.getTime()));
  const slow = bruteForce(zone, belongs, dst, fromMs, toMs);
  const { occurrences } = occurrencesBetween(rule, new Date(fromMs), new Date(toMs), 1_000_000);
  const fast = occurrences.map((at) => at.getTime());
  if (fast.join() === slow.join()) return;
  const iso = (list: number[], other: number[]) =>
    list.filter((at) => !other.includes(at)).map((at) => new Date(at).toISOString());
  expect({ zone, input: rule.pattern, dst, tooMany: iso(fast, slow), missing: iso(slow, fast) }).toEqual({
    zone,
    input: rule.pattern,
    dst,
    tooMany: [],
    missing: [],
  });
}

/** A minute near a change of the offset, or any minute of a zone that has none. */
function nearChange(zone: string, anywhereMs: number): number {
  const { startMs, endMs, offsetMs, offsetBeforeMs, offsetAfterMs } = stretchAt(zone, anywhereMs);
  if (offsetBeforeMs !== offsetMs) return startMs - 5 * DAY_MS;
  return offsetAfterMs !== offsetMs ? endMs - 5 * DAY_MS : anywhereMs;
}

const anywhere = fc.integer({ min: YEARS_FROM / 60_000, max: YEARS_TO / 60_000 }).map((m) => m * 60_000);

test(
  `the same as a scan of every minute around changes of the clock (seed ${seed})`,
  () => {
    const zone = fc.oneof(fc.constantFrom(...ODD_ZONES), fc.constantFrom(...ZONES));
    fc.assert(
      fc.property(zone, wallRule, dstRule, anywhere, (zone, rule, dst, at) => {
        compare(zone, rule, dst, nearChange(zone, at), 12);
      }),
      { seed, numRuns: long ? 5_000 : 250 },
    );
  },
  timeout,
);

test(
  `the same as a scan of every minute over months (seed ${seed})`,
  () => {
    fc.assert(
      fc.property(fc.constantFrom(...ZONES), wallRule, dstRule, anywhere, (zone, rule, dst, at) => {
        compare(zone, rule, dst, at, 120);
      }),
      { seed, numRuns: long ? 500 : 12 },
    );
  },
  timeout,
);

test(`every zone: strictly increasing, the right wall time, and the way back (seed ${seed})`, () => {
  const rules = fc.sample(fc.tuple(wallRule, dstRule, anywhere), { seed, numRuns: ZONES.length });
  for (const [index, zone] of ZONES.entries()) {
    const [random, dst, at] = rules[index] ?? [];
    if (random === undefined || dst === undefined || at === undefined) throw new Error('no rule');
    const fromMs = nearChange(zone, at);
    const start = new Date(fromMs - DAY_MS);
    const rule = ruleOf({ ...random.input, timezone: zone, dst: { ...dst, gap: 'skip' }, start });
    const belongs = random.belongs(intlWallTime(zone, start.getTime()));
    let last = new Date(fromMs);
    for (let steps = 0; steps < 17; steps += 1) {
      const next = nextOccurrence(rule, last);
      if (next === null) throw new Error(`${zone} ended`);
      expect(next.getTime()).toBeGreaterThan(last.getTime());
      expect(belongs(intlWallTime(zone, next.getTime()))).toBe(true);
      if (steps > 0 && steps % 8 === 0) expect(previousOccurrence(rule, next)).toEqual(last);
      last = next;
    }
    const count = countOccurrences(rule, new Date(fromMs + 1), new Date(last.getTime() + 1), 100);
    expect(count).toEqual({ count: 17, atLeast: false });
  }
});

test(
  `the changes of the clock of every zone, against Intl looked at every hour (seed ${seed})`,
  () => {
    const from = Date.UTC(2000 + (seed % 30), 0, 1);
    const years = long ? 5 : 1;
    const zones = long ? ZONES : fc.sample(fc.constantFrom(...ZONES), { seed, numRuns: 15 });
    for (const zone of new Set([...zones, ...ODD_ZONES])) {
      const to = from + years * 365 * DAY_MS;
      const pieces = piecesOf(zone, from, to);
      for (const piece of pieces.slice(1)) expect(stretchAt(zone, piece.startMs).startMs).toBe(piece.startMs);
      for (const piece of pieces) expect(stretchAt(zone, piece.startMs).offsetMs).toBe(piece.offsetMs);
      let changes = 0;
      for (let at = stretchAt(zone, from).endMs; at < to; at = stretchAt(zone, at).endMs) {
        const { offsetMs, offsetBeforeMs, startMs } = stretchAt(zone, at);
        if (startMs === at && offsetMs !== offsetBeforeMs) changes += 1;
      }
      expect([zone, changes]).toEqual([zone, pieces.length - 1]);
    }
  },
  timeout,
);

test.runIf(long)(
  'five years of every zone',
  () => {
    const samples = fc.sample(fc.tuple(wallRule, dstRule), { seed, numRuns: ZONES.length });
    for (const [index, zone] of ZONES.entries()) {
      const [rule, dst] = samples[index] ?? [];
      if (rule !== undefined && dst !== undefined) {
        compare(zone, rule, dst, Date.UTC(2008 + ((seed + index) % 20), 0, 1), 5 * 365);
      }
    }
  },
  timeout,
);
