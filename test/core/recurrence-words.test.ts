/** Rules in English. */
import { expect, test } from 'vitest';
import type { RecurrenceInput } from '../../src/core/recurrence-rule.ts';
import { describe as inWords } from '../../src/core/recurrence-words.ts';
import { ruleOf } from './recurrence-rules.ts';

test.each<[RecurrenceInput, string]>([
  [{ cron: '0 9 * * 1-5', timezone: 'Europe/Berlin' }, 'every weekday at 09:00, Europe/Berlin'],
  [{ cron: '0 9 * * MON-FRI' }, 'every weekday at 09:00, UTC'],
  [{ cron: '0 9 * * *' }, 'every day at 09:00, UTC'],
  [{ cron: '30 5 9 * * *' }, 'every day at 09:05:30, UTC'],
  [{ cron: '0 9,17 * * *' }, 'every day at 09:00 and 17:00, UTC'],
  [{ cron: '0 9 * * 6,0' }, 'every Saturday and Sunday at 09:00, UTC'],
  [{ cron: '0 9 * * 5-7' }, 'every Friday, Saturday and Sunday at 09:00, UTC'],
  [{ cron: '* * * * *' }, 'every minute, UTC'],
  [{ cron: '* * * * * *' }, 'every second, UTC'],
  [{ cron: '*/10 * * * * *' }, 'every 10 seconds, UTC'],
  [{ cron: '*/15 * * * *' }, 'every 15 minutes, UTC'],
  [{ cron: '*/15 * * * 1' }, 'every 15 minutes, every Monday, UTC'],
  [{ cron: '0 * * * *' }, 'every hour, UTC'],
  [{ cron: '5 * * * *' }, 'every hour at minute 5, UTC'],
  [{ cron: '0 */6 * * *' }, 'every 6 hours, UTC'],
  [{ cron: '0 9 1,15 * *' }, 'on the 1st and 15th of every month at 09:00, UTC'],
  [{ cron: '0 9 L * *' }, 'on the last day of every month at 09:00, UTC'],
  [{ cron: '0 9 22 1,7 *' }, 'on the 22nd of January and July at 09:00, UTC'],
  [{ cron: '0 9 * * 1#2' }, 'on the second Monday of every month at 09:00, UTC'],
  [{ cron: '0 9 * 3 FRI#L' }, 'on the last Friday of March at 09:00, UTC'],
  [{ cron: '0 9 * 12 *' }, 'every day in December at 09:00, UTC'],
  [{ cron: '@weekly' }, 'every Sunday at 00:00, UTC'],
  [{ cron: '@yearly' }, 'on the 1st of January at 00:00, UTC'],
  // What has no words keeps its form: a step of 7 begins anew every hour; a day or a weekday.
  [{ cron: '*/7 * * * *' }, 'on the cron schedule `*/7 * * * *`, UTC'],
  [{ cron: '0 9 13 * 5' }, 'on the cron schedule `0 9 13 * 5`, UTC'],
  [{ cron: '0 9 15W * *' }, 'on the cron schedule `0 9 15W * *`, UTC'],
  [{ cron: '0 9 * * 5L' }, 'on the cron schedule `0 9 * * 5L`, UTC'],
  [{ cron: '10-20 9 * * *' }, 'on the cron schedule `10-20 9 * * *`, UTC'],
  [{ every: { minutes: 90 } }, 'every 90 minutes'],
  [{ every: { hours: 1 } }, 'every hour'],
  [
    { every: { hours: 6 }, start: '2026-03-01T09:00:00+01:00', timezone: 'Europe/Berlin' },
    'every 6 hours, Europe/Berlin, from 1 March 2026 09:00',
  ],
  [
    { every: { weeks: 2 }, start: '2026-03-02T08:00:00Z' },
    'every 2 weeks on Monday at 08:00, UTC, from 2 March 2026 08:00',
  ],
  [{ every: { days: 1 } }, 'every day at 00:00, UTC'],
  [
    { every: { months: 3 }, start: '2026-01-31T08:00:00Z' },
    'every 3 months on the 31st (the last day of shorter months) at 08:00, UTC, from 31 January 2026 08:00',
  ],
  [{ daily: { at: '09:00' }, maxRuns: 1 }, 'every day at 09:00, UTC, once'],
  [{ weekly: { on: ['sunday', 'monday'], at: '09:00' } }, 'every Monday and Sunday at 09:00, UTC'],
  [{ monthly: { on: 3, at: '09:00' } }, 'on the 3rd of every month at 09:00, UTC'],
  [{ monthly: { on: 12, at: '09:00' } }, 'on the 12th of every month at 09:00, UTC'],
  [{ monthly: { on: 'last', at: '09:00' } }, 'on the last day of every month at 09:00, UTC'],
  [
    { monthly: { on: { nth: -1, weekday: 'friday' }, at: '16:00' } },
    'on the last Friday of every month at 16:00, UTC',
  ],
  [
    {
      daily: { at: '09:00' },
      timezone: 'Europe/Berlin',
      end: '2026-12-31T18:00:00+01:00',
      maxRuns: 10,
      exclude: {
        dates: ['2026-12-25', '2026-05-01', '2026-10-03', '2026-12-26', '2026-06-04'],
        weekdays: ['sunday'],
      },
    },
    'every day at 09:00, Europe/Berlin, until 31 December 2026 18:00, at most 10 runs, ' +
      'except Sundays, 1 May 2026, 4 June 2026, 3 October 2026 and 2 more dates',
  ],
])('%j', (input, words) => {
  expect(inWords(ruleOf(input))).toBe(words);
});
