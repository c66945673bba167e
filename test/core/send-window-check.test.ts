/** Which send windows are accepted, and what is said about the others. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkSendWindow, MAX_HOLIDAYS } from '../../src/core/send-window-check.ts';
import { WEEKDAYS } from '../../src/core/weekdays.ts';

const GOOD = { from: '09:00', to: '17:30', timezone: 'Europe/Paris' };

describe('accepted, with every default filled in', () => {
  test.each<[string, object, object]>([
    ['the least', {}, {}],
    [
      'days in the order of the week, each once',
      { days: ['friday', 'monday', 'friday'] },
      { days: ['monday', 'friday'] },
    ],
    ['across midnight', { from: '22:00', to: '06:00' }, { from: '22:00', to: '06:00' }],
    ['until midnight', { to: '24:00' }, { to: '24:00' }],
    ['a whole day', { from: '00:00', to: '24:00' }, { from: '00:00', to: '24:00' }],
    [
      'holidays in order, each once',
      { holidays: ['2026-12-26', '2024-02-29', '2026-12-26'] },
      { holidays: ['2024-02-29', '2026-12-26'] },
    ],
    [
      "each recipient's zone",
      { timezone: 'recipient', fallbackTimezone: 'UTC' },
      { timezone: 'recipient', fallbackTimezone: 'UTC' },
    ],
    ['values that are left out', { days: undefined, fallbackTimezone: undefined, holidays: undefined }, {}],
  ])('%s', (_what, given, expected) => {
    const filledIn = { ...GOOD, days: [...WEEKDAYS], holidays: [], ...expected };
    const { window } = checkSendWindow({ ...GOOD, ...given });
    expect(window).toStrictEqual(filledIn);
    expect(checkSendWindow(window).window).toStrictEqual(window);
  });

  test('it shares nothing with what came in', () => {
    const given = { ...GOOD, days: [...WEEKDAYS], holidays: ['2026-12-25'] };
    const { window } = checkSendWindow(given);
    given.days.pop();
    given.holidays.pop();
    expect(window).toMatchObject({ days: WEEKDAYS, holidays: ['2026-12-25'] });
  });
});

describe('refused', () => {
  test.each<[object, string, string]>([
    [{ days: [] }, 'days', 'at least one weekday, or left out for all (the window would never open)'],
    [{ days: 'monday' }, 'days', 'an array of at most 7 names of weekdays, got `monday` (string)'],
    [{ days: Array(8).fill('monday') }, 'days', 'an array of at most 7 names of weekdays, got an array of 8'],
    [{ days: ['monday', 'Mon'] }, 'days[1]', 'got `Mon` (string)'],
    [{ days: [1] }, 'days[0]', 'one of monday, tuesday'],
    [{ from: '9:00' }, 'from', '`HH:MM` from `00:00` to `23:59`, got `9:00` (string)'],
    [{ from: '24:00' }, 'from', 'got `24:00` (string)'],
    [{ from: 900 }, 'from', 'got `900` (number)'],
    [{ from: undefined }, 'from', 'got nothing'],
    [{ to: '24:01' }, 'to', 'from `00:00` to `24:00`'],
    [{ to: '12:60' }, 'to', 'got `12:60` (string)'],
    [{ to: '17:30:00' }, 'to', 'got `17:30:00` (string)'],
    [{ to: '09:00' }, 'to', 'another time than `from` (a whole day is `00:00` to `24:00`)'],
    [{ timezone: 'Europe/Pariss' }, 'timezone', 'an IANA time zone such as `Europe/Paris`, or `recipient`'],
    [{ timezone: '+02:00' }, 'timezone', 'got `+02:00` (string)'],
    [{ timezone: null }, 'timezone', 'got null'],
    [{ timezone: 'recipient' }, 'fallbackTimezone', 'for recipients without one, got nothing'],
    [{ timezone: 'recipient', fallbackTimezone: 'recipient' }, 'fallbackTimezone', 'an IANA time zone'],
    [{ fallbackTimezone: 'UTC' }, 'fallbackTimezone', 'left out unless `timezone` is `recipient`'],
    [{ holidays: '2026-12-25' }, 'holidays', `a list of at most ${MAX_HOLIDAYS} dates`],
    [{ holidays: Array(501).fill('2026-12-25') }, 'holidays', 'got an array of 501'],
    [{ holidays: ['2026-12-25', '2026-02-30'] }, 'holidays[1]', 'a date of the calendar as `YYYY-MM-DD`'],
    [{ holidays: ['2026-13-01'] }, 'holidays[0]', 'got `2026-13-01` (string)'],
    [{ holidays: ['2025-02-29'] }, 'holidays[0]', 'got `2025-02-29` (string)'],
    [{ holidays: ['26-12-25'] }, 'holidays[0]', 'got `26-12-25` (string)'],
    [{ holidays: [new Date(0)] }, 'holidays[0]', 'got a Date'],
    [{ tz: 'UTC' }, 'tz', 'Unknown key `campaign.window.tz`. Known keys: days, from, to'],
  ])('%j', (given, field, words) => {
    const { problems } = checkSendWindow({ ...GOOD, ...given }, 'campaign.window');
    expect(problems).toHaveLength(1);
    expect(problems?.[0]?.path).toBe(`campaign.window.${field}`);
    expect(problems?.[0]?.message).toContain(words);
    expect(problems?.[0]?.message).toContain(`\`campaign.window.${field}\``);
  });

  test('every problem at once', () => {
    const { problems } = checkSendWindow({
      days: ['x', 'y'],
      from: 1,
      to: 2,
      timezone: 3,
      holidays: [4],
      a: 5,
    });
    expect(problems?.map(({ path }) => path)).toEqual(
      ['days[0]', 'days[1]', 'from', 'to', 'timezone', 'holidays[0]', 'a'].map((field) => `window.${field}`),
    );
  });

  test.each([undefined, null, 'text', 5, [], new Map()])('%j', (value) => {
    expect(checkSendWindow(value).problems?.[0]).toMatchObject({ path: 'window' });
  });

  test('anything else, without throwing', () => {
    const fields = {
      days: fc.anything(),
      from: fc.anything(),
      timezone: fc.anything(),
      holidays: fc.anything(),
    };
    fc.assert(
      fc.property(fc.record(fields), (given) => {
        const { window, problems } = checkSendWindow(given);
        expect(window).toBeUndefined();
        expect(problems?.length).toBeGreaterThan(0);
      }),
    );
  });
});
