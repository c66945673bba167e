/**
 * Checks the rule of a recurring campaign and fills in its defaults. Invariant: a rule that passes occurs at least once,
 * so nothing can be scheduled that never comes; every problem of an input is reported at once.
 */
import { checkCron } from './cron-check.ts';
import { exactlyOne, expectation, type Problem } from './expectation.ts';
import { isPlainObject, kindOf } from './plain-data.ts';
import { isTimeZone } from './recipient.ts';
import { firstOfPattern, occurrencesBetween } from './recurrence.ts';
import { FieldReader } from './recurrence-fields.ts';
import {
  cronOf,
  INTERVAL_UNITS,
  type IntervalUnit,
  keepsRhythm,
  type MonthDay,
  type Recurrence,
  type RecurrencePattern,
} from './recurrence-rule.ts';
import { WEEKDAYS } from './weekdays.ts';

export type CheckedRecurrence =
  | { readonly rule: Recurrence; readonly problems?: undefined }
  | { readonly problems: readonly Problem[]; readonly rule?: undefined };

export interface RecurrenceContext {
  /** When the rule is made, or changed: where a rule without `start` begins. */
  readonly now: Date;
  /** Where the rule stands in the input, for messages. Default: `recurrence`. */
  readonly path?: string | undefined;
}

const PATTERN_KEYS = ['cron', 'every', 'daily', 'weekly', 'monthly'] as const;
const KEYS = [
  ...PATTERN_KEYS,
  'timezone',
  'start',
  'end',
  'maxRuns',
  'exclude',
  'jitterMs',
  'dst',
  'misfire',
  'misfireWindowMs',
  'overlap',
];
/** Ten years of each unit. */
const MOST = {
  seconds: 315_360_000,
  minutes: 5_256_000,
  hours: 87_600,
  days: 3_650,
  weeks: 520,
  months: 120,
} as const satisfies Record<IntervalUnit, number>;
const MAX_EXCLUDED_DATES = 1_000;
const MAX_JITTER_MS = 86_400_000;
const MAX_MISFIRE_WINDOW_MS = 315_360_000_000;
/** The longest that a rule may take to occur: two leap years are eight years apart around 2100. */
const MAX_WAIT_MS = (8 * 366 + 1) * 86_400_000;

/** Never throws for a bad input. */
export function checkRecurrence(input: unknown, context: RecurrenceContext): CheckedRecurrence {
  const path = context.path ?? 'recurrence';
  const problems: Problem[] = [];
  const reader = FieldReader.of(input, path, KEYS, problems);
  if (reader === undefined) return { problems };

  const pattern = readPattern(reader, path);
  const start = reader.has('start') ? reader.instant('start') : null;
  const end = reader.has('end') ? reader.instant('end') : null;
  const nowSecond = new Date(Math.floor(context.now.getTime() / 1_000) * 1_000);
  const rest = {
    timezone: readTimezone(reader),
    maxRuns: reader.has('maxRuns') ? reader.integer('maxRuns', 1, 1_000_000) : null,
    exclude: readExclude(reader),
    jitterMs: reader.has('jitterMs') ? reader.integer('jitterMs', 0, MAX_JITTER_MS) : 0,
    dst: readDst(reader, pattern),
    misfire: reader.has('misfire') ? reader.oneOf('misfire', ['once', 'skip', 'all']) : 'once',
    misfireWindowMs: reader.has('misfireWindowMs')
      ? reader.integer('misfireWindowMs', 0, MAX_MISFIRE_WINDOW_MS)
      : null,
    overlap: reader.has('overlap') ? reader.oneOf('overlap', ['skip', 'queue']) : 'skip',
  };
  if (start instanceof Date && end instanceof Date && end < start) {
    reader.refuse('end', `at or after \`start\`, ${start.toISOString()}`);
  }
  if (problems.length > 0) return { problems };
  // Whatever is undefined has left a problem behind.
  const rule = Object.freeze({ pattern, start, anchor: start ?? nowSecond, end, ...rest } as Recurrence);
  const never = neverOccurs(rule, path);
  return never === undefined ? { rule } : { problems: [never] };
}

function readPattern(reader: FieldReader, path: string): RecurrencePattern | undefined {
  const given = PATTERN_KEYS.filter((key) => reader.has(key));
  const [kind] = given;
  if (kind === undefined || given.length > 1) {
    reader.problems.push({ path, message: exactlyOne(path, PATTERN_KEYS, given) });
    return undefined;
  }
  const value = reader.value(kind);
  if (kind === 'cron') {
    const { cron, problem } = checkCron(value, reader.pathOf('cron'));
    return problem === undefined ? { kind, cron } : reader.note('cron', problem);
  }
  if (kind === 'every') return readEvery(reader, value);
  const known = { daily: ['at'], weekly: ['on', 'at'], monthly: ['on', 'at'] }[kind];
  const fields = FieldReader.of(value, reader.pathOf(kind), known, reader.problems);
  const at = fields?.timeOfDay('at');
  if (kind === 'daily') return at === undefined ? undefined : { kind, at };
  if (kind === 'weekly') {
    const on = fields?.weekdays('on');
    return at === undefined || on === undefined ? undefined : { kind, on, at };
  }
  const on = fields === undefined ? undefined : readMonthDay(fields);
  return at === undefined || on === undefined ? undefined : { kind, on, at };
}

function readEvery(reader: FieldReader, value: unknown): RecurrencePattern | undefined {
  const fields = FieldReader.of(value, reader.pathOf('every'), INTERVAL_UNITS, reader.problems);
  if (fields === undefined) return undefined;
  const units = INTERVAL_UNITS.filter((unit) => fields.has(unit));
  const [unit] = units;
  if (unit === undefined || units.length > 1) {
    return reader.note('every', exactlyOne(reader.pathOf('every'), INTERVAL_UNITS, units));
  }
  const count = fields.integer(unit, 1, MOST[unit]);
  return count === undefined ? undefined : { kind: 'every', unit, count };
}

function readMonthDay(fields: FieldReader): MonthDay | undefined {
  const value = fields.value('on');
  if (value === 'last') return value;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 31) return value;
  if (!isPlainObject(value)) {
    return fields.refuse('on', 'a day from 1 to 31, `last`, or an object with nth and weekday');
  }
  const inner = FieldReader.of(value, fields.pathOf('on'), ['nth', 'weekday'], fields.problems);
  const weekday = inner?.oneOf('weekday', WEEKDAYS);
  const nth = ([1, 2, 3, 4, 5, -1] as const).find((known) => known === value.nth);
  if (nth === undefined) return inner?.refuse('nth', 'an integer from 1 to 5, or -1 for the last');
  return weekday === undefined ? undefined : { nth, weekday };
}

function readTimezone(reader: FieldReader): string | undefined {
  const value = reader.value('timezone') ?? 'UTC';
  if (typeof value === 'string' && value.length <= 64 && isTimeZone(value)) return value;
  return reader.refuse('timezone', 'an IANA time zone such as `Europe/Paris`');
}

function readExclude(reader: FieldReader): Recurrence['exclude'] | undefined {
  if (!reader.has('exclude')) return { dates: [], weekdays: [] };
  const path = reader.pathOf('exclude');
  const fields = FieldReader.of(reader.value('exclude'), path, ['dates', 'weekdays'], reader.problems);
  if (fields === undefined) return undefined;
  const dates = fields.has('dates') ? fields.dates('dates', MAX_EXCLUDED_DATES) : [];
  const isEmpty = !fields.has('weekdays') || (fields.value('weekdays') as { length?: unknown }).length === 0;
  const weekdays = isEmpty ? [] : fields.weekdays('weekdays');
  if (weekdays?.length === WEEKDAYS.length) {
    return fields.note(
      'weekdays',
      `Expected \`${path}.weekdays\` to leave at least one weekday, got all seven`,
    );
  }
  return dates === undefined || weekdays === undefined ? undefined : { dates, weekdays };
}

function readDst(reader: FieldReader, pattern: RecurrencePattern | undefined): Recurrence['dst'] | undefined {
  const rhythm = pattern?.kind === 'cron' && keepsRhythm(pattern.cron);
  const defaults = { gap: 'shift', overlap: rhythm ? 'both' : 'first' } as const;
  if (!reader.has('dst')) return defaults;
  const fields = FieldReader.of(
    reader.value('dst'),
    reader.pathOf('dst'),
    ['gap', 'overlap'],
    reader.problems,
  );
  if (fields === undefined) return undefined;
  const gap = fields.has('gap') ? fields.oneOf('gap', ['shift', 'skip']) : defaults.gap;
  const overlap = fields.has('overlap')
    ? fields.oneOf('overlap', ['first', 'last', 'both'])
    : defaults.overlap;
  return gap === undefined || overlap === undefined ? undefined : { gap, overlap };
}

/** Blames the first part of the rule without which it would occur. */
function neverOccurs(rule: Recurrence, path: string): Problem | undefined {
  const untilMs = rule.anchor.getTime() + MAX_WAIT_MS;
  const first = firstOfPattern(rule, untilMs);
  if (first === null) {
    const key = `${path}.${rule.pattern.kind}`;
    const cron = cronOf(rule.pattern) ?? kindOf(rule.pattern);
    const what = 'occur within 8 years of its start';
    const message = `Expected \`${key}\` to ${what}, got \`${cron}\`, which does not (30 February never comes, other dates after more years)`;
    return { path: key, message };
  }
  if (rule.end !== null && first > rule.end) {
    const what = `at or after the first occurrence, ${first.toISOString()}`;
    return { path: `${path}.end`, message: expectation(`${path}.end`, what, rule.end.toISOString()) };
  }
  if (occurrencesBetween(rule, rule.anchor, new Date(untilMs), 1).occurrences.length > 0) return undefined;
  const span = rule.end === null ? 'in 8 years' : `until ${rule.end.toISOString()}`;
  const message = `Expected \`${path}.exclude\` to leave at least one occurrence ${span}, got none left`;
  return { path: `${path}.exclude`, message };
}
