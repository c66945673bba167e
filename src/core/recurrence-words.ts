/**
 * A recurrence rule in plain English, for people who look at a campaign. Invariant: what it cannot say in words it shows
 * as the cron expression; it never says something that is only nearly true.
 */
import { DateTime } from 'luxon';
import { capital, listed } from './plain-english.ts';
import type { MonthDay, Recurrence } from './recurrence-rule.ts';
import { cronNumberOf, WEEKDAYS, type Weekday, weekdayOfCron } from './weekdays.ts';

const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
];
const ORDINALS: Readonly<Record<string, string>> = {
  1: 'first',
  2: 'second',
  3: 'third',
  4: 'fourth',
  5: 'fifth',
  L: 'last',
};
const MAX_LISTED = 3;

/** `every weekday at 09:00, Europe/Berlin, until 31 December 2026 18:00, except 25 December 2026`. */
export function describe(rule: Recurrence): string {
  const { pattern, timezone, start, end, maxRuns, exclude } = rule;
  const parts = [patternWords(rule)];
  const elapsed = pattern.kind === 'every' && ['seconds', 'minutes', 'hours'].includes(pattern.unit);
  const hasDays = exclude.dates.length + exclude.weekdays.length > 0;
  if (!elapsed || start !== null || end !== null || hasDays) parts.push(timezone);
  if (start !== null) parts.push(`from ${moment(start, timezone)}`);
  if (end !== null) parts.push(`until ${moment(end, timezone)}`);
  if (maxRuns !== null) parts.push(maxRuns === 1 ? 'once' : `at most ${maxRuns} runs`);
  if (hasDays) parts.push(`except ${exceptWords(exclude)}`);
  return parts.join(', ');
}

function patternWords(rule: Recurrence): string {
  const { pattern, timezone, anchor } = rule;
  switch (pattern.kind) {
    case 'every': {
      const rhythm = every(pattern.count, pattern.unit.slice(0, -1));
      if (!['days', 'weeks', 'months'].includes(pattern.unit)) return rhythm;
      const at = DateTime.fromJSDate(anchor, { zone: timezone }).setLocale('en');
      const time = at.toFormat(at.second === 0 && at.millisecond === 0 ? 'HH:mm' : 'HH:mm:ss');
      if (pattern.unit === 'weeks') return `${rhythm} on ${at.toFormat('EEEE')} at ${time}`;
      if (pattern.unit === 'days') return `${rhythm} at ${time}`;
      const orLast = at.day > 28 ? ' (the last day of shorter months)' : '';
      return `${rhythm} on the ${ordinal(at.day)}${orLast} at ${time}`;
    }
    case 'daily':
      return `every day at ${pattern.at}`;
    case 'weekly':
      return `${weekdaysWords(pattern.on)} at ${pattern.at}`;
    case 'monthly':
      return `on ${monthDayWords(pattern.on)} of every month at ${pattern.at}`;
    case 'cron':
      return cronWords(pattern.cron) ?? `on the cron schedule \`${pattern.cron}\``;
  }
}

function monthDayWords(on: MonthDay): string {
  if (on === 'last') return 'the last day';
  if (typeof on === 'number') return `the ${ordinal(on)}`;
  return `the ${ORDINALS[on.nth === -1 ? 'L' : on.nth]} ${capital(on.weekday)}`;
}

const NICKNAMES: Readonly<Record<string, string>> = {
  '@hourly': '0 * * * *',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@weekly': '0 0 * * 0',
  '@monthly': '0 0 1 * *',
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
};

/** `undefined` where the expression has no short form in words. */
function cronWords(given: string): string | undefined {
  const fields = (NICKNAMES[given] ?? given).split(' ');
  const [weekday = '', month = '', day = '', hour = '', minute = '', second = '0'] = fields.reverse();
  const days = daysWords(day, month, weekday);
  if (days === undefined) return undefined;
  const times = timesOfDay(hour, minute, second);
  if (times !== undefined) return `${days} at ${listed(times)}`;
  const rhythm = rhythmWords(hour, minute, second);
  if (rhythm === undefined) return undefined;
  return days === 'every day' ? rhythm : `${rhythm}, ${days}`;
}

function timesOfDay(hour: string, minute: string, second: string): string[] | undefined {
  const hours = numbers(hour);
  if (hours === undefined || !isNumber(minute) || !isNumber(second)) return undefined;
  const seconds = Number(second) === 0 ? '' : `:${second.padStart(2, '0')}`;
  return hours.map((each) => `${two(each)}:${two(Number(minute))}${seconds}`);
}

/** Only steps that divide the minute, hour or day are a rhythm: every 7 minutes begins anew each hour. */
function rhythmWords(hour: string, minute: string, second: string): string | undefined {
  if (hour === '*' && minute === '*') {
    const step = stepOf(second, 60);
    if (step !== undefined) return every(step, 'second');
  }
  if (!isNumber(second) || Number(second) !== 0) return undefined;
  const minutes = stepOf(minute, 60);
  if (hour === '*' && minutes !== undefined) return every(minutes, 'minute');
  const hours = stepOf(hour, 24);
  if (hours === undefined || !isNumber(minute)) return undefined;
  const past = Number(minute);
  if (hours === 1) return past === 0 ? 'every hour' : `every hour at minute ${past}`;
  return past === 0 ? every(hours, 'hour') : `${every(hours, 'hour')} at minute ${past}`;
}

function daysWords(day: string, month: string, weekday: string): string | undefined {
  const months = month === '*' ? [] : numbers(month);
  if (months === undefined) return undefined;
  const inMonths = months.length === 0 ? '' : ` in ${listed(months.map((each) => MONTHS[each - 1] ?? ''))}`;
  const ofMonths = months.length === 0 ? 'of every month' : `of ${inMonths.slice(4)}`;
  if (day === '*' && weekday === '*') return `every day${inMonths}`;
  if (day === '*') {
    const nth = /^(\d)#([1-5L])$/.exec(weekdayNumbers(weekday));
    if (nth !== null)
      return `on the ${ORDINALS[nth[2] ?? '']} ${capital(weekdayOfCron(Number(nth[1])))} ${ofMonths}`;
    const range = /^(\d)-(\d)$/.exec(weekdayNumbers(weekday));
    if (range !== null) {
      const from = Number(range[1]);
      const days = Array.from({ length: Number(range[2]) - from + 1 }, (_, index) => from + index);
      return `${weekdaysWords(days.map(weekdayOfCron))}${inMonths}`;
    }
    const days = numbers(weekdayNumbers(weekday));
    return days === undefined ? undefined : `${weekdaysWords(days.map(weekdayOfCron))}${inMonths}`;
  }
  if (weekday !== '*') return undefined;
  if (day === 'L') return `on the last day ${ofMonths}`;
  const days = numbers(day);
  return days === undefined ? undefined : `on the ${listed(days.map(ordinal))} ${ofMonths}`;
}

function weekdaysWords(days: readonly Weekday[]): string {
  const inOrder = WEEKDAYS.filter((day) => days.includes(day));
  if (inOrder.length === 7) return 'every day';
  if (inOrder.join() === WEEKDAYS.slice(0, 5).join()) return 'every weekday';
  return `every ${listed(inOrder.map(capital))}`;
}

function weekdayNumbers(field: string): string {
  return field.toUpperCase().replace(/[A-Z]{3}/g, (name) => {
    const weekday = WEEKDAYS.find((day) => day.toUpperCase().startsWith(name));
    return weekday === undefined ? name : String(cronNumberOf(weekday));
  });
}

function exceptWords(exclude: {
  readonly dates: readonly string[];
  readonly weekdays: readonly Weekday[];
}): string {
  const names = exclude.weekdays.map((day) => `${capital(day)}s`);
  const shown = exclude.dates.slice(0, MAX_LISTED);
  const dates = shown.map((date) =>
    DateTime.fromISO(date, { zone: 'utc' }).setLocale('en').toFormat('d LLLL yyyy'),
  );
  const hidden = exclude.dates.length - shown.length;
  return listed([
    ...names,
    ...dates,
    ...(hidden > 0 ? [`${hidden} more date${hidden === 1 ? '' : 's'}`] : []),
  ]);
}

function moment(at: Date, zone: string): string {
  return DateTime.fromJSDate(at, { zone }).setLocale('en').toFormat('d LLLL yyyy HH:mm');
}

function every(count: number, unit: string): string {
  return count === 1 ? `every ${unit}` : `every ${count} ${unit}s`;
}

/** The step of `*` or a `*` with a step that divides `size`. */
function stepOf(field: string, size: number): number | undefined {
  const step = field === '*' ? 1 : Number(/^\*\/(\d+)$/.exec(field)?.[1] ?? Number.NaN);
  return step < size && size % step === 0 ? step : undefined;
}

/** `1,15` as numbers in order; `undefined` for anything else. */
function numbers(field: string): number[] | undefined {
  if (!/^\d+(,\d+)*$/.test(field)) return undefined;
  return [...new Set(field.split(',').map(Number))].sort((a, b) => a - b);
}

function isNumber(field: string): boolean {
  return /^\d+$/.test(field);
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}

function ordinal(day: number): string {
  const teen = day >= 11 && day <= 13;
  const ending = teen ? 'th' : (['th', 'st', 'nd', 'rd'][day % 10] ?? 'th');
  return `${day}${ending}`;
}
