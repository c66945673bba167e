/** When an audience will have been sent, for one zone and for many, and the words for it. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { intervals, type SendInterval } from '../../src/core/send-window.ts';
import { checkSendWindow, type SendWindow } from '../../src/core/send-window-check.ts';
import { explainWindow } from '../../src/core/send-window-explain.ts';
import { FORECAST_DAYS, forecast, projectEnd } from '../../src/core/send-window-forecast.ts';

function windowOf(hours: string, more: object = {}): SendWindow {
  const [from, to] = hours.split('-');
  const { window, problems } = checkSendWindow({ from, to, timezone: 'UTC', ...more });
  if (window === undefined) throw new Error(JSON.stringify(problems));
  return window;
}

const DAY_MS = 86_400_000;
const NINE = windowOf('09:00-10:00');
const OWN = windowOf('09:00-10:00', { timezone: 'recipient', fallbackTimezone: 'UTC' });
const EIGHT = new Date('2026-03-02T08:00:00Z');
const hour = (start: string): SendInterval => ({
  opensAt: new Date(start),
  closesAt: new Date(Date.parse(start) + 3_600_000),
});

describe('the end in one zone', () => {
  const project = (ratePerSecond: number | undefined, left: number, from = EIGHT, window = NINE) =>
    projectEnd({ intervals: intervals(window, 'UTC', from), ratePerSecond, left, from });

  test.each<[string, number, number, string, string]>([
    ['in the first window', 1, 600, '2026-03-02T09:10:00Z', '2026-03-02T09:00Z'],
    ['as the window closes', 1, 3_600, '2026-03-02T10:00:00Z', '2026-03-02T09:00Z'],
    ['the one that is over goes next day', 1, 3_601, '2026-03-03T09:00:01Z', '2026-03-03T09:00Z'],
    ['in the third window', 0.5, 4_500, '2026-03-04T09:30:00Z', '2026-03-04T09:00Z'],
    ['rounded up', 3, 1, '2026-03-02T09:00:00.334Z', '2026-03-02T09:00Z'],
    ['at any rate', Number.POSITIVE_INFINITY, 9, '2026-03-02T09:00:00Z', '2026-03-02T09:00Z'],
  ])('%s', (_what, ratePerSecond, left, endsAt, opensAt) => {
    expect(project(ratePerSecond, left)).toEqual({ endsAt: new Date(endsAt), interval: hour(opensAt) });
  });

  test('from within a window', () => {
    const from = new Date('2026-03-02T09:50:00Z');
    expect(project(1, 601, from).endsAt).toEqual(new Date('2026-03-03T09:00:01Z'));
    const opened = [hour('2026-03-02T09:00Z')];
    expect(projectEnd({ intervals: opened, ratePerSecond: 1, left: 600, from }).endsAt).toEqual(
      new Date('2026-03-02T10:00Z'),
    );
  });

  test('of a window that never closes', () => {
    expect(project(1, 100_000, EIGHT, windowOf('00:00-24:00'))).toEqual({
      endsAt: new Date(EIGHT.getTime() + 100_000_000),
      interval: { opensAt: EIGHT, closesAt: null },
    });
  });

  test('when nobody is left', () => {
    expect(project(undefined, 0)).toEqual({ endsAt: EIGHT, interval: null });
  });

  test.each([undefined, 0, -1, Number.NaN])('is not known at a rate of %s', (rate) => {
    const interval = hour('2026-03-02T09:00Z');
    expect(project(rate, 5)).toEqual({ endsAt: null, reason: 'no_rate', interval });
  });

  test('is not projected further than a year, nor beyond the intervals given', () => {
    const interval = hour('2026-03-02T09:00Z');
    const tooFar = { endsAt: null, reason: 'too_far', interval };
    expect(project(1, 3_600 * FORECAST_DAYS).endsAt).toEqual(new Date('2027-03-02T10:00Z'));
    expect(project(1, 3_600 * (FORECAST_DAYS + 1))).toEqual(tooFar);
    expect(project(Number.MIN_VALUE, 5)).toEqual(tooFar);
    expect(projectEnd({ intervals: [interval], ratePerSecond: 1, left: 3_601, from: EIGHT })).toEqual(tooFar);
    expect(projectEnd({ intervals: [], ratePerSecond: 1, left: 1, from: EIGHT })).toEqual({
      ...tooFar,
      interval: null,
    });
  });

  test('the time that is open until then is just what is needed', () => {
    const hours = fc.constantFrom('09:00-10:00', '22:00-06:00', '01:30-02:30', '00:00-24:00');
    const amounts = [fc.integer({ min: 1, max: 100_000 }), fc.integer({ min: 1, max: 50 })] as const;
    fc.assert(
      fc.property(hours, ...amounts, fc.integer({ min: 0, max: 300 * DAY_MS }), (text, left, rate, after) => {
        const window = windowOf(text, { days: ['monday', 'sunday', 'saturday'] });
        const from = new Date(EIGHT.getTime() + after);
        const spans = [...intervals(window, 'Europe/Paris', from, { limit: 60 })];
        const { endsAt } = projectEnd({ intervals: spans, ratePerSecond: rate, left, from });
        if (endsAt === null) throw new Error('an end was expected');
        const open = spans.map(({ opensAt, closesAt }) =>
          Math.max(0, Math.min(endsAt.getTime(), Number(closesAt)) - opensAt.getTime()),
        );
        expect(open.reduce((sum, ms) => sum + ms, 0)).toBe(Math.ceil((left / rate) * 1_000));
      }),
      { numRuns: 200 },
    );
  });
});

describe('the end in many zones', () => {
  test('zones that are open at different times do not take from each other', () => {
    const { end, zones } = forecast({
      window: OWN,
      recipients: [
        { timezone: 'Asia/Tokyo', left: 600 },
        { timezone: 'America/Lima', left: 1_200 },
        { left: 60 },
      ],
      ratePerSecond: 1,
      from: EIGHT,
    });
    expect(zones.map(({ zone, left, end }) => [zone, left, end.endsAt?.toISOString()])).toEqual([
      ['America/Lima', 1_200, '2026-03-02T14:20:00.000Z'],
      ['Asia/Tokyo', 600, '2026-03-03T00:10:00.000Z'],
      ['UTC', 60, '2026-03-02T09:01:00.000Z'],
    ]);
    expect(end).toEqual({ endsAt: new Date('2026-03-03T00:10Z'), interval: hour('2026-03-03T00:00Z') });
  });

  test('zones that are open together share the rate in proportion', () => {
    // From 12:00 to 13:00 only New York: 3,600 of its 7,200. Then both Chicago and New York for two hours.
    const window = windowOf('08:00-11:00', { timezone: 'recipient', fallbackTimezone: 'UTC' });
    const recipients = [
      { timezone: 'America/New_York', left: 7_200 },
      { timezone: 'America/Chicago', left: 1_800 },
    ];
    const from = new Date('2026-06-01T12:00Z');
    const { end, zones } = forecast({ window, recipients, ratePerSecond: 1, from });
    const both = new Date('2026-06-01T14:30Z');
    expect(zones.map(({ end }) => end.endsAt)).toEqual([both, both]);
    expect(end.endsAt).toEqual(both);
  });

  test.each<[string, number, number, string]>([
    ['two thirds of 60 wait for the next day', 60, 10_740, '2026-06-02T12:00:40Z'],
    ['four tenths of one are nobody', 1, 5_999, '2026-06-01T15:00:00Z'],
  ])('a zone that closes before its share was sent: %s', (_what, newYork, chicago, endsAt) => {
    const window = windowOf('08:00-11:00', { timezone: 'recipient', fallbackTimezone: 'UTC' });
    const recipients = [
      { timezone: 'America/New_York', left: newYork },
      { timezone: 'America/Chicago', left: chicago },
    ];
    const from = new Date('2026-06-01T14:00Z');
    const { zones } = forecast({ window, recipients, ratePerSecond: 1, from });
    expect(zones[1]).toMatchObject({ zone: 'America/New_York', end: { endsAt: new Date(endsAt) } });
  });

  test('recipients with the same clock are one', () => {
    const recipients = [
      { timezone: 'Mars/Olympus', left: 1 },
      { left: 2 },
      { timezone: 'UTC', left: 3 },
      { left: 0 },
    ];
    const { zones } = forecast({ window: OWN, recipients, ratePerSecond: 1, from: EIGHT });
    expect(zones).toEqual([
      {
        zone: 'UTC',
        left: 6,
        end: { endsAt: new Date('2026-03-02T09:00:06Z'), interval: hour('2026-03-02T09:00Z') },
      },
    ]);
  });

  test('without a rate each zone says when it is next open, and all together the first of them', () => {
    const recipients = [{ timezone: 'Asia/Tokyo', left: 9 }, { left: 1 }];
    const { end, zones } = forecast({ window: OWN, recipients, ratePerSecond: undefined, from: EIGHT });
    const nextIs = (start: string) => ({ endsAt: null, reason: 'no_rate', interval: hour(start) });
    expect(zones.map(({ end }) => end)).toEqual([nextIs('2026-03-03T00:00Z'), nextIs('2026-03-02T09:00Z')]);
    expect(end).toEqual(nextIs('2026-03-02T09:00Z'));
  });

  test('nobody left, and too many', () => {
    const nobody = forecast({ window: OWN, recipients: [], ratePerSecond: 1, from: EIGHT });
    expect(nobody).toEqual({ end: { endsAt: EIGHT, interval: null }, zones: [] });
    const recipients = [{ timezone: 'Asia/Tokyo', left: 60 }, { left: 1e9 }];
    const { end, zones } = forecast({ window: OWN, recipients, ratePerSecond: 1, from: EIGHT });
    expect(end.reason).toBe('too_far');
    expect(zones.map(({ end }) => end.reason)).toEqual(['too_far', 'too_far']);
  });

  test('as a simulation second by second, to a minute', () => {
    const zone = fc.constantFrom('UTC', 'Europe/Paris', 'Asia/Kolkata', 'America/New_York');
    const counts = fc.dictionary(zone, fc.integer({ min: 50, max: 20_000 }), { minKeys: 2 });
    fc.assert(
      fc.property(counts, fc.integer({ min: 1, max: 4 }), (left, rate) => {
        const window = windowOf('09:00-13:20', { timezone: 'recipient', fallbackTimezone: 'UTC' });
        const recipients = Object.entries(left).map(([timezone, left]) => ({ timezone, left }));
        const { end } = forecast({ window, recipients, ratePerSecond: rate, from: EIGHT });
        const simulated = simulate(window, recipients, rate, EIGHT);
        expect(Math.abs(Number(end.endsAt) - simulated)).toBeLessThan(60_000);
      }),
      { numRuns: 25 },
    );
  });
});

/** Every second, `rate` recipients of the zones that are open, in proportion. */
function simulate(
  window: SendWindow,
  recipients: readonly { readonly timezone: string; readonly left: number }[],
  rate: number,
  from: Date,
): number {
  const zones = recipients.map(({ timezone, left }) => ({
    left,
    spans: [...intervals(window, timezone, from, { limit: 12 })],
  }));
  for (let ms = from.getTime(); ; ms += 1_000) {
    const busy = zones.filter(({ left }) => left >= 0.5);
    if (busy.length === 0) return ms;
    const open = busy.filter(({ spans }) =>
      spans.some(({ opensAt, closesAt }) => opensAt.getTime() <= ms && ms < Number(closesAt)),
    );
    const sum = open.reduce((total, { left }) => total + left, 0);
    for (const zone of open) zone.left -= Math.min(zone.left, (rate * zone.left) / sum);
  }
}

describe('in words', () => {
  const office = windowOf('09:00-17:30', {
    days: ['monday', 'tuesday', 'wednesday', 'thursday', 'friday'],
    timezone: 'Europe/Paris',
    holidays: ['2020-12-25', '2026-12-25'],
  });
  const at = new Date('2026-12-23T16:00:00Z');

  test('one zone, with an end', () => {
    expect(explainWindow(office, { at, recipients: [{ left: 2_400 }], ratePerSecond: 1 })).toEqual([
      'Sends on Monday to Friday from 09:00 to 17:30, Europe/Paris. No window begins on 2026-12-25.',
      'Europe/Paris, 2,400 left:',
      '  now, until Wed 2026-12-23 17:30 +01:00',
      '  Thu 2026-12-24 09:00 +01:00 to Thu 2026-12-24 17:30 +01:00',
      '  Mon 2026-12-28 09:00 +01:00 to Mon 2026-12-28 17:30 +01:00',
      'Projected end at 1 per second: Thu 2026-12-24 09:10 +01:00 (Europe/Paris).',
    ]);
  });

  test('the offset tells the two hours of one name apart', () => {
    const night = windowOf('02:00-03:00', { timezone: 'Europe/Paris' });
    expect(explainWindow(night, { at: new Date('2026-10-24T12:00Z'), intervals: 1 })).toEqual([
      'Sends every day from 02:00 to 03:00, Europe/Paris.',
      'Europe/Paris:',
      '  Sun 2026-10-25 02:00 +02:00 to Sun 2026-10-25 03:00 +01:00',
    ]);
  });

  test('many zones, without an end', () => {
    const holidays = ['2026-12-24', '2026-12-25', '2026-12-26', '2027-01-01', '2027-01-02'];
    const window = windowOf('22:00-06:00', {
      days: ['monday', 'friday'],
      timezone: 'recipient',
      fallbackTimezone: 'UTC',
      holidays,
    });
    const recipients = [
      { timezone: 'Asia/Tokyo', left: 5 },
      { left: 1_000 },
      { timezone: 'Asia/Dubai', left: 1 },
    ];
    expect(explainWindow(window, { at, recipients, intervals: 1, zones: 2 })).toEqual([
      "Sends on Monday and Friday from 22:00 to 06:00 of the next day, in each recipient's own time zone (UTC for those without one). No window begins on 2026-12-24, 2026-12-25, 2026-12-26 and 2 more dates.",
      'UTC, 1,000 left:',
      '  Mon 2026-12-28 22:00 +00:00 to Tue 2026-12-29 06:00 +00:00',
      'Asia/Tokyo, 5 left:',
      '  Mon 2026-12-28 22:00 +09:00 to Tue 2026-12-29 06:00 +09:00',
      'And 1 more zone.',
      'No end is projected: the rate is not known.',
    ]);
  });

  test('without an end in sight, and never closed', () => {
    const always = windowOf('00:00-24:00');
    const recipients = [{ left: 1_000_000 }];
    expect(explainWindow(always, { at, recipients, ratePerSecond: 0.00123456 })).toEqual([
      'Sends every day from 00:00 to 24:00, UTC.',
      'UTC, 1,000,000 left:',
      '  now, and never closes',
      `Projected end at 0.00123 per second: more than ${FORECAST_DAYS} days away.`,
    ]);
    const holidays = windowOf('00:00-24:00', { holidays: ['2026-12-23', '2027-12-23'] });
    expect(explainWindow(holidays, { at })).toEqual([
      'Sends every day from 00:00 to 24:00, UTC. No window begins on 2026-12-23 and 2027-12-23.',
      'UTC:',
      '  Thu 2026-12-24 00:00 +00:00 to Thu 2027-12-23 00:00 +00:00',
      '  Fri 2027-12-24 00:00 +00:00, and never closes',
    ]);
  });
});
