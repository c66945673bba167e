/**
 * Words for a refused value, for checks that live in core: ``Expected `x` to be …, got …``. Invariant: a short simple
 * value is shown with its type, anything else is only named.
 */
import { kindOf } from './plain-data.ts';

/** One wrong field of an input. `path` is dotted (`recurrence.cron`); `message` says what was expected and what came. */
export interface InputProblem {
  readonly path: string;
  readonly message: string;
}

/** ``Expected `recurrence.maxRuns` to be an integer from 1 to 1000000, got `0` (number)``. */
export function expected(path: string, what: string, value: unknown): string {
  return `Expected \`${path}\` to be ${what}, got ${shown(value)}`;
}

/** A wrong value for a message. */
export function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'number' || typeof value === 'boolean') return `\`${value}\` (${typeof value})`;
  if (typeof value === 'string') {
    if (value.includes('://')) return 'a string';
    return value.length <= 80 ? `\`${value}\` (string)` : `a string of ${value.length} characters`;
  }
  if (value instanceof Date && Number.isNaN(value.getTime())) return 'an invalid Date';
  return kindOf(value);
}
