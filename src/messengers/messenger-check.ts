/** Is this a messenger? Invariant: nothing that it holds is shown. */
import { isPlainObject } from '../core/plain-data.ts';
import { checkRate } from '../core/rate.ts';
import { expectation, hasMethod } from '../input-checks.ts';
import type { Messenger } from './messenger.ts';

/** What is wrong with it, or `undefined`. */
export function messengerProblem(value: unknown, path: string): string | undefined {
  if (!hasMethod(value, 'send')) return expectation(path, 'a messenger with a `send` function', value);
  const messenger = value as Partial<Record<keyof Messenger, unknown>>;
  for (const key of ['checkContent', 'classify', 'verify', 'reconcile', 'close'] as const) {
    const member = messenger[key];
    if (member !== undefined && typeof member !== 'function')
      return expectation(`${path}.${key}`, 'a function', member);
  }
  const { concurrency, idempotent, rate } = messenger;
  if (concurrency !== undefined && !(Number.isSafeInteger(concurrency) && Number(concurrency) >= 1)) {
    return expectation(`${path}.concurrency`, 'an integer of at least 1', concurrency);
  }
  const badRate = rate === undefined ? undefined : checkRate(rate, `${path}.rate`).problem;
  if (badRate !== undefined) return badRate.message;
  if (idempotent === undefined || typeof idempotent === 'boolean') return undefined;
  const windowMs = isPlainObject(idempotent) ? idempotent.windowMs : undefined;
  if (typeof windowMs === 'number' && windowMs > 0) return undefined;
  return expectation(`${path}.idempotent`, 'true, false or { windowMs } with a positive number', idempotent);
}
