/** A rule before anybody relies on it: what it says, and when it would occur. Reads and writes nothing. */

import { type InstantInput, instantOf, instantProblem } from './core/instant.ts';
import { preview } from './core/recurrence.ts';
import { checkRecurrence } from './core/recurrence-check.ts';
import type { RecurrenceInput } from './core/recurrence-rule.ts';
import { describe } from './core/recurrence-words.ts';
import { ValidationError } from './errors.ts';
import { integerProblems, unknownKeyProblems } from './input-checks.ts';

const MAX_PREVIEWED = 100;
const KEYS = ['recurrence', 'count', 'from'];

export interface SchedulePreviewInput {
  readonly recurrence: RecurrenceInput;
  /** How many instants, 1 to 100. Default: 10. */
  readonly count?: number | undefined;
  /** Only instants after this one: Date, DateTime or ISO string with offset. Default: now. */
  readonly from?: InstantInput | undefined;
}

export interface SchedulePreview {
  /** `every weekday at 09:00, Europe/Berlin` */
  readonly description: string;
  /** Fewer than asked for where the rule ends. `maxRuns` counts from the first of them. */
  readonly occurrences: readonly Date[];
}

/** @throws ValidationError `invalid_options` with every problem. */
export function previewSchedule(input: SchedulePreviewInput, now: Date): SchedulePreview {
  const given = Object(input) as Partial<Record<keyof SchedulePreviewInput, unknown>>;
  const { recurrence, count = 10, from } = given;
  const problems = unknownKeyProblems(given, KEYS);
  const checked = checkRecurrence(recurrence, { now });
  problems.push(...(checked.problems ?? []));
  problems.push(...integerProblems('count', count, 1, MAX_PREVIEWED));
  const problem = from === undefined ? undefined : instantProblem(from as InstantInput, 'from');
  if (problem !== undefined) problems.push({ path: 'from', message: problem });
  if (checked.rule === undefined || problems.length > 0) {
    throw new ValidationError('invalid_options', 'The schedule cannot be shown', problems);
  }
  const after = from === undefined ? now : new Date(instantOf(from as InstantInput));
  return {
    description: describe(checked.rule),
    occurrences: preview(checked.rule, Number(count), after),
  };
}
