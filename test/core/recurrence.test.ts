/** Occurrences of single rules, by hand: changes of the clock, ends of months, elapsed time, ends of rules. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  countOccurrences,
  jitterOf,
  nextOccurrence,
  occurrenceKey,
  occurrencesBetween,
  preview,
  previousOccurrence,
} from '../../src/core/recurrence.ts';
import type { RecurrenceInput } from '../../src/core/recurrence-rule.ts';
import { CREATED, ruleOf } from './recurrence-rules.ts';

const iso = (dates: readonly Date[]) => dates.map((date) => date.toISOString().replace(':00.000Z', 'Z'));
const after = (input: RecurrenceInput, from: string, count: number) =>
  iso(preview(ruleOf({ start: '1990-01-01T00:00:00Z', ...input }), count, new Date(from)));

describe('changes of the clock', () => {
  const berlin = { timezone: 'Europe/Berlin' };
  test.each<[string, RecurrenceInput, string, string[]]>([
    [
      'a time of day keeps its place on the wall',
      { daily: { at: '09:00' }, ...berlin },
      '2026-03-28T00:00:00Z',
      ['2026-03-28T08:00Z', '2026-03-29T07:00Z', '2026-03-30T07:00Z'],
    ],
    [
      'a missing time is moved by the length of the jump',
      { daily: { at: '02:30' }, ...berlin },
      '2026-03-28T12:00:00Z',
      ['2026-03-29T01:30Z', '2026-03-30T00:30Z'],
    ],
    [
      'a missing time is left out',
      { daily: { at: '02:30' }, dst: { gap: 'skip' }, ...berlin },
      '2026-03-28T12:00:00Z',
      ['2026-03-30T00:30Z'],
    ],
    [
      'a repeated time occurs in the first pass',
      { daily: { at: '02:30' }, ...berlin },
      '2026-10-24T12:00:00Z',
      ['2026-10-25T00:30Z', '2026-10-26T01:30Z'],
    ],
    [
      'a repeated time occurs in the last pass',
      { daily: { at: '02:30' }, dst: { overlap: 'last' }, ...berlin },
      '2026-10-24T12:00:00Z',
      ['2026-10-25T01:30Z', '2026-10-26T01:30Z'],
    ],
    [
      'a repeated time occurs in both passes',
      { daily: { at: '02:30' }, dst: { overlap: 'both' }, ...berlin },
      '2026-10-24T12:00:00Z',
      ['2026-10-25T00:30Z', '2026-10-25T01:30Z', '2026-10-26T01:30Z'],
    ],
    [
      'a rhythm goes on through the repeated hour by default',
      { cron: '*/30 * * * *', ...berlin },
      '2026-10-25T00:00:00Z',
      ['2026-10-25T00:30Z', '2026-10-25T01:00Z', '2026-10-25T01:30Z', '2026-10-25T02:00Z'],
    ],
    [
      'a rhythm goes on through the missing hour, nothing twice',
      { cron: '*/30 * * * *', ...berlin },
      '2026-03-29T00:00:00Z',
      ['2026-03-29T00:30Z', '2026-03-29T01:00Z', '2026-03-29T01:30Z', '2026-03-29T02:00Z'],
    ],
    [
      'named hours occur once even when there are several',
      { cron: '0 1,2,3 * * *', ...berlin },
      '2026-10-24T20:00:00Z',
      ['2026-10-24T23:00Z', '2026-10-25T00:00Z', '2026-10-25T02:00Z'],
    ],
    [
      'half an hour (Lord Howe), forward',
      { daily: { at: '02:15' }, timezone: 'Australia/Lord_Howe' },
      '2026-10-02T20:00:00Z',
      ['2026-10-03T15:45Z', '2026-10-04T15:15Z'],
    ],
    [
      'half an hour (Lord Howe), back',
      { cron: '45 1 * * *', dst: { overlap: 'both' }, timezone: 'Australia/Lord_Howe' },
      '2026-04-04T12:00:00Z',
      ['2026-04-04T14:45Z', '2026-04-04T15:15Z', '2026-04-05T15:15Z'],
    ],
    [
      'Chatham changes at 02:45',
      { daily: { at: '03:00' }, timezone: 'Pacific/Chatham' },
      '2026-09-25T20:00:00Z',
      ['2026-09-26T14:15Z', '2026-09-27T13:15Z'],
    ],
    [
      'Samoa had no 30 December 2011: the shifted one falls on the 31st, which has its own',
      { daily: { at: '09:00' }, timezone: 'Pacific/Apia' },
      '2011-12-29T00:00:00Z',
      ['2011-12-29T19:00Z', '2011-12-30T19:00Z', '2011-12-31T19:00Z'],
    ],
    [
      'Samoa: the 30th alone is moved by a day',
      { cron: '0 9 30 12 *', timezone: 'Pacific/Apia' },
      '2011-01-01T00:00:00Z',
      ['2011-12-30T19:00Z', '2012-12-29T19:00Z'],
    ],
    [
      'North Korea went back half an hour in 2015 and forward in 2018',
      { cron: '45 23 * * *', timezone: 'Asia/Pyongyang' },
      '2018-05-03T00:00:00Z',
      ['2018-05-03T15:15Z', '2018-05-04T15:15Z', '2018-05-05T14:45Z'],
    ],
    [
      'the southern summer (Sydney)',
      { daily: { at: '02:30' }, timezone: 'Australia/Sydney' },
      '2026-10-03T00:00:00Z',
      ['2026-10-03T16:30Z', '2026-10-04T15:30Z'],
    ],
    [
      'a day that begins at 01:00 (Beirut)',
      { daily: { at: '00:00' }, timezone: 'Asia/Beirut' },
      '2026-03-28T00:00:00Z',
      ['2026-03-28T22:00Z', '2026-03-29T21:00Z'],
    ],
    [
      'every day from a start keeps the wall time of the start',
      { every: { days: 1 }, start: '2026-03-28T08:00:00+01:00', ...berlin },
      '2026-03-01T00:00:00Z',
      ['2026-03-28T07:00Z', '2026-03-29T06:00Z', '2026-03-30T06:00Z'],
    ],
    [
      'hours are elapsed time',
      { every: { hours: 12 }, start: '2026-03-28T08:00:00+01:00', ...berlin },
      '2026-03-01T00:00:00Z',
      ['2026-03-28T07:00Z', '2026-03-28T19:00Z', '2026-03-29T07:00Z'],
    ],
  ])('%s', (_, input, from, expected) => {
    expect(after(input, from, expected.length)).toEqual(expected);
  });
});

describe('the calendar', () => {
  test.each<[RecurrenceInput, string, string[]]>([
    [
      { monthly: { on: 31, at: '00:00' } },
      '2026-01-15T00:00:00Z',
      ['2026-01-31T00:00Z', '2026-03-31T00:00Z', '2026-05-31T00:00Z'],
    ],
    [
      { monthly: { on: 29, at: '00:00' } },
      '2026-01-30T00:00:00Z',
      ['2026-03-29T00:00Z', '2026-04-29T00:00Z'],
    ],
    [
      { monthly: { on: 'last', at: '23:59:30' } },
      '2028-01-31T23:59:30Z',
      ['2028-02-29T23:59:30.000Z', '2028-03-31T23:59:30.000Z'],
    ],
    [
      { monthly: { on: { nth: 5, weekday: 'friday' }, at: '12:00' } },
      '2026-01-01T00:00:00Z',
      ['2026-01-30T12:00Z', '2026-05-29T12:00Z'],
    ],
    [
      { monthly: { on: { nth: -1, weekday: 'monday' }, at: '12:00' } },
      '2026-02-01T00:00:00Z',
      ['2026-02-23T12:00Z', '2026-03-30T12:00Z'],
    ],
    [{ cron: '0 0 29 2 *' }, '2096-01-01T00:00:00Z', ['2096-02-29T00:00Z', '2104-02-29T00:00Z']],
    [{ cron: '0 0 L * *' }, '2027-02-01T00:00:00Z', ['2027-02-28T00:00Z', '2027-03-31T00:00Z']],
    [{ cron: '0 9 * * MON#2' }, '2026-01-01T00:00:00Z', ['2026-01-12T09:00Z', '2026-02-09T09:00Z']],
    [{ cron: '30 0 9 * * 1' }, '2026-01-01T00:00:00Z', ['2026-01-05T09:00:30.000Z']],
    [
      { every: { months: 1 }, start: '2028-01-31T10:00:00Z' },
      '2028-01-01T00:00:00Z',
      ['2028-01-31T10:00Z', '2028-02-29T10:00Z', '2028-03-31T10:00Z', '2028-04-30T10:00Z'],
    ],
    [
      { every: { weeks: 2 }, start: '2026-01-01T10:00:00Z' },
      '2026-01-02T00:00:00Z',
      ['2026-01-15T10:00Z', '2026-01-29T10:00Z'],
    ],
    [
      { weekly: { on: ['friday', 'monday'], at: '08:05' } },
      '2026-01-01T00:00:00Z',
      ['2026-01-02T08:05Z', '2026-01-05T08:05Z', '2026-01-09T08:05Z'],
    ],
    [
      { daily: { at: '09:00' }, exclude: { dates: ['2026-12-25'], weekdays: ['saturday', 'sunday'] } },
      '2026-12-24T00:00:00Z',
      ['2026-12-24T09:00Z', '2026-12-28T09:00Z'],
    ],
    [
      // 23:45 on the 28th is missing in Nuuk, and with the shift falls on the excluded 29th.
      { daily: { at: '23:45' }, exclude: { dates: ['2026-03-29'] }, timezone: 'America/Nuuk' },
      '2026-03-27T12:00:00Z',
      ['2026-03-28T01:45Z', '2026-03-31T00:45Z'],
    ],
    [
      { every: { seconds: 1 }, exclude: { weekdays: ['monday'] }, start: '2026-01-04T23:59:59Z' },
      '2026-01-04T00:00:00Z',
      ['2026-01-04T23:59:59.000Z', '2026-01-06T00:00Z', '2026-01-06T00:00:01.000Z'],
    ],
  ])('%j', (input, from, expected) => {
    expect(after(input, from, expected.length)).toEqual(expected);
  });
});

describe('where a rule begins and ends', () => {
  const rule = ruleOf({
    every: { hours: 1 },
    start: '2026-01-01T10:30:00Z',
    end: '2026-01-01T12:30:00Z',
    maxRuns: 2,
  });
  const at = (text: string) => new Date(`2026-01-01T${text}:00Z`);

  test('start and end are inclusive, next and previous strict', () => {
    expect(nextOccurrence(rule, new Date(0))).toEqual(at('10:30'));
    expect(nextOccurrence(rule, at('10:30'))).toEqual(at('11:30'));
    expect(nextOccurrence(rule, at('12:29'))).toEqual(at('12:30'));
    expect(nextOccurrence(rule, at('12:30'))).toBeNull();
    expect(previousOccurrence(rule, at('10:30'))).toBeNull();
    expect(previousOccurrence(rule, at('11:30'))).toEqual(at('10:30'));
    expect(previousOccurrence(rule, at('23:00'))).toEqual(at('12:30'));
  });

  test('a span includes its start and not its end; the preview keeps to maxRuns', () => {
    expect(occurrencesBetween(rule, at('10:30'), at('12:30'), 10)).toEqual({
      occurrences: [at('10:30'), at('11:30')],
      more: false,
    });
    expect(occurrencesBetween(rule, at('10:30'), at('12:30'), 1)).toEqual({
      occurrences: [at('10:30')],
      more: true,
    });
    expect(countOccurrences(rule, at('00:00'), at('23:00'), 10)).toEqual({ count: 3, atLeast: false });
    const walked = ruleOf({ cron: '30 * * * *', start: at('10:30'), end: at('12:30') });
    expect(countOccurrences(walked, at('00:00'), at('23:00'), 2)).toEqual({ count: 2, atLeast: true });
    expect(countOccurrences(walked, at('00:00'), at('23:00'), 3)).toEqual({ count: 3, atLeast: false });
    expect(preview(rule, 10, new Date(0))).toEqual([at('10:30'), at('11:30')]);
  });

  test('a rule without start begins in the second it was made in', () => {
    const made = new Date('2026-05-05T10:00:00.750Z');
    const rule = ruleOf({ every: { minutes: 5 } }, made);
    expect(rule.anchor).toEqual(new Date('2026-05-05T10:00:00Z'));
    expect(nextOccurrence(rule, made)).toEqual(new Date('2026-05-05T10:05:00Z'));
  });

  test('a stored rule is the same rule', () => {
    const stored = structuredClone(ruleOf({ daily: { at: '09:00' }, timezone: 'Asia/Tokyo' }));
    expect(nextOccurrence(stored, CREATED)).toEqual(new Date('2026-01-02T00:00:00Z'));
    expect(occurrenceKey(new Date('2026-01-02T00:00:00Z'))).toBe('2026-01-02T00:00:00.000Z');
  });

  test('the last years do not loop', () => {
    const rule = ruleOf({ daily: { at: '09:00' }, timezone: 'Europe/Berlin' });
    expect(nextOccurrence(rule, new Date('2999-12-31T23:59:59Z'))).toBeNull();
    expect(nextOccurrence(rule, new Date(8.64e15))).toBeNull();
    expect(previousOccurrence(rule, new Date(8.64e15))).toEqual(new Date('2999-12-31T08:00:00Z'));
  });
});

test('counting and going back over five years of seconds takes no million steps', () => {
  const rule = ruleOf({ cron: '* * * * * *', start: '2020-01-01T00:00:00Z' });
  const now = new Date('2025-01-01T00:00:00.500Z');
  expect(previousOccurrence(rule, now)).toEqual(new Date('2025-01-01T00:00:00Z'));
  expect(countOccurrences(rule, rule.anchor, now, 1_000)).toEqual({ count: 1_000, atLeast: true });
  const elapsed = ruleOf({ every: { seconds: 1 }, start: '2020-01-01T00:00:00Z' });
  expect(countOccurrences(elapsed, rule.anchor, now, 1e9).count).toBe(1827 * 86_400 + 1);
});

test('the jitter depends on the key alone, within its bound, and spreads', () => {
  const rule = ruleOf({ daily: { at: '09:00' }, jitterMs: 600_000 });
  const tenths = new Set<number>();
  fc.assert(
    fc.property(fc.stringMatching(/^[0-9a-f]{24}$/), (key) => {
      const jitter = jitterOf(rule, key);
      tenths.add(Math.floor(jitter / 60_001));
      return jitter >= 0 && jitter <= 600_000 && jitter === jitterOf({ ...rule }, key);
    }),
    { numRuns: 500 },
  );
  expect(tenths.size).toBe(10);
  expect(jitterOf(ruleOf({ daily: { at: '09:00' } }), 'any')).toBe(0);
});

test('elapsed rules: arithmetic and walking agree', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('seconds', 'minutes', 'hours'),
      fc.integer({ min: 1, max: 5_000 }),
      fc.integer({ min: 0, max: 5_000_000_000 }),
      (unit, count, spanMs) => {
        const rule = ruleOf({ every: { [unit]: count }, start: CREATED });
        const stepMs = count * { seconds: 1_000, minutes: 60_000, hours: 3_600_000 }[unit as 'hours'];
        const to = new Date(CREATED.getTime() + spanMs);
        const expected = Math.floor(spanMs / stepMs);
        expect(previousOccurrence(rule, new Date(to.getTime() + 1))?.getTime()).toBe(
          CREATED.getTime() + expected * stepMs,
        );
        expect(nextOccurrence(rule, to)?.getTime()).toBe(CREATED.getTime() + (expected + 1) * stepMs);
        expect(countOccurrences(rule, CREATED, new Date(to.getTime() + 1), 1e10).count).toBe(expected + 1);
      },
    ),
    { numRuns: 200 },
  );
});
