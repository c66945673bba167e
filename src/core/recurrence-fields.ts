/**
 * Reads single fields of a recurrence rule. Invariant: a reader never throws; it answers with the value, or notes the
 * problem under the field's full path and answers `undefined`.
 */
import { DateTime } from 'luxon';
import { expectation, type Problem } from './expectation.ts';
import { isPlainObject } from './plain-data.ts';
import { LAST_INSTANT_MS } from './recurrence-rule.ts';
import { WEEKDAYS, type Weekday } from './weekdays.ts';

/** Words of other schedulers, and ours for them. */
const OTHER_WORDS: Readonly<Record<string, string>> = {
  tz: 'timezone',
  zone: 'timezone',
  expression: 'cron',
  schedule: 'cron',
  interval: 'every',
  startat: 'start',
  startdate: 'start',
  from: 'start',
  endat: 'end',
  enddate: 'end',
  until: 'end',
  to: 'end',
  limit: 'maxRuns',
  count: 'maxRuns',
  times: 'maxRuns',
  jitter: 'jitterMs',
  misfirewindow: 'misfireWindowMs',
  except: 'exclude',
  days: 'weekdays',
  time: 'at',
};

const INSTANT =
  'a Date, a luxon DateTime or an ISO string with offset such as `2026-03-01T09:00:00+01:00`, from 1970 to 2999';
const ENDS_WITH_OFFSET = /T.*(?:Z|[+-]\d{2}(?::?\d{2})?)$/i;

/** Reads the fields of one object and gathers what is wrong with them. */
export class FieldReader {
  readonly problems: Problem[];
  readonly #path: string;
  readonly #fields: Readonly<Record<string, unknown>>;

  private constructor(path: string, fields: Readonly<Record<string, unknown>>, problems: Problem[]) {
    this.#path = path;
    this.#fields = fields;
    this.problems = problems;
  }

  /** `undefined` when the value is no object; keys that are not `known` are problems. */
  static of(
    value: unknown,
    path: string,
    known: readonly string[],
    problems: Problem[],
  ): FieldReader | undefined {
    if (!isPlainObject(value)) {
      problems.push({ path, message: expectation(path, `an object with ${known.join(', ')}`, value) });
      return undefined;
    }
    const reader = new FieldReader(path, value, problems);
    for (const key of Object.keys(value)) {
      if (value[key] !== undefined && !known.includes(key)) reader.#unknown(key, known);
    }
    return reader;
  }

  value(key: string): unknown {
    return this.#fields[key] ?? undefined;
  }

  has(key: string): boolean {
    return this.value(key) !== undefined;
  }

  pathOf(key: string): string {
    return `${this.#path}.${key}`;
  }

  /** Notes that a field is not what it should be. */
  refuse(key: string, what: string): undefined {
    return this.note(key, expectation(this.pathOf(key), what, this.#fields[key]));
  }

  note(key: string, message: string): undefined {
    this.problems.push({ path: this.pathOf(key), message });
    return undefined;
  }

  integer(key: string, least: number, most: number): number | undefined {
    const value = this.value(key);
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most)
      return value;
    return this.refuse(key, `an integer from ${least} to ${most}`);
  }

  oneOf<const T extends string>(key: string, values: readonly T[]): T | undefined {
    const value = values.find((known) => known === this.value(key));
    return value ?? this.refuse(key, `one of ${values.join(', ')}`);
  }

  /** `HH:mm` or `HH:mm:ss`. */
  timeOfDay(key: string): string | undefined {
    const value = this.value(key);
    if (typeof value === 'string' && /^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$/.test(value)) return value;
    return this.refuse(key, 'a time of day `HH:mm` or `HH:mm:ss`, such as `09:00`');
  }

  /** In the order of the week, each once. */
  weekdays(key: string): readonly Weekday[] | undefined {
    const value = this.value(key);
    if (Array.isArray(value) && value.length > 0 && value.every((day) => WEEKDAYS.includes(day))) {
      return WEEKDAYS.filter((day) => value.includes(day));
    }
    return this.refuse(key, `a list of ${WEEKDAYS.join(', ')}`);
  }

  /** `yyyy-MM-dd`, sorted, each once. */
  dates(key: string, most: number): readonly string[] | undefined {
    const value = this.value(key);
    const what = `a list of at most ${most} dates \`yyyy-MM-dd\``;
    if (!Array.isArray(value) || value.length > most) return this.refuse(key, what);
    for (const [index, date] of value.entries()) {
      if (typeof date === 'string' && isDate(date)) continue;
      const path = `${this.pathOf(key)}.${index}`;
      this.problems.push({ path, message: expectation(path, 'an existing date `yyyy-MM-dd`', date) });
      return undefined;
    }
    return [...new Set<string>(value)].sort();
  }

  instant(key: string): Date | undefined {
    const value = this.value(key);
    const atMs = instantMs(value);
    if (atMs !== undefined && atMs >= 0 && atMs <= LAST_INSTANT_MS) return new Date(atMs);
    return this.refuse(key, INSTANT);
  }

  #unknown(key: string, known: readonly string[]): void {
    const plain = key.toLowerCase().replace(/[-_]/g, '');
    const meant = known.find((name) => name.toLowerCase() === plain || name === OTHER_WORDS[plain]);
    const hint = meant === undefined ? `. Known keys: ${known.join(', ')}` : `. Did you mean \`${meant}\`?`;
    this.note(key, `Unknown key \`${this.pathOf(key)}\`${hint}`);
  }
}

function instantMs(value: unknown): number | undefined {
  if (value instanceof Date) return value.getTime();
  if (DateTime.isDateTime(value)) return value.toMillis();
  if (typeof value !== 'string' || !ENDS_WITH_OFFSET.test(value)) return undefined;
  return DateTime.fromISO(value).toMillis();
}

/** 2026-02-30 is not one. */
function isDate(text: string): boolean {
  return /^\d{4}-\d{2}-\d{2}$/.test(text) && DateTime.fromISO(text, { zone: 'utc' }).isValid;
}
