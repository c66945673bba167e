/** Rules for tests: checked ones from short inputs, and random ones with a predicate that does not use the package. */
import fc from 'fast-check';
import { checkRecurrence } from '../../src/core/recurrence-check.ts';
import type { Recurrence, RecurrenceInput } from '../../src/core/recurrence-rule.ts';
import { WEEKDAYS } from '../../src/core/weekdays.ts';
import type { WallPredicate } from './recurrence-oracle.ts';

export const CREATED = new Date('2026-01-01T00:00:00Z');

/** A checked rule; throws with all problems when it is refused. */
export function ruleOf(input: RecurrenceInput, now = CREATED): Recurrence {
  const { rule, problems } = checkRecurrence(input, { now });
  if (rule === undefined) throw new Error(problems.map(({ message }) => message).join('\n'));
  return rule;
}

export interface RandomRule {
  readonly input: RecurrenceInput;
  /** Whether a wall time belongs to the rule, given the wall time of the anchor. */
  readonly belongs: (anchorWall: number) => WallPredicate;
}

const DAY_MS = 86_400_000;
const hour = fc.integer({ min: 0, max: 23 });
const minute = fc.constantFrom<number>(0, 1, 15, 30, 45, 59);
const timeOfDay = fc.tuple(hour, minute);
const two = (value: number) => String(value).padStart(2, '0');
const at = ([h, m]: readonly [number, number]) => `${two(h)}:${two(m)}`;
const isAt = (wall: number, [h, m]: readonly [number, number]) =>
  Math.floor(wall / 60_000) % 1_440 === h * 60 + m;
const lastDay = (date: Date) =>
  new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();

/** `null` is `*`. */
const part = (value: fc.Arbitrary<number>) =>
  fc.oneof(fc.constant(null), fc.uniqueArray(value, { minLength: 1, maxLength: 4 }));
const text = (values: readonly number[] | null) => values?.join(',') ?? '*';
const has = (values: readonly number[] | null, value: number) => values?.includes(value) ?? true;

const cronRule = fc
  .record({
    minutes: fc.uniqueArray(minute, { minLength: 1, maxLength: 4 }),
    hours: part(hour),
    days: part(fc.integer({ min: 1, max: 31 })),
    months: part(fc.integer({ min: 1, max: 12 })),
    weekdays: part(fc.integer({ min: 0, max: 6 })),
  })
  // 30 and 31 alone may never occur.
  .filter(({ days, months }) => days === null || months === null || days.some((day) => day <= 28))
  .map(
    ({ minutes, hours, days, months, weekdays }): RandomRule => ({
      input: { cron: `${text(minutes)} ${text(hours)} ${text(days)} ${text(months)} ${text(weekdays)}` },
      belongs: () => (wall) => {
        const date = new Date(wall);
        if (!minutes.includes(date.getUTCMinutes()) || !has(hours, date.getUTCHours())) return false;
        if (!has(months, date.getUTCMonth() + 1)) return false;
        const ofMonth = has(days, date.getUTCDate());
        const ofWeek = has(weekdays, date.getUTCDay());
        return days !== null && weekdays !== null ? ofMonth || ofWeek : ofMonth && ofWeek;
      },
    }),
  );

const dailyRule = timeOfDay.map(
  (time): RandomRule => ({
    input: { daily: { at: at(time) } },
    belongs: () => (wall) => isAt(wall, time),
  }),
);

const weeklyRule = fc.tuple(fc.subarray([...WEEKDAYS], { minLength: 1 }), timeOfDay).map(
  ([on, time]): RandomRule => ({
    input: { weekly: { on, at: at(time) } },
    belongs: () => (wall) => isAt(wall, time) && on.some((day) => day === weekdayOf(new Date(wall))),
  }),
);

const monthlyRule = fc
  .tuple(fc.oneof(fc.integer({ min: 1, max: 31 }), fc.constant('last' as const)), timeOfDay)
  .map(
    ([on, time]): RandomRule => ({
      input: { monthly: { on, at: at(time) } },
      belongs: () => (wall) => {
        const date = new Date(wall);
        return isAt(wall, time) && date.getUTCDate() === (on === 'last' ? lastDay(date) : on);
      },
    }),
  );

const nthRule = fc.tuple(fc.constantFrom(1, 2, 3, 4, 5, -1), fc.constantFrom(...WEEKDAYS), timeOfDay).map(
  ([nth, weekday, time]): RandomRule => ({
    input: {
      monthly: { on: { nth: nth as 1, weekday }, at: at(time) },
    },
    belongs: () => (wall) => {
      const date = new Date(wall);
      if (!isAt(wall, time) || weekdayOf(date) !== weekday) return false;
      const day = date.getUTCDate();
      return nth === -1 ? day + 7 > lastDay(date) : Math.ceil(day / 7) === nth;
    },
  }),
);

const everyDaysRule = fc
  .tuple(fc.constantFrom('days' as const, 'weeks' as const), fc.integer({ min: 1, max: 5 }))
  .map(
    ([unit, count]): RandomRule => ({
      input: { every: { [unit]: count } },
      belongs: (anchor) => (wall) =>
        wall >= anchor && (wall - anchor) % (count * (unit === 'weeks' ? 7 : 1) * DAY_MS) === 0,
    }),
  );

const everyMonthsRule = fc.integer({ min: 1, max: 5 }).map(
  (count): RandomRule => ({
    input: { every: { months: count } },
    belongs: (anchor) => (wall) => {
      if (wall < anchor || (wall - anchor) % 60_000 !== 0 || wall % DAY_MS !== anchor % DAY_MS) return false;
      const from = new Date(anchor);
      const date = new Date(wall);
      const months =
        (date.getUTCFullYear() - from.getUTCFullYear()) * 12 + date.getUTCMonth() - from.getUTCMonth();
      return months % count === 0 && date.getUTCDate() === Math.min(from.getUTCDate(), lastDay(date));
    },
  }),
);

/** Rules of wall times, on full minutes. */
export const wallRule: fc.Arbitrary<RandomRule> = fc.oneof(
  { arbitrary: cronRule, weight: 3 },
  dailyRule,
  weeklyRule,
  monthlyRule,
  nthRule,
  everyDaysRule,
  everyMonthsRule,
);

export const dstRule = fc.record({
  gap: fc.constantFrom('shift' as const, 'skip' as const),
  overlap: fc.constantFrom('first' as const, 'last' as const, 'both' as const),
});

function weekdayOf(date: Date): string | undefined {
  return WEEKDAYS[(date.getUTCDay() + 6) % 7];
}
