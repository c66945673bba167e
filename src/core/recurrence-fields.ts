/**
 * Reads single fields of a recurrence rule. Invariant: a reader never throws; it answers with the value, or notes the
 * problem under the field's full path and answers `undefined`.
 */
import { expectation, integerProblems, type Problem, unknownKeyMessage } from './expectation.ts';
import { dateProblems, type InstantInput, instantOf, instantProblem } from './instant.ts';
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
    const problems = integerProblems(this.pathOf(key), value, least, most);
    if (problems.length === 0) return value as number;
    this.problems.push(...problems);
    return undefined;
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

  /** `YYYY-MM-DD`, sorted, each once. */
  dates(key: string, most: number): readonly string[] | undefined {
    const value = this.value(key);
    const problems = dateProblems(this.pathOf(key), value, most);
    if (problems.length === 0) return [...new Set(value as string[])].sort();
    this.problems.push(...problems);
    return undefined;
  }

  instant(key: string): Date | undefined {
    const value = this.value(key);
    const problem = instantProblem(value, this.pathOf(key));
    if (problem !== undefined) return this.note(key, problem);
    const atMs = instantOf(value as InstantInput);
    if (atMs >= 0 && atMs <= LAST_INSTANT_MS) return new Date(atMs);
    return this.refuse(key, 'an instant from 1970 to 2999');
  }

  #unknown(key: string, known: readonly string[]): void {
    const plain = key.toLowerCase().replace(/[-_]/g, '');
    const meant = known.find((name) => name.toLowerCase() === plain || name === OTHER_WORDS[plain]);
    this.note(key, unknownKeyMessage(this.pathOf(key), known, meant));
  }
}
