/**
 * The audience as people give it: rows, or the name of a source, which is a function of the host's that returns rows.
 * Invariant: looking at it reads no row.
 */

import { copyPlain, isPlainObject } from './core/plain-data.ts';
import type { AudienceRow } from './core/recipient.ts';
import { expectation, unknownKey } from './input-checks.ts';

/** The rows of an audience, from wherever they come. */
export type AudienceRows = AsyncIterable<AudienceRow> | Iterable<AudienceRow>;

/**
 * A named source of an audience. Called when a run freezes its audience, in a worker that has this source; a second
 * attempt after a failure calls it again from the start. `signal` fires when the worker must stop reading.
 */
export type AudienceSource = (
  params: unknown,
  context: { readonly signal: AbortSignal },
) => AudienceRows | Promise<AudienceRows>;

/** An audience read by a worker that has the source of this name. */
export interface AudienceOfSource {
  readonly source: string;
  /** Handed to the source: plain data of at most 64 KiB as JSON; ObjectIds and dates stay what they are. */
  readonly params?: unknown;
}

const MAX_PARAMS_BYTES = 64 * 1024;

/** What is wrong with it, or `undefined`. Whether the source exists is not asked here. */
export function audienceProblem(value: unknown, path: string): string | undefined {
  if (typeof value === 'object' && value !== null) {
    if (Symbol.asyncIterator in value || Symbol.iterator in value) return undefined;
  }
  if (!isPlainObject(value) || !('source' in value)) {
    return expectation(path, 'a list, an iterable, an async iterable or { source, params }', value);
  }
  const { source, params, ...others } = value;
  if (typeof source !== 'string' || source === '')
    return expectation(`${path}.source`, 'the name of a source', source);
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) return unknownKey(unknown, `${path}.${unknown}`, ['source', 'params']);
  return copyPlain(params, `${path}.params`, { limitBytes: MAX_PARAMS_BYTES, bsonValues: 'keep' }).problem;
}

/** Tells a source from rows. */
export function isOfSource(audience: unknown): audience is AudienceOfSource {
  return isPlainObject(audience) && !(Symbol.iterator in audience) && !(Symbol.asyncIterator in audience);
}
