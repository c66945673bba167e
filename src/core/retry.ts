/**
 * Decides what a failed hand-over means and when it is tried again. Pure: an error and numbers in, a kind or a delay out.
 * Invariant: whatever a messenger throws (null, a string, an object whose getters throw), there is an answer.
 */
import { withoutSecrets } from './redaction.ts';

/**
 * - `permanent`: this recipient will never work. Failed at once.
 * - `transient`: this recipient again later.
 * - `provider`: the messenger itself is sick. Everybody waits; costs no attempt.
 * - `unknown`: it may have left. Treated by the campaign's `onUnknown`.
 */
export type FailureKind = 'permanent' | 'transient' | 'provider' | 'unknown';

const KINDS: ReadonlySet<unknown> = new Set<FailureKind>(['permanent', 'transient', 'provider', 'unknown']);

/** No connection came about, so nothing can have left. */
const NEVER_CONNECTED: ReadonlySet<unknown> = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
  'EDNS',
]);

/** The connection broke or went silent at a moment nobody knows, perhaps after the hand-over. */
const BROKEN_ON_THE_WAY: ReadonlySet<unknown> = new Set([
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'ESOCKET',
  'ABORT_ERR',
  'UND_ERR_SOCKET',
  'UND_ERR_ABORTED',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
]);

const PROVIDER_STATUSES: ReadonlySet<number> = new Set([401, 403, 407, 429, 503]);

/** Longest chain of `cause` that is looked at; a chain may be a ring. */
const MAX_CAUSES = 5;
/** A provider may name a time; one further away than a day would leave the recipient lying about. */
const MAX_RETRY_AFTER_MS = 24 * 3_600_000;
const PROVIDER_FIRST_MS = 1_000;
const PROVIDER_MAX_MS = 60_000;
const MAX_CODE_BYTES = 64;
const MAX_REASON_BYTES = 256;

/**
 * The kind of failure a thrown value stands for, when the messenger does not say it itself. The error is judged first,
 * then its `cause`, and so on; the first that says something decides:
 *
 * 1. a `kind` of the four (`DeliveryError`),
 * 2. `code` or `name`: no connection → `provider`; broken or timed out on the way → `unknown`, but where the failing
 *    call was `connect` → `provider`,
 * 3. HTTP `status` or `statusCode`: 401, 403, 407 (a wrong key is nobody's fault but ours), 429 and 503 → `provider`, 408 and
 *    other 5xx → `transient`, other 4xx → `permanent`.
 *
 * Anything else is `transient`.
 */
export function classifyError(error: unknown): FailureKind {
  for (const link of causes(error)) {
    const kind = kindOfLink(link);
    if (kind !== undefined) return kind;
  }
  return 'transient';
}

/** Earliest time for another attempt that the error names, in ms from now; `undefined` when it names none. */
export function retryAfterMsOf(error: unknown): number | undefined {
  const value = read(error, 'retryAfterMs');
  return typeof value === 'number' && value > 0 ? value : undefined;
}

export interface RetryDelayInput {
  /** Attempts made so far: 1 after the first failure. */
  readonly attempt: number;
  /** Longest delay after the first failure, in ms. */
  readonly firstDelayMs: number;
  /** Longest delay after any failure, in ms. */
  readonly maxDelayMs: number;
  /** From 0 to 1, as `Math.random`. */
  readonly random: () => number;
  /** Earliest time the provider named, in ms from now. Counts up to 24 hours. */
  readonly retryAfterMs?: number | undefined;
}

/**
 * Milliseconds until the next attempt: "equal jitter", half of the doubled delay is certain and half is drawn,
 * `cap = min(maxDelayMs, firstDelayMs × 2^(attempt − 1))`, `delay = cap / 2 + random × cap / 2`
 * (AWS Architecture Blog, "Exponential Backoff And Jitter"). Full jitter spreads a little better, but may draw a delay
 * near zero, and a mailbox that is full now is still full then. Never earlier than `retryAfterMs`.
 */
export function retryDelayMs(input: RetryDelayInput): number {
  const cap = doubled(input.firstDelayMs, input.attempt, input.maxDelayMs);
  const delay = Math.round(cap / 2 + (input.random() * cap) / 2);
  const named = input.retryAfterMs;
  if (named === undefined || !(named > delay)) return delay;
  return Math.max(delay, Math.ceil(Math.min(named, MAX_RETRY_AFTER_MS)));
}

/** Pause of a messenger in one worker after `consecutiveFailures` provider failures: 0, then 1 s doubling to 60 s. */
export function providerBackoffMs(consecutiveFailures: number): number {
  if (consecutiveFailures < 1) return 0;
  return doubled(PROVIDER_FIRST_MS, consecutiveFailures, PROVIDER_MAX_MS);
}

/** The next full `stepMs` at or after `dueMs`, so that the retries of a page fall due together. */
export function roundUpDue(dueMs: number, stepMs: number): number {
  return Math.ceil(dueMs / stepMs) * stepMs;
}

export interface ErrorDescription {
  /** Machine-readable, at most 64 bytes. */
  readonly code?: string;
  /** For people, one line, at most 256 bytes of UTF-8, never cut within a character, without secrets. */
  readonly reason: string;
}

/** What is kept with an outcome: code and reason of whatever was thrown. */
export function describeError(error: unknown): ErrorDescription {
  const messages: string[] = [];
  let code: string | undefined;
  for (const link of causes(error)) {
    code ??= codeOf(link);
    const message = messageOf(link);
    if (message !== '' && !messages.some((earlier) => earlier.includes(message))) messages.push(message);
  }
  const reason = shownReason(messages.join(': ')) || 'no reason given';
  return code === undefined ? { reason } : { code: cutUtf8(code, MAX_CODE_BYTES), reason };
}

/** A reason as it is kept: one line, bounded, without secrets. */
export function shownReason(text: string): string {
  return cutUtf8(withoutSecrets(oneLine(text)), MAX_REASON_BYTES);
}

/** At most `maxBytes` bytes of UTF-8, cut before a character that does not fit. */
export function cutUtf8(text: string, maxBytes: number): string {
  if (text.length * 3 <= maxBytes) return text;
  // Every UTF-16 unit needs at least a byte, so nothing after this many units can be within the limit.
  const bytes = Buffer.from(text.slice(0, maxBytes + 1));
  if (bytes.length <= maxBytes) return text;
  let end = maxBytes;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return bytes.toString('utf8', 0, end);
}

function kindOfLink(link: unknown): FailureKind | undefined {
  const kind = read(link, 'kind');
  if (KINDS.has(kind)) return kind as FailureKind;
  const code = read(link, 'code');
  if (NEVER_CONNECTED.has(code)) return 'provider';
  const name = read(link, 'name');
  if (BROKEN_ON_THE_WAY.has(code) || name === 'AbortError' || name === 'TimeoutError') {
    return read(link, 'syscall') === 'connect' ? 'provider' : 'unknown';
  }
  return kindOfStatus(read(link, 'status')) ?? kindOfStatus(read(link, 'statusCode'));
}

function kindOfStatus(status: unknown): FailureKind | undefined {
  if (typeof status !== 'number' || !(status >= 400 && status < 600)) return undefined;
  if (PROVIDER_STATUSES.has(status)) return 'provider';
  return status === 408 || status >= 500 ? 'transient' : 'permanent';
}

function causes(error: unknown): unknown[] {
  const chain = [error];
  for (
    let cause = read(error, 'cause');
    cause !== undefined && cause !== null;
    cause = read(cause, 'cause')
  ) {
    if (chain.length >= MAX_CAUSES || chain.includes(cause)) break;
    chain.push(cause);
  }
  return chain;
}

function codeOf(link: unknown): string | undefined {
  for (const key of ['code', 'responseCode', 'status', 'statusCode']) {
    const value = read(link, key);
    if (typeof value === 'string' && value !== '') return oneLine(value);
    // The numeric `code` of a DOMException is of no use to anybody; its name is.
    if (typeof value === 'number' && key !== 'code') return String(value);
  }
  const name = read(link, 'name');
  return name === 'AbortError' || name === 'TimeoutError' ? name : undefined;
}

function messageOf(link: unknown): string {
  if (typeof link === 'string') return oneLine(link);
  if (typeof link !== 'object' || link === null) return link === undefined ? '' : oneLine(String(link));
  const message = read(link, 'message');
  if (typeof message === 'string' && message !== '') return oneLine(message);
  const name = read(link, 'name');
  return typeof name === 'string' ? oneLine(name) : '';
}

function oneLine(text: string): string {
  return text.slice(0, 4_096).replace(/\s+/g, ' ').trim();
}

function doubled(firstMs: number, times: number, maxMs: number): number {
  return Math.min(maxMs, firstMs * 2 ** Math.min(times - 1, 60));
}

function read(source: unknown, key: string): unknown {
  if ((typeof source !== 'object' && typeof source !== 'function') || source === null) return undefined;
  try {
    return (source as Record<string, unknown>)[key];
  } catch {
    return undefined;
  }
}
