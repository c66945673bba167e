/**
 * Words for a refused value, the same for every check of what people pass in: ``Expected `x` to be …, got …``. Invariant:
 * a short simple value is shown with its type, anything else is only named; what may be an address with a password in it
 * is never shown.
 */
import { kindOf } from './plain-data.ts';

/** One wrong field of an input. `path` is dotted (`recurrence.cron`); `message` says what was expected and what came. */
export interface Problem {
  readonly path: string;
  readonly message: string;
}

/** ``Expected `recurrence.maxRuns` to be an integer from 1 to 1000000, got `0` (number)``. */
export function expectation(path: string, what: string, value: unknown): string {
  return `Expected \`${path}\` to be ${what}, got ${shown(value)}`;
}

/** ``Expected `rate` to have exactly one of perSecond, perMinute, got none of them``. */
export function exactlyOne(path: string, known: readonly string[], given: readonly string[]): string {
  const names = given.slice(0, 5).map((key) => `\`${key.slice(0, 40)}\``);
  const got = names.length === 0 ? 'none of them' : names.join(' and ');
  return `Expected \`${path}\` to have exactly one of ${known.join(', ')}, got ${got}`;
}

/** ``Unknown key `recurrence.tz`. Did you mean `timezone`?``; `meant`: the key that was meant, where that is known. */
export function unknownKeyMessage(full: string, known: readonly string[], meant?: string): string {
  const hint = meant === undefined ? `Known keys: ${known.join(', ')}` : `Did you mean \`${meant}\`?`;
  return `Unknown key \`${full}\`. ${hint}`;
}

/** A wrong value for a message. */
export function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'number' || typeof value === 'boolean') return `\`${value}\` (${typeof value})`;
  if (typeof value === 'string') {
    if (value.includes('://')) return 'a string';
    return value.length <= 80 ? `\`${value}\` (string)` : `a string of ${value.length} characters`;
  }
  if (Array.isArray(value)) return value.length === 0 ? 'an empty array' : `an array of ${value.length}`;
  if (value instanceof Date && Number.isNaN(value.getTime())) return 'an invalid Date';
  return kindOf(value);
}

/** What is wrong with a number that has to be whole and from `least` to `most`: nothing, or one problem. */
export function integerProblems(path: string, value: unknown, least: number, most: number): Problem[] {
  const fits = Number.isSafeInteger(value) && Number(value) >= least && Number(value) <= most;
  return fits ? [] : [{ path, message: expectation(path, `an integer from ${least} to ${most}`, value) }];
}
