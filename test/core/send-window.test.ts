/** When a send window is open: tables for the nights people ask about, and a minute by minute scan for all the others. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { intervals, windowAt, zoneOf } from '../../src/core/send-window.ts';
import { checkSendWindow, type SendWindow } from '../../src/core/send-window-check.ts';
import { WEEKDAYS } from '../../src/core/weekdays.ts';
import { MINUTE_MS } from './intl-wall-clock.ts';
import { scanWall, scanWindow, type WallScan } from './wall-clock-scan.ts';

function windowOf(hours: string, more: object = {}): SendWindow {
  const [from, to] = hours.split('-');
  const { window, problems } = checkSendWindow({ from, to, timezone: 'UTC', ...more });
  if (window === undefined) throw new Error(JSON.stringify(problems));
  return window;
}

/** The intervals that open between two instants, as `opening/closing` in UTC to the minute. */
function shown(window: SendWindow, zone: string, from: string, until: string): string[] {
  const text = (date: Date | null) => date?.toISOString().slice(5, 16) ?? 'never';
  return [...intervals(window, zone, new Date(from), { until: new Date(until) })].map(
    ({ opensAt, closesAt }) => `${text(opensAt)}/${text(closesAt)}`,
  );
}

describe('on an ordinary day', () => {
  const office = windowOf('09:00-17:30', { days: ['monday', 'tuesday', 'wednesday', 'thursday', 'friday'] });

  test.each<[string, boolean, string]>([
    ['2026-02-06T08:00:00Z', true, '2026-02-06T16:30:00Z'],
    ['2026-02-06T07:59:59.999Z', false, '2026-02-06T08:00:00Z'],
    ['2026-02-06T16:29:59.999Z', true, '2026-02-06T16:30:00Z'],
    ['2026-02-06T16:30:00Z', false, '2026-02-09T08:00:00Z'],
    ['2026-02-08T12:00:00Z', false, '2026-02-09T08:00:00Z'],
  ])('at %s in Paris', (at, open, changes) => {
    const expected = open ? { open, closesAt: new Date(changes) } : { open, opensAt: new Date(changes) };
    expect(windowAt(office, 'Europe/Paris', new Date(at))).toEqual(expected);
  });

  test('a night belongs to the day on which it began', () => {
    const night = windowOf('22:00-06:00', { days: ['friday'], holidays: ['2026-02-13'] });
    expect(shown(night, 'UTC', '2026-02-01T00:00Z', '2026-02-28T00:00Z')).toEqual([
      '02-06T22:00/02-07T06:00',
      '02-20T22:00/02-21T06:00',
      '02-27T22:00/02-28T06:00',
    ]);
    expect(windowAt(night, 'UTC', new Date('2026-02-07T03:00Z')).open).toBe(true);
    expect(windowAt(night, 'UTC', new Date('2026-02-06T03:00Z')).open).toBe(false);
  });

  test('a holiday takes away the window that would begin, not the night that ends on it', () => {
    const night = windowOf('20:00-02:00', { holidays: ['2026-12-25'] });
    expect(shown(night, 'UTC', '2026-12-24T12:00Z', '2026-12-27T00:00Z')).toEqual([
      '12-24T20:00/12-25T02:00',
      '12-26T20:00/12-27T02:00',
    ]);
  });

  test('holidays are dates of the zone', () => {
    const day = windowOf('08:00-10:00', { holidays: ['2026-12-25'] });
    expect(shown(day, 'Pacific/Auckland', '2026-12-23T12:00Z', '2026-12-26T12:00Z')).toEqual([
      '12-23T19:00/12-23T21:00',
      '12-25T19:00/12-25T21:00',
    ]);
  });

  test('years of holidays in a row are passed over', () => {
    const holidays = Array.from({ length: 500 }, (_, week) =>
      new Date(Date.UTC(2026, 0, 5 + week * 7)).toISOString().slice(0, 10),
    );
    const mondays = windowOf('09:00-10:00', { days: ['monday'], holidays });
    expect(windowAt(mondays, 'UTC', new Date('2026-01-05T09:30Z'))).toEqual({
      open: false,
      opensAt: new Date('2035-08-06T09:00Z'),
    });
  });
});

describe('whole days', () => {
  test('that follow each other are one interval, also over a change of the clock', () => {
    const weekend = windowOf('00:00-24:00', { days: ['saturday', 'sunday'] });
    expect(shown(weekend, 'Europe/Paris', '2026-03-23T00:00Z', '2026-04-02T00:00Z')).toEqual([
      '03-27T23:00/03-29T22:00',
    ]);
  });

  test('without end never close', () => {
    const always = windowOf('00:00-24:00');
    const at = new Date('2026-03-23T00:00Z');
    expect(windowAt(always, 'UTC', at)).toEqual({ open: true, closesAt: null });
    expect([...intervals(always, 'UTC', at)]).toEqual([{ opensAt: at, closesAt: null }]);
  });

  test('end only at a holiday, however far', () => {
    const holidays = ['2026-03-20', '2031-05-01', '9000-01-01'];
    const always = windowOf('00:00-24:00', { holidays });
    expect(shown(always, 'UTC', '2026-03-20T12:00Z', '9999-01-01T00:00Z')).toEqual([
      '03-21T00:00/05-01T00:00',
      '05-02T00:00/01-01T00:00',
      '01-02T00:00/never',
    ]);
  });

  test('a day closes where the next begins', () => {
    const untilMidnight = windowOf('18:00-24:00');
    expect(shown(untilMidnight, 'UTC', '2026-03-20T00:00Z', '2026-03-21T00:00Z')).toEqual([
      '03-20T18:00/03-21T00:00',
    ]);
    const sameThing = windowOf('18:00-00:00');
    expect(shown(sameThing, 'UTC', '2026-03-20T00:00Z', '2026-03-21T00:00Z')).toEqual([
      '03-20T18:00/03-21T00:00',
    ]);
  });
});

describe('when the clock is changed', () => {
  test.each<[what: string, hours: string, zone: string, from: string, until: string, expected: string[]]>([
    // Paris, 29 March 2026: 02:00 +01:00 becomes 03:00 +02:00, at 01:00 UTC.
    [
      'opens when the hour has been skipped',
      '02:30-05:00',
      'Europe/Paris',
      '2026-03-29T00:00Z',
      '2026-03-29T12:00Z',
      ['03-29T01:00/03-29T03:00'],
    ],
    [
      'closes when the hour has been skipped',
      '01:30-02:30',
      'Europe/Paris',
      '2026-03-29T00:00Z',
      '2026-03-29T12:00Z',
      ['03-29T00:30/03-29T01:00'],
    ],
    [
      'does not open within the skipped hour',
      '02:15-02:45',
      'Europe/Paris',
      '2026-03-29T00:00Z',
      '2026-03-30T12:00Z',
      ['03-30T00:15/03-30T00:45'],
    ],
    [
      'does not open for the whole skipped hour',
      '02:00-03:00',
      'Europe/Paris',
      '2026-03-29T00:00Z',
      '2026-03-30T12:00Z',
      ['03-30T00:00/03-30T01:00'],
    ],
    [
      'a night over the skipped hour',
      '22:00-06:00',
      'Europe/Paris',
      '2026-03-28T12:00Z',
      '2026-03-29T12:00Z',
      ['03-28T21:00/03-29T04:00'],
    ],
    // Paris, 25 October 2026: 03:00 +02:00 becomes 02:00 +01:00, at 01:00 UTC.
    [
      'the repeated hour is one interval',
      '02:00-03:00',
      'Europe/Paris',
      '2026-10-24T12:00Z',
      '2026-10-25T12:00Z',
      ['10-25T00:00/10-25T02:00'],
    ],
    [
      'from the first opening on',
      '02:30-04:00',
      'Europe/Paris',
      '2026-10-24T12:00Z',
      '2026-10-25T12:00Z',
      ['10-25T00:30/10-25T03:00'],
    ],
    [
      'until the last closing',
      '01:00-02:30',
      'Europe/Paris',
      '2026-10-24T12:00Z',
      '2026-10-25T12:00Z',
      ['10-24T23:00/10-25T01:30'],
    ],
    // New York, 8 March 2026 at 07:00 UTC.
    [
      'New York',
      '02:30-04:00',
      'America/New_York',
      '2026-03-08T00:00Z',
      '2026-03-08T12:00Z',
      ['03-08T07:00/03-08T08:00'],
    ],
    // Sydney, 4 October 2026: 02:00 +10:00 becomes 03:00 +11:00, at 16:00 UTC of the day before.
    [
      'Sydney',
      '02:30-05:00',
      'Australia/Sydney',
      '2026-10-03T12:00Z',
      '2026-10-04T12:00Z',
      ['10-03T16:00/10-03T18:00'],
    ],
    // Lord Howe by half an hour: 4 October 2026, 02:00 +10:30 becomes 02:30 +11:00; 5 April 2026, 02:00 +11:00 becomes 01:30 +10:30.
    [
      'Lord Howe, in the gap',
      '02:00-02:30',
      'Australia/Lord_Howe',
      '2026-10-03T12:00Z',
      '2026-10-05T00:00Z',
      ['10-04T15:00/10-04T15:30'],
    ],
    [
      'Lord Howe, opening in the gap',
      '02:15-03:00',
      'Australia/Lord_Howe',
      '2026-10-03T12:00Z',
      '2026-10-04T12:00Z',
      ['10-03T15:30/10-03T16:00'],
    ],
    [
      'Lord Howe, repeated',
      '01:30-02:00',
      'Australia/Lord_Howe',
      '2026-04-04T12:00Z',
      '2026-04-05T12:00Z',
      ['04-04T14:30/04-04T15:30'],
    ],
    // Chatham, 27 September 2026: 02:45 +12:45 becomes 03:45 +13:45, at 14:00 UTC of the day before.
    ['Chatham, in the gap', '02:45-03:45', 'Pacific/Chatham', '2026-09-26T12:00Z', '2026-09-27T12:00Z', []],
    [
      'Chatham, opening in the gap',
      '03:00-04:00',
      'Pacific/Chatham',
      '2026-09-26T12:00Z',
      '2026-09-27T12:00Z',
      ['09-26T14:00/09-26T14:15'],
    ],
    // Apia left out 30 December 2011: 24:00 -10:00 of the 29th was 00:00 +14:00 of the 31st.
    [
      'Apia, the skipped day',
      '09:00-17:00',
      'Pacific/Apia',
      '2011-12-29T12:00Z',
      '2011-12-31T12:00Z',
      ['12-29T19:00/12-30T03:00', '12-30T19:00/12-31T03:00'],
    ],
    [
      'Apia, the nights about it',
      '22:00-06:00',
      'Pacific/Apia',
      '2011-12-29T20:00Z',
      '2011-12-31T00:00Z',
      ['12-30T08:00/12-30T16:00'],
    ],
    [
      'Apia, whole days',
      '00:00-24:00',
      'Pacific/Apia',
      '2011-12-29T20:00Z',
      '2011-12-31T00:00Z',
      ['12-29T20:00/never'],
    ],
    // Beirut skips midnight: 29 March 2026, 00:00 +02:00 becomes 01:00 +03:00.
    [
      'Beirut, a skipped midnight',
      '00:00-02:00',
      'Asia/Beirut',
      '2026-03-28T20:00Z',
      '2026-03-29T12:00Z',
      ['03-28T22:00/03-28T23:00'],
    ],
    // Havana repeats it: 1 November 2026, 01:00 -04:00 becomes 00:00 -05:00.
    [
      'Havana, a repeated midnight',
      '20:00-00:30',
      'America/Havana',
      '2026-10-31T20:00Z',
      '2026-11-01T20:00Z',
      ['11-01T00:00/11-01T05:30'],
    ],
  ])('%s: %s %s', (_what, hours, zone, from, until, expected) => {
    expect(shown(windowOf(hours), zone, from, until)).toEqual(expected);
  });

  test('a holiday on the day that Apia left out changes nothing but the night that would begin on it', () => {
    const night = windowOf('22:00-06:00', { holidays: ['2011-12-30'] });
    expect(shown(night, 'Pacific/Apia', '2011-12-29T20:00Z', '2011-12-31T00:00Z')).toEqual([
      '12-30T08:00/12-30T10:00',
    ]);
    const always = windowOf('00:00-24:00', { holidays: ['2011-12-30', '2011-12-31'] });
    expect(shown(always, 'Pacific/Apia', '2011-12-29T20:00Z', '2012-02-01T00:00Z')).toEqual([
      '12-29T20:00/12-30T10:00',
      '12-31T10:00/never',
    ]);
  });
});

/** A few days about a change of the clock, or none. */
const NIGHTS: readonly (readonly [zone: string, start: string])[] = [
  ['Europe/Paris', '2026-03-26T00:00Z'],
  ['Europe/Paris', '2026-10-22T00:00Z'],
  ['America/New_York', '2026-03-05T00:00Z'],
  ['America/Santiago', '2026-09-03T00:00Z'],
  ['Australia/Sydney', '2026-04-02T00:00Z'],
  ['Australia/Lord_Howe', '2026-10-01T00:00Z'],
  ['Australia/Lord_Howe', '2026-04-02T00:00Z'],
  ['Pacific/Chatham', '2026-09-24T00:00Z'],
  ['Pacific/Chatham', '2026-04-02T00:00Z'],
  ['Pacific/Apia', '2011-12-27T00:00Z'],
  ['Asia/Beirut', '2026-03-26T00:00Z'],
  ['America/Havana', '2026-10-29T00:00Z'],
  ['America/St_Johns', '2010-11-04T00:00Z'],
  ['Atlantic/Azores', '2026-10-22T00:00Z'],
  ['Africa/Casablanca', '2026-02-12T00:00Z'],
  ['Antarctica/Troll', '2026-03-26T00:00Z'],
  ['Pacific/Kwajalein', '1993-08-18T00:00Z'],
  ['Asia/Kathmandu', '2026-05-01T00:00Z'],
];
const SCAN_DAYS = 6;
const scans = NIGHTS.map(([zone, start]) => scanWall(zone, start, SCAN_DAYS));

const time = fc.oneof(
  fc.integer({ min: 0, max: 1_439 }),
  // Near the hours at which clocks are changed.
  fc.integer({ min: 0, max: 16 }).map((quarter) => quarter * 15),
);
const text = (minute: number) =>
  `${String(Math.floor(minute / 60)).padStart(2, '0')}:${String(minute % 60).padStart(2, '0')}`;
const anyWindow = (scan: WallScan): fc.Arbitrary<SendWindow> => {
  const dates = Array.from({ length: SCAN_DAYS + 1 }, (_, day) =>
    new Date(scan.startMs + day * 1_440 * MINUTE_MS).toISOString().slice(0, 10),
  );
  return fc
    .record({
      from: time,
      to: fc.oneof(time, fc.constant(1_440)),
      whole: fc.integer({ min: 0, max: 9 }),
      days: fc.oneof(
        fc.constant([...WEEKDAYS]),
        fc.uniqueArray(fc.constantFrom(...WEEKDAYS), { minLength: 1 }),
      ),
      holidays: fc.oneof(fc.constant([]), fc.uniqueArray(fc.constantFrom(...dates), { maxLength: 2 })),
    })
    .filter(({ from, to }) => from !== to)
    .map(({ from, to, whole, days, holidays }) =>
      windowOf(whole === 0 ? '00:00-24:00' : `${text(from)}-${text(to)}`, { days, holidays }),
    );
};

/** What is known for sure: a day and a bit away from both ends of the scan, where spans are not cut off. */
const MARGIN = 1_500;

function compare(window: SendWindow, scan: WallScan, minute: number, restMs: number): void {
  const spans = scanWindow(window, scan);
  const at = new Date(scan.startMs + minute * MINUTE_MS + restMs);
  const instant = (index: number) => new Date(scan.startMs + index * MINUTE_MS);
  const span = spans.find(([, end]) => end > minute);
  const state = windowAt(window, scan.zone, at);
  const edge = scan.wall.length - MARGIN;
  if (span === undefined || span[0] > minute) {
    expect(state.open).toBe(false);
    if (!state.open && span !== undefined && span[0] < edge) expect(state.opensAt).toEqual(instant(span[0]));
    if (!state.open && (span === undefined || span[0] >= edge))
      expect(state.opensAt >= instant(edge)).toBe(true);
    return;
  }
  expect(state.open).toBe(true);
  if (state.open && span[1] < edge) expect(state.closesAt).toEqual(instant(span[1]));

  const sure = spans.filter(([, end]) => end > minute && end < edge);
  const found = [...intervals(window, scan.zone, at, { limit: sure.length })];
  expect(found).toEqual(
    sure.map(([begin, end]) => ({
      opensAt: begin <= minute ? at : instant(begin),
      closesAt: instant(end),
    })),
  );
}

describe('as a scan of the wall clock, minute by minute', () => {
  test.each(scans.map((scan) => [scan.zone, new Date(scan.startMs).toISOString(), scan] as const))(
    '%s from %s on',
    (_zone, _start, scan) => {
      const minutes = fc.integer({ min: MARGIN, max: scan.wall.length - MARGIN });
      const rest = fc.integer({ min: 0, max: MINUTE_MS - 1 });
      fc.assert(
        fc.property(anyWindow(scan), minutes, rest, (window, minute, restMs) =>
          compare(window, scan, minute, restMs),
        ),
        { numRuns: 60 },
      );
    },
  );

  test('recipients in 40 zones', () => {
    const names = Intl.supportedValuesOf('timeZone');
    const zones = Array.from(
      { length: 40 },
      (_, index) => names[Math.floor((index * names.length) / 40)] ?? 'UTC',
    );
    const own = windowOf('20:00-01:15', {
      timezone: 'recipient',
      fallbackTimezone: 'UTC',
      days: ['saturday'],
    });
    for (const recipientZone of zones) {
      const zone = zoneOf(own, recipientZone);
      expect(zone).toBe(recipientZone);
      const scan = scanWall(zone, '2026-10-22T00:00Z', 5);
      for (let minute = MARGIN; minute < scan.wall.length - MARGIN; minute += 97)
        compare(own, scan, minute, 1);
    }
  });
});

describe('the zone that holds', () => {
  const fixed = windowOf('09:00-10:00', { timezone: 'Europe/Paris' });
  const own = windowOf('09:00-10:00', { timezone: 'recipient', fallbackTimezone: 'Asia/Tokyo' });

  test.each<[string | undefined, string, string]>([
    [undefined, 'Europe/Paris', 'Asia/Tokyo'],
    ['America/Lima', 'Europe/Paris', 'America/Lima'],
    ['Mars/Olympus', 'Europe/Paris', 'Asia/Tokyo'],
    ['', 'Europe/Paris', 'Asia/Tokyo'],
    ['+02:00', 'Europe/Paris', 'Asia/Tokyo'],
    ['recipient', 'Europe/Paris', 'Asia/Tokyo'],
  ])('for a recipient in %s', (recipientZone, ofFixed, ofOwn) => {
    expect(zoneOf(fixed, recipientZone)).toBe(ofFixed);
    expect(zoneOf(own, recipientZone)).toBe(ofOwn);
  });
});

describe('refused', () => {
  const window = windowOf('09:00-10:00');
  test.each<[string, string, Date]>([
    ['Unknown time zone "Mars/Olympus"', 'Mars/Olympus', new Date(0)],
    ['The Date is invalid', 'UTC', new Date(Number.NaN)],
    ['The Date is outside the years 1970 to 9999', 'UTC', new Date(8.64e15)],
    ['The Date is outside the years 1970 to 9999', 'UTC', new Date(-1)],
  ])('%s', (message, zone, at) => {
    expect(() => windowAt(window, zone, at)).toThrow(new RangeError(message));
    expect(() => [...intervals(window, zone, at)]).toThrow(new RangeError(message));
  });
});

test('limits of the intervals', () => {
  const window = windowOf('09:00-10:00');
  const from = new Date('2026-01-01T09:30Z');
  const count = (options: object) => [...intervals(window, 'UTC', from, options)].length;
  expect(count({ limit: 0 })).toBe(0);
  expect(count({ limit: 3 })).toBe(3);
  expect(count({ until: from })).toBe(0);
  expect(count({ until: new Date('2026-01-02T09:00Z') })).toBe(1);
  expect(count({ until: new Date('2026-01-02T09:00:01Z') })).toBe(2);
  expect(count({ limit: 1, until: new Date('2026-01-02T09:00:01Z') })).toBe(1);
});
