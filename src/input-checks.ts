/**
 * Building blocks for checking what people pass in: schemas whose messages all read "Expected … to be …, got …", and the
 * list of every problem of one input. Invariant: a message shows a wrong value only where that value cannot be a secret.
 */

import { z } from 'zod';
import { expectation, integerProblems, unknownKeyMessage } from './core/expectation.ts';
import { type Problem, ValidationError } from './errors.ts';
import { suggest } from './suggestion.ts';

export { expectation, integerProblems };

const MAX_UNKNOWN = 10;
const MAX_KEY_CHARACTERS = 100;

/** For schemas: the message is made when the full path is known. */
export function expecting(what: string): { error: (issue: z.core.$ZodRawIssue) => string } {
  return { error: (issue) => expectation(z.core.toDotPath(issue.path ?? []), what, issue.input) };
}

export function integer(least: number, most: number): z.ZodInt {
  const message = expecting(`an integer from ${least} to ${most}`);
  return z.int(message).min(least, message).max(most, message);
}

/** A part of a whole. */
export function share(): z.ZodNumber {
  const message = expecting('a number from 0 to 1');
  return z.number(message).min(0, message).max(1, message);
}

export function flag(): z.ZodBoolean {
  return z.boolean(expecting('true or false'));
}

/** An optional map of parts by name; names are 1 to 64 of `A-Z a-z 0-9 _ -`. */
export function named<T>(part: z.ZodType<T>): z.ZodDefault<z.ZodRecord<z.ZodString, z.ZodType<T>>> {
  const name = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/);
  return z.record(name, part, expecting('an object of names and values')).default({});
}

/** Any value that `fits`, unchanged and not copied. */
export function fitting<T>(what: string, fits: (value: unknown) => boolean): z.ZodType<T> {
  return z.custom<T>(fits, expecting(what));
}

/** Any value for which `problemOf` has nothing to say; what it says is the message. */
export function unobjectionable<T>(
  problemOf: (value: unknown, path: string) => string | undefined,
): z.ZodType<T> {
  return z.custom<T>((value) => problemOf(value, '') === undefined, {
    error: (issue) => problemOf(issue.input, z.core.toDotPath(issue.path ?? [])),
  });
}

/** True for an object with a method, or a function property, of this name. */
export function hasMethod(value: unknown, name: string): boolean {
  return typeof value === 'object' && value !== null && typeof Reflect.get(value, name) === 'function';
}

/**
 * Every problem of a refused input, one a path, in the order of the schema.
 *
 * @param what what the input is, for messages: `options` or `a campaign`
 * @param knownKeys the keys that exist at each path (`''` is the top), for suggestions
 */
export function problemsOf(
  error: z.ZodError,
  what: string,
  knownKeys: Readonly<Record<string, readonly string[]>>,
): Problem[] {
  const problems = new Map<string, Problem>();
  for (const issue of error.issues) {
    const path = z.core.toDotPath(issue.path);
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys) {
        const full = path === '' ? key : `${path}.${key}`;
        problems.set(full, { path: full, message: unknownKey(key, full, knownKeys[path] ?? []) });
      }
    } else if (issue.code === 'invalid_key') {
      const message = `Expected the name \`${path}\` to end in 1 to 64 of A-Z a-z 0-9 _ -`;
      problems.set(path, { path, message });
    } else if (path === '') {
      problems.set('', { path: '(input)', message: `Expected ${what} to be an object with named values` });
    } else if (!problems.has(path)) {
      problems.set(path, { path, message: issue.message });
    }
  }
  return [...problems.values()];
}

/** @throws ValidationError `invalid_options` where there is any problem; `what` says what cannot be done because of it. */
export function refuseProblems(what: string, problems: readonly Problem[]): void {
  if (problems.length > 0) throw new ValidationError('invalid_options', what, problems);
}

/** A problem for each key that is not known, of the first few. */
export function unknownKeyProblems(given: object, known: readonly string[]): Problem[] {
  const unknown = Object.keys(given).filter((key) => !known.includes(key));
  return unknown.slice(0, MAX_UNKNOWN).map((key) => {
    const path = key.slice(0, MAX_KEY_CHARACTERS);
    return { path, message: unknownKey(path, path, known) };
  });
}

/** ``Unknown key `pagesize`. Did you mean `pageSize`?`` */
export function unknownKey(key: string, full: string, known: readonly string[]): string {
  return unknownKeyMessage(full, known, suggest(key, known));
}
