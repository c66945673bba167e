/** Instants as people write them: an offset is a must. */
import fc from 'fast-check';
import { DateTime, FixedOffsetZone } from 'luxon';
import { describe, expect, test } from 'vitest';
import { instantOf, instantProblem } from '../../src/core/instant.ts';

describe('an instant', () => {
  test.each([
    ['2026-03-01T09:00:00+01:00', '2026-03-01T08:00:00.000Z'],
    ['2026-03-01T08:00:00Z', '2026-03-01T08:00:00.000Z'],
    ['2026-03-01T08:00:00.250z', '2026-03-01T08:00:00.250Z'],
    ['2026-03-01T10:30+0530', '2026-03-01T05:00:00.000Z'],
    ['20260301T090000+01', '2026-03-01T08:00:00.000Z'],
    ['1999-01-01T00:00:00Z', '1999-01-01T00:00:00.000Z'],
  ])('%s is an instant', (sendAt, instant) => {
    expect(instantProblem(sendAt, 'sendAt')).toBeUndefined();
    expect(new Date(instantOf(sendAt)).toISOString()).toBe(instant);
  });

  test.each([
    ['2026-03-01T09:00:00', '2026-03-01T09:00:00Z'],
    ['2026-03-01T09:00', '2026-03-01T09:00:00Z'],
    ['2026-03-01', '2026-03-01T00:00:00Z'],
    ['2026-03', '2026-03-01T00:00:00Z'],
    ['20260301', '2026-03-01T00:00:00Z'],
  ])('%s has no offset and is refused with an example', (sendAt, example) => {
    const problem = instantProblem(sendAt, 'sendAt');
    expect(problem).toContain('without an offset nobody can know which instant that is');
    expect(problem).toContain(`for example ${example}`);
  });

  test.each<[string, unknown, string]>([
    ['an invalid Date', new Date('x'), 'got an invalid Date'],
    ['an invalid DateTime', DateTime.fromISO('x'), 'got an invalid DateTime'],
    ['no date', 'tomorrow', 'got `tomorrow` (string)'],
    ['no such day', '2026-02-30T00:00:00Z', 'got `2026-02-30T00:00:00Z` (string)'],
    ['a number', 1_700_000_000_000, 'got `1700000000000` (number)'],
    ['null', null, 'got null'],
  ])('%s is refused', (_name, sendAt, message) => {
    expect(instantProblem(sendAt, 'sendAt')).toContain(message);
  });

  test('a Date and a DateTime are taken as the instant they are', () => {
    const instant = Date.UTC(2030, 0, 1);
    const inTokyo = DateTime.fromISO('2030-01-01T09:00:00', { zone: 'Asia/Tokyo' });
    for (const value of [new Date(instant), inTokyo]) {
      expect(instantProblem(value, 'sendAt')).toBeUndefined();
      expect(instantOf(value)).toBe(instant);
    }
  });

  test('any instant survives being written with any offset', () => {
    const instant = fc.date({ min: new Date(0), max: new Date('2100-01-01T00:00:00Z'), noInvalidDate: true });
    const offset = fc.integer({ min: -12 * 60, max: 14 * 60 });
    fc.assert(
      fc.property(instant, offset, (date, minutes) => {
        const written = DateTime.fromJSDate(date, { zone: FixedOffsetZone.instance(minutes) }).toISO() ?? '';
        expect(instantProblem(written, 'sendAt')).toBeUndefined();
        expect(instantOf(written)).toBe(date.getTime());
      }),
    );
  });
});
