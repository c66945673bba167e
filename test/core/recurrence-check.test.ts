/** What is refused, with its path and words, and what the defaults are. */
import fc from 'fast-check';
import { DateTime } from 'luxon';
import { describe, expect, test } from 'vitest';
import { checkRecurrence } from '../../src/core/recurrence-check.ts';
import type { RecurrenceInput } from '../../src/core/recurrence-rule.ts';
import { CREATED, ruleOf } from './recurrence-rules.ts';

const daily = { daily: { at: '09:00' } };
const problemsOf = (input: unknown) => checkRecurrence(input, { now: CREATED }).problems ?? [];

describe('one problem, its path and a part of its words', () => {
  test.each<[unknown, string, string]>([
    [undefined, 'recurrence', 'Expected `recurrence` to be an object with cron, every, '],
    ['0 9 * * *', 'recurrence', 'got `0 9 * * *` (string)'],
    [{}, 'recurrence', 'to have exactly one of cron, every, daily, weekly, monthly, got none of them'],
    [{ ...daily, cron: '0 9 * * *' }, 'recurrence', 'got `cron` and `daily`'],
    // cron
    [{ cron: 5 }, 'recurrence.cron', 'got `5` (number)'],
    [{ cron: '' }, 'recurrence.cron', 'to be 5 fields (minute hour day-of-month month weekday)'],
    [{ cron: '* * * *' }, 'recurrence.cron', 'got 4 fields in `* * * *` (string)'],
    [{ cron: '* * * * * * *' }, 'recurrence.cron', 'got 7 fields'],
    [{ cron: 'tomorrow' }, 'recurrence.cron', 'got 1 field'],
    [{ cron: '@reboot' }, 'recurrence.cron', 'or one of @hourly, '],
    [{ cron: '60 * * * *' }, 'recurrence.cron', 'Expected the minute of `recurrence.cron` to be 0 to 59'],
    [{ cron: '0 24 * * *' }, 'recurrence.cron', 'Expected the hour of `recurrence.cron` to be 0 to 23'],
    [{ cron: '0 0 32 * *' }, 'recurrence.cron', 'Expected the day of month of'],
    [{ cron: '0 0 0 * *' }, 'recurrence.cron', 'got `0` in `0 0 0 * *` (string)'],
    [{ cron: '0 0 1 13 *' }, 'recurrence.cron', 'Expected the month of'],
    [{ cron: '0 0 * * 8' }, 'recurrence.cron', 'Expected the weekday of'],
    [{ cron: '0 0 * * MON#6' }, 'recurrence.cron', 'Expected the weekday of'],
    [{ cron: '99 0 0 * * *' }, 'recurrence.cron', 'Expected the second of'],
    [{ cron: '*/0 * * * *' }, 'recurrence.cron', 'Expected the minute of'],
    [{ cron: '5-1 * * * *' }, 'recurrence.cron', 'Expected the minute of'],
    [{ cron: 'x y z * *' }, 'recurrence.cron', 'Expected the minute of'],
    // never
    [{ cron: '0 0 30 2 *' }, 'recurrence.cron', 'which does not (30 February never comes'],
    [{ cron: '0 0 29 2 +MON' }, 'recurrence.cron', 'other dates after more years'],
    [{ cron: '0 0 30,31 2 *' }, 'recurrence.cron', 'to occur within 8 years'],
    [{ cron: '0 0 31 4,6,9,11 *' }, 'recurrence.cron', 'to occur within 8 years'],
    [{ ...daily, start: '2999-12-31T12:00:00Z' }, 'recurrence.daily', 'to occur within 8 years'],
    [
      { cron: '0 0 1 1 *', end: '2026-06-01T00:00:00Z', start: '2026-01-02T00:00:00Z' },
      'recurrence.end',
      'to be at or after the first occurrence, 2027-01-01T00:00:00.000Z',
    ],
    [
      { weekly: { on: ['monday'], at: '09:00' }, exclude: { weekdays: ['monday'] } },
      'recurrence.exclude',
      'to leave at least one occurrence in 8 years',
    ],
    [
      { ...daily, end: '2026-01-02T10:00:00Z', exclude: { dates: ['2026-01-01', '2026-01-02'] } },
      'recurrence.exclude',
      'until 2026-01-02T10:00:00.000Z',
    ],
    [{ ...daily, exclude: { weekdays: allDays() } }, 'recurrence.exclude.weekdays', 'got all seven'],
    // every
    [{ every: 5 }, 'recurrence.every', 'to be an object with seconds, minutes, '],
    [{ every: {} }, 'recurrence.every', 'got none of them'],
    [{ every: { days: 1, hours: 2 } }, 'recurrence.every', 'got `hours` and `days`'],
    [{ every: { hours: 0 } }, 'recurrence.every.hours', 'an integer from 1 to 87600, got `0` (number)'],
    [{ every: { hours: -1 } }, 'recurrence.every.hours', 'got `-1` (number)'],
    [{ every: { days: 1.5 } }, 'recurrence.every.days', 'got `1.5` (number)'],
    [{ every: { days: '1' } }, 'recurrence.every.days', 'got `1` (string)'],
    [{ every: { seconds: Number.NaN } }, 'recurrence.every.seconds', 'got `NaN` (number)'],
    // daily, weekly, monthly
    [
      { daily: {} },
      'recurrence.daily.at',
      'a time of day `HH:mm` or `HH:mm:ss`, such as `09:00`, got nothing',
    ],
    [{ daily: { at: '9:00' } }, 'recurrence.daily.at', 'got `9:00` (string)'],
    [{ daily: { at: '24:00' } }, 'recurrence.daily.at', 'got `24:00` (string)'],
    [{ weekly: { at: '09:00' } }, 'recurrence.weekly.on', 'a list of monday, tuesday'],
    [{ weekly: { on: [], at: '09:00' } }, 'recurrence.weekly.on', 'got an empty array'],
    [{ weekly: { on: ['Monday'], at: '09:00' } }, 'recurrence.weekly.on', 'got an array'],
    [{ monthly: { on: 0, at: '09:00' } }, 'recurrence.monthly.on', 'a day from 1 to 31, `last`'],
    [{ monthly: { on: 32, at: '09:00' } }, 'recurrence.monthly.on', 'got `32` (number)'],
    [
      { monthly: { on: { nth: 6, weekday: 'monday' }, at: '09:00' } },
      'recurrence.monthly.on.nth',
      'from 1 to 5, or -1',
    ],
    [{ monthly: { on: { nth: 1 }, at: '09:00' } }, 'recurrence.monthly.on.weekday', 'one of monday'],
    // the rest
    [{ ...daily, timezone: 'Mars/Olympus' }, 'recurrence.timezone', 'an IANA time zone'],
    [{ ...daily, timezone: '+02:00' }, 'recurrence.timezone', 'got `+02:00` (string)'],
    [{ ...daily, start: '2026-01-01T09:00:00' }, 'recurrence.start', 'ISO string with offset'],
    [{ ...daily, start: 'soon' }, 'recurrence.start', 'got `soon` (string)'],
    [{ ...daily, start: new Date(Number.NaN) }, 'recurrence.start', 'got an invalid Date'],
    [{ ...daily, start: '1960-01-01T00:00:00Z' }, 'recurrence.start', 'from 1970 to 2999'],
    [
      { ...daily, start: '2026-02-01T00:00:00Z', end: '2026-01-01T00:00:00Z' },
      'recurrence.end',
      'to be at or after `start`, 2026-02-01T00:00:00.000Z, got `2026-01-01T00:00:00Z` (string)',
    ],
    [{ ...daily, maxRuns: 0 }, 'recurrence.maxRuns', 'an integer from 1 to 1000000, got `0` (number)'],
    [{ ...daily, exclude: ['2026-12-25'] }, 'recurrence.exclude', 'got an array'],
    [
      { ...daily, exclude: { dates: ['2026-02-30'] } },
      'recurrence.exclude.dates[0]',
      'a date of the calendar',
    ],
    [
      { ...daily, exclude: { dates: ['25.12.2026'] } },
      'recurrence.exclude.dates[0]',
      'a date of the calendar',
    ],
    [{ ...daily, exclude: { dates: '2026-12-25' } }, 'recurrence.exclude.dates', 'a list of at most 1000'],
    [{ ...daily, jitterMs: -1 }, 'recurrence.jitterMs', 'an integer from 0 to 86400000'],
    [{ ...daily, dst: { gap: 'jump' } }, 'recurrence.dst.gap', 'one of shift, skip, got `jump` (string)'],
    [{ ...daily, dst: { overlap: 'none' } }, 'recurrence.dst.overlap', 'one of first, last, both'],
    [{ ...daily, misfire: 'never' }, 'recurrence.misfire', 'one of once, skip, all'],
    [{ ...daily, misfireWindowMs: '1h' }, 'recurrence.misfireWindowMs', 'an integer from 0'],
    [{ ...daily, overlap: 'allow' }, 'recurrence.overlap', 'one of skip, queue'],
    [{ ...daily, tz: 'UTC' }, 'recurrence.tz', 'Unknown key `recurrence.tz`. Did you mean `timezone`?'],
    [{ ...daily, timeZone: 'UTC' }, 'recurrence.timeZone', 'Did you mean `timezone`?'],
    [{ ...daily, until: CREATED }, 'recurrence.until', 'Did you mean `end`?'],
    [{ ...daily, colour: 1 }, 'recurrence.colour', 'Known keys: cron, every'],
    [{ every: { days: 1, at: 1 } }, 'recurrence.every.at', 'Known keys: seconds'],
  ])('%j', (input, path, words) => {
    const problems = problemsOf(input);
    expect(problems.map((problem) => problem.path)).toEqual([path]);
    expect(problems[0]?.message).toContain(words);
  });
});

test('all problems at once', () => {
  const input = { cron: '* * * *', timezone: 'X', start: 1, maxRuns: 0, exclude: { dates: [1] }, a: 1 };
  expect(problemsOf(input).map(({ path }) => path)).toEqual([
    'recurrence.a',
    'recurrence.cron',
    'recurrence.start',
    'recurrence.timezone',
    'recurrence.maxRuns',
    'recurrence.exclude.dates[0]',
  ]);
});

test('the path of the rule can be another', () => {
  const { problems } = checkRecurrence({ every: { days: 0 } }, { now: CREATED, path: 'schedule' });
  expect(problems?.map(({ path }) => path)).toEqual(['schedule.every.days']);
});

test('the defaults', () => {
  expect(ruleOf({ cron: '  0   9 * * 1-5 ' }, new Date('2026-01-01T10:00:00.500Z'))).toEqual({
    pattern: { kind: 'cron', cron: '0 9 * * 1-5' },
    timezone: 'UTC',
    start: null,
    anchor: new Date('2026-01-01T10:00:00Z'),
    end: null,
    maxRuns: null,
    exclude: { dates: [], weekdays: [] },
    jitterMs: 0,
    dst: { gap: 'shift', overlap: 'first' },
    misfire: 'once',
    misfireWindowMs: null,
    overlap: 'skip',
  });
});

test.each<[RecurrenceInput, string]>([
  [{ cron: '* * * * *' }, 'both'],
  [{ cron: '0 * * * *' }, 'both'],
  [{ cron: '0 */2 * * *' }, 'both'],
  [{ cron: '0 0 * * * *' }, 'both'],
  [{ cron: '@hourly' }, 'both'],
  [{ cron: '*/15 2 * * *' }, 'first'],
  [{ cron: '0 0-23 * * *' }, 'first'],
  [{ cron: '0 1,2 * * *' }, 'first'],
  [{ cron: '@daily' }, 'first'],
  [{ every: { days: 1 } }, 'first'],
  [{ daily: { at: '02:00' } }, 'first'],
  [{ cron: '* * * * *', dst: { overlap: 'first' } }, 'first'],
  [{ cron: '* * * * *', dst: { gap: 'skip' } }, 'both'],
])('a repeated hour in %j counts %s', (input, overlap) => {
  expect(ruleOf(input).dst.overlap).toBe(overlap);
});

test('instants in every form, lists in order and without doubles, null for not given', () => {
  const rule = ruleOf({
    weekly: { on: ['friday', 'monday', 'friday'], at: '09:00' },
    start: DateTime.fromISO('2026-03-01T00:00:00', { zone: 'Europe/Paris' }),
    end: '2026-06-01T00:00:00+02:00',
    exclude: { dates: ['2026-05-01', '2026-04-06', '2026-05-01'], weekdays: [] },
    maxRuns: null as unknown as undefined,
  });
  expect(rule.pattern).toEqual({ kind: 'weekly', on: ['monday', 'friday'], at: '09:00' });
  expect(rule.start).toEqual(new Date('2026-02-28T23:00:00Z'));
  expect(rule.anchor).toEqual(rule.start);
  expect(rule.end).toEqual(new Date('2026-05-31T22:00:00Z'));
  expect(rule.exclude).toEqual({ dates: ['2026-04-06', '2026-05-01'], weekdays: [] });
});

test('no input throws', () => {
  const wild = fc.record(
    {
      cron: fc.oneof(fc.string(), fc.stringMatching(/^[-*/,#LW0-9A-Z? ]{1,20}$/), fc.anything()),
      every: fc.anything(),
      daily: fc.anything(),
      weekly: fc.anything(),
      monthly: fc.anything(),
      timezone: fc.anything(),
      start: fc.anything(),
      end: fc.anything(),
      exclude: fc.oneof(fc.anything(), fc.record({ dates: fc.anything(), weekdays: fc.anything() })),
      dst: fc.anything(),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(fc.oneof(fc.anything(), wild), (input) => {
      const { rule, problems } = checkRecurrence(input, { now: CREATED });
      return rule !== undefined || (problems.length > 0 && problems.every(({ message }) => message !== ''));
    }),
    { numRuns: 1_000 },
  );
});

function allDays(): string[] {
  return ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'];
}
