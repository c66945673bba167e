/**
 * How fast may be sent: the value a person gives, and the arithmetic of the bucket that all servers share. Pure; the store
 * does the same sums inside MongoDB by the server's time, and a test holds the two together.
 *
 * A bucket hands out points of a grid, one every `spacingMs`: its level `tokens` is 0 when the next point is now, −1 when
 * it is one spacing away. A block is a row of points that nobody else gets, at most `AHEAD_MS` ahead, and each token is
 * used at its point or later, before the block's end. Invariants: nothing adds up over idle time but the points of the
 * last `LATE_MS`; every token is used within `BLOCK_LIFE_MS` of its point, so any `t` ms see at most `rate × t` sends and
 * one second's tokens more; at rates of one a minute and slower any `t` ms see at most one more than `rate × t`.
 */
import { exactlyOne, expectation, type Problem } from './expectation.ts';
import { isPlainObject } from './plain-data.ts';

/** One of the four, a positive number: from one a year to a million a second. */
export type Rate =
  | { readonly perSecond: number }
  | { readonly perMinute: number }
  | { readonly perHour: number }
  | { readonly perDay: number };

export type CheckedRate =
  | { readonly rate: Rate; readonly problem?: undefined }
  | { readonly problem: Problem; readonly rate?: undefined };

/** What a bucket remembers. Times are the server's, ms. */
export interface Bucket {
  /** Points of the grid that have passed and that nobody has; negative: so many are taken in advance. */
  readonly tokens: number;
  /** When `tokens` was true. */
  readonly at: number;
  /** Nothing is granted before: the provider asked for a rest. */
  readonly blockedUntil: number;
}

export interface Grant {
  /** How many tokens; 0: none now. */
  readonly granted: number;
  /** The first token's point, ms from the server's now; negative when it is late. The others follow at `spacingMs`. */
  readonly firstInMs: number;
  /** Where nothing was granted: when asking again makes sense, ms from now. */
  readonly waitMs: number;
  /** How long the provider's rest still lasts, ms; 0 when there is none. */
  readonly blockedForMs: number;
}

/** A block holds the tokens of this time, at least one. Short, so that several servers take turns within the second. */
export const BLOCK_MS = 250;
/** A block may begin so far in the future, so that the next one is there before the last is used up. */
export const AHEAD_MS = 250;
/** Tokens that nobody asked for in time are kept so long: a late question loses nothing, an idle hour gives no burst. */
export const LATE_MS = 250;
/** A block expires so long after it was asked for, whatever is left of it. */
export const BLOCK_LIFE_MS = 1_000;
/** A server's clock that goes back by more than this was set; by less, two operations have overtaken each other. */
export const CLOCK_SET_MS = 1_000;
/** From this spacing on a period counts from the last moment at which the token before could have been used. */
const STRICT_SPACING_MS = 60_000;

const UNIT_MS = { perSecond: 1_000, perMinute: 60_000, perHour: 3_600_000, perDay: 86_400_000 } as const;
type Unit = keyof typeof UNIT_MS;
const UNITS = Object.keys(UNIT_MS) as Unit[];
const SLOWEST_SPACING_MS = 366 * 86_400_000;
const FASTEST_PER_MS = 1_000;

/**
 * Checks a rate that a person gave.
 *
 * @param path where it stands in the input, for messages: `rate`, `messengers.email.rate`
 */
export function checkRate(input: unknown, path = 'rate'): CheckedRate {
  const refuse = (where: string, what: string, value: unknown): CheckedRate => ({
    problem: { path: where, message: expectation(where, what, value) },
  });
  if (!isPlainObject(input)) return refuse(path, `an object with one of ${UNITS.join(', ')}`, input);
  const keys = Object.keys(input).filter((key) => input[key] !== undefined);
  const unit = UNITS.find((name) => name === keys[0]);
  if (unit === undefined || keys.length !== 1) {
    return { problem: { path, message: exactlyOne(path, UNITS, keys) } };
  }
  const value = input[unit];
  const where = `${path}.${unit}`;
  if (typeof value !== 'number' || !(value > 0) || value === Number.POSITIVE_INFINITY) {
    return refuse(where, 'a positive number', value);
  }
  const rate = { [unit]: value } as unknown as Rate;
  if (spacingMs(rate) > SLOWEST_SPACING_MS) return refuse(where, 'at least one a year', value);
  if (tokensPerMs(rate) > FASTEST_PER_MS) return refuse(where, 'at most a million a second', value);
  return { rate };
}

export function tokensPerMs(rate: Rate): number {
  const [unit, value] = entryOf(rate);
  return value / UNIT_MS[unit];
}

/** Time between two tokens, ms. */
export function spacingMs(rate: Rate): number {
  const [unit, value] = entryOf(rate);
  return UNIT_MS[unit] / value;
}

/** Most tokens in a block: those of `BLOCK_MS`, at least one. */
export function blockTokens(rate: Rate): number {
  return Math.max(1, Math.floor(BLOCK_MS * tokensPerMs(rate)));
}

/** What a token takes from the level. More than 1 at slow rates: the time in which it can still be used is no rest. */
export function tokenCost(rate: Rate): number {
  const spacing = spacingMs(rate);
  return spacing >= STRICT_SPACING_MS ? 1 + BLOCK_LIFE_MS / spacing : 1;
}

/** The level never rises above this: what idle time gives. */
export function highestLevel(rate: Rate): number {
  return tokenCost(rate) > 1 ? 0 : LATE_MS * tokensPerMs(rate);
}

/** No sequence of grants goes below: where the level is lower, the rate has changed or the server's clock was set. */
export function lowestLevel(rate: Rate): number {
  return -(AHEAD_MS * tokensPerMs(rate) + blockTokens(rate) * tokenCost(rate));
}

/** The bucket at `now` under this rate, which may be another than before: a change takes effect at once. */
export function bucketAt(bucket: Bucket, rate: Rate, now: number): Bucket {
  const elapsedMs = Math.max(0, now - bucket.at);
  const level = bucket.tokens + elapsedMs * tokensPerMs(rate);
  return {
    tokens: Math.min(highestLevel(rate), Math.max(lowestLevel(rate), level)),
    at: now < bucket.at - CLOCK_SET_MS ? now : Math.max(bucket.at, now),
    blockedUntil: bucket.blockedUntil,
  };
}

/** Takes a block. `undefined` is a bucket that has never been asked: full by one token. */
export function takeBlock(
  before: Bucket | undefined,
  rate: Rate,
  now: number,
  wanted: number,
): { readonly bucket: Bucket; readonly grant: Grant } {
  const bucket = bucketAt(before ?? { tokens: 0, at: now, blockedUntil: 0 }, rate, now);
  const firstInMs = bucket.at - now - bucket.tokens * spacingMs(rate);
  const blockedForMs = Math.max(0, bucket.blockedUntil - now);
  const granted =
    blockedForMs > 0 || firstInMs > AHEAD_MS ? 0 : Math.max(1, Math.min(wanted, blockTokens(rate)));
  return {
    bucket: { ...bucket, tokens: bucket.tokens - granted * tokenCost(rate) },
    grant: {
      granted,
      firstInMs,
      waitMs: granted > 0 ? 0 : Math.max(blockedForMs, firstInMs - AHEAD_MS),
      blockedForMs,
    },
  };
}

/** Puts unused tokens back, but never more than idle time gives. */
export function putBack(before: Bucket, rate: Rate, now: number, count: number): Bucket {
  const bucket = bucketAt(before, rate, now);
  const level = bucket.tokens + count * tokenCost(rate);
  return { ...bucket, tokens: Math.min(highestLevel(rate), level) };
}

const ASKS_FOR_REST: ReadonlySet<unknown> = new Set(['421', '429']);
const MAX_REST_MS = 24 * 3_600_000;

/**
 * For how long a failure slows the messenger down on every server, ms; `undefined`: not at all, the failure is this
 * worker's own affair. A provider failure that names a time (`Retry-After`) counts up to 24 hours; 421 and 429 without a
 * time count as `backOffMs`.
 */
export function restMsOf(
  outcome: { readonly kind: string; readonly code?: string; readonly retryAfterMs?: number | undefined },
  backOffMs: number,
): number | undefined {
  if (outcome.kind !== 'provider') return undefined;
  const { retryAfterMs } = outcome;
  if (retryAfterMs !== undefined && retryAfterMs > 0) return Math.min(Math.ceil(retryAfterMs), MAX_REST_MS);
  return ASKS_FOR_REST.has(outcome.code) ? backOffMs : undefined;
}

function entryOf(rate: Rate): [Unit, number] {
  return Object.entries(rate)[0] as [Unit, number];
}
