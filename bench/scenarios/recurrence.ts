/** Computing 10,000 next occurrences, one after another, for rules of every kind; beside croner and luxon alone. */
import { Cron } from 'croner';
import { DateTime } from 'luxon';
import { nextOccurrence, previousOccurrence } from '../../src/core/recurrence.ts';
import { checkRecurrence } from '../../src/core/recurrence-check.ts';
import type { Recurrence, RecurrenceInput } from '../../src/core/recurrence-rule.ts';
import { figure, median, perSecond, thousands } from '../report.ts';

const COUNT = Number(process.env.BENCH_COUNT ?? 10_000);
const RUNS = 3;
const BACK = COUNT / 5;
const START = '2026-01-01T00:00:00Z';
const BERLIN = 'Europe/Berlin';

/** The next occurrence after one, in the way that a user of the library alone would ask for it. */
type Next = (after: Date) => Date | null;

const croner =
  (pattern: string, timezone: string): (() => Next) =>
  () => {
    const job = new Cron(pattern, { timezone });
    return (after) => job.nextRun(after);
  };
const luxon =
  (step: object, zone: string): (() => Next) =>
  () =>
  (after) =>
    DateTime.fromJSDate(after, { zone }).plus(step).toJSDate();

const RULES: readonly { what: string; input: RecurrenceInput; alone?: [string, () => Next] }[] = [
  {
    what: 'cron */5 * * * *',
    input: { cron: '*/5 * * * *' },
    alone: ['croner', croner('*/5 * * * *', 'UTC')],
  },
  {
    what: 'cron 0 9 * * MON-FRI, Berlin',
    input: { cron: '0 9 * * MON-FRI', timezone: BERLIN },
    alone: ['croner', croner('0 9 * * MON-FRI', BERLIN)],
  },
  {
    what: 'cron */10 * * * * * (seconds)',
    input: { cron: '*/10 * * * * *' },
    alone: ['croner', croner('*/10 * * * * *', 'UTC')],
  },
  {
    what: 'cron 0 30 2 * * * (the hour that is skipped and repeated), Berlin',
    input: { cron: '0 30 2 * * *', timezone: BERLIN },
    alone: ['croner', croner('0 30 2 * * *', BERLIN)],
  },
  {
    what: 'every 7 minutes',
    input: { every: { minutes: 7 } },
    alone: ['luxon', luxon({ minutes: 7 }, 'UTC')],
  },
  {
    what: 'every 3 days, New York',
    input: { every: { days: 3 }, timezone: 'America/New_York' },
    alone: ['luxon', luxon({ days: 3 }, 'America/New_York')],
  },
  {
    what: 'every month, Lord Howe',
    input: { every: { months: 1 }, timezone: 'Australia/Lord_Howe' },
    alone: ['luxon', luxon({ months: 1 }, 'Australia/Lord_Howe')],
  },
  {
    what: 'daily at 09:00, Lord Howe',
    input: { daily: { at: '09:00' }, timezone: 'Australia/Lord_Howe' },
    alone: ['croner', croner('0 0 9 * * *', 'Australia/Lord_Howe')],
  },
  {
    what: 'weekly on Monday and Thursday, Chatham',
    input: { weekly: { on: ['monday', 'thursday'], at: '09:00' }, timezone: 'Pacific/Chatham' },
    alone: ['croner', croner('0 0 9 * * 1,4', 'Pacific/Chatham')],
  },
  {
    what: 'monthly on the second Tuesday, New York',
    input: { monthly: { on: { nth: 2, weekday: 'tuesday' }, at: '09:00' }, timezone: 'America/New_York' },
    alone: ['croner', croner('0 0 9 * * 2#2', 'America/New_York')],
  },
  {
    what: 'monthly on the last day, Berlin',
    input: { monthly: { on: 'last', at: '18:00' }, timezone: BERLIN },
    alone: ['croner', croner('0 0 18 L * *', BERLIN)],
  },
];

const ruleOf = (input: RecurrenceInput): Recurrence => {
  const { rule, problems } = checkRecurrence({ start: START, ...input }, { now: new Date(START) });
  if (rule === undefined) throw new Error(problems.map(({ message }) => message).join('\n'));
  return rule;
};

/** Walks `COUNT` occurrences on, from the start again where a rule has no more (the year 3000). Returns CPU time, ms. */
function walk(next: Next, count: number): number {
  const from = process.cpuUsage();
  let at = new Date(START);
  for (let n = 0; n < count; n += 1) at = next(at) ?? new Date(START);
  const { user, system } = process.cpuUsage(from);
  return (user + system) / 1000;
}

const rate = (makeNext: () => Next, count = COUNT): number => {
  walk(makeNext(), count / 10); // warm
  return median(Array.from({ length: RUNS }, () => perSecond(count, walk(makeNext(), count))));
};
const shown = (perS: number): string => `${thousands(perS)}/s, ${(1e6 / perS).toFixed(1)} µs`;

for (const { what, input, alone } of RULES) {
  const rule = ruleOf(input);
  const ours = rate(() => (after) => nextOccurrence(rule, after));
  figure(`${thousands(COUNT)} next: ${what}`, shown(ours));
  if (alone === undefined) continue;
  const reference = rate(alone[1]);
  figure(`  ${alone[0]} alone, same run`, shown(reference));
  figure('  ours as a multiple of it', (ours / reference).toFixed(1));
}

const stored = JSON.stringify(ruleOf({ cron: '0 9 * * MON-FRI', timezone: BERLIN }));
const fresh = (): Recurrence => {
  const read = JSON.parse(stored) as Recurrence;
  return { ...read, anchor: new Date(read.anchor), start: new Date(START), end: null };
};
figure(
  'cron 0 9 * * MON-FRI, Berlin, the rule read anew each time',
  shown(rate(() => (after) => nextOccurrence(fresh(), after))),
);
figure(
  '  croner alone, pattern parsed anew for each',
  shown(rate(() => (after) => new Cron('0 9 * * MON-FRI', { timezone: BERLIN }).nextRun(after))),
);
const backwards = ruleOf({ cron: '0 9 * * MON-FRI', timezone: BERLIN });
const FAR = new Date('2040-01-01T00:00:00Z');
let before = FAR;
figure(
  '  the previous occurrence, walking back',
  shown(
    rate(
      () => () => {
        before = previousOccurrence(backwards, before) ?? FAR;
        return before;
      },
      BACK,
    ),
  ),
);
