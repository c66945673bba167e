/**
 * The days of the week, in the one order that everything here uses: from Monday, as ISO 8601 and luxon have them. Cron
 * counts from Sunday; only this file translates.
 */

export const WEEKDAYS = [
  'monday',
  'tuesday',
  'wednesday',
  'thursday',
  'friday',
  'saturday',
  'sunday',
] as const;
export type Weekday = (typeof WEEKDAYS)[number];

/** Its number in cron: Sunday is 0. */
export function cronNumberOf(weekday: Weekday): number {
  return (WEEKDAYS.indexOf(weekday) + 1) % 7;
}

/** The weekday of a number in cron, 0 to 7: both ends are Sunday. */
export function weekdayOfCron(number: number): Weekday {
  return WEEKDAYS[(number + 6) % 7] as Weekday;
}

/** The weekday of a day counted from 1 January 1970, which was a Thursday. */
export function weekdayOfDay(day: number): Weekday {
  return WEEKDAYS[(((day + 3) % 7) + 7) % 7] as Weekday;
}
