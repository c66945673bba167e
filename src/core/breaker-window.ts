/**
 * What one worker has seen of a messenger lately: a sliding window of successes and failures, and the failures in a row.
 * Pure; the caller brings the time, by its monotonic clock. Invariants: counting a success costs no memory, however many
 * there are; a row ends with a success and with nothing else, however far apart its failures are.
 */
import type { Evidence } from './breaker.ts';

const BUCKETS = 12;
const LONGEST_ROW = 1_000;

export interface HeardFailure {
  readonly at: number;
  /** When its send began. */
  readonly startedAt: number;
  readonly kind: 'provider' | 'transient' | 'unknown';
  readonly reason: string;
}

export class OutcomeWindow {
  readonly #windowMs: number;
  readonly #bucketMs: number;
  #buckets: { readonly n: number; succeeded: number; failed: number }[] = [];
  /** Failures since the last success, the oldest first; `counts`: of the provider, and not together with the one before. */
  #row: { readonly at: number; readonly counts: boolean }[] = [];
  #lastCountedAt = Number.NEGATIVE_INFINITY;
  #succeededAt: number | undefined;
  #detail: string | undefined;

  constructor(windowMs: number) {
    this.#windowMs = windowMs;
    this.#bucketMs = windowMs / BUCKETS;
  }

  succeeded(at: number): void {
    this.#bucket(at).succeeded += 1;
    this.#succeededAt = at;
    if (this.#row.length === 0) return;
    this.#row = [];
    this.#lastCountedAt = Number.NEGATIVE_INFINITY;
  }

  failed({ at, startedAt, kind, reason }: HeardFailure): void {
    this.#bucket(at).failed += 1;
    this.#detail = reason;
    // What goes wrong with one recipient says nothing alone; sends that a sick provider refused together say it once.
    const counts = kind === 'unknown' || (kind === 'provider' && startedAt >= this.#lastCountedAt);
    if (kind === 'provider' && counts) this.#lastCountedAt = at;
    this.#row.push({ at, counts });
    if (this.#row.length > LONGEST_ROW) this.#row.shift();
  }

  /** Somebody else succeeded: failures before that are no row any more. True: there were some. */
  othersSucceeded(at: number): boolean {
    if ((this.#row[0]?.at ?? at) >= at) return false;
    this.#row = this.#row.filter((failure) => failure.at >= at);
    return true;
  }

  /** Forgets everything: the breaker has closed, or opened. */
  clear(): void {
    this.#buckets = [];
    this.#row = [];
    this.#lastCountedAt = Number.NEGATIVE_INFINITY;
    this.#succeededAt = undefined;
    this.#detail = undefined;
  }

  /** All failures in a row, here. */
  get inRow(): number {
    return this.#row.length;
  }

  /** Those of them that are the provider's. */
  get consecutive(): number {
    return this.#row.reduce((sum, { counts }) => sum + (counts ? 1 : 0), 0);
  }

  /** As evidence: `toServerTime` turns an instant of the monotonic clock into one of the server's. */
  evidence(now: number, toServerTime: (at: number) => number): Evidence {
    this.#forget(now);
    const [first] = this.#row;
    const succeededAt = this.#succeededAt;
    return {
      at: toServerTime(now),
      succeeded: this.#buckets.reduce((sum, bucket) => sum + bucket.succeeded, 0),
      failed: this.#buckets.reduce((sum, bucket) => sum + bucket.failed, 0),
      consecutive: this.consecutive,
      inRow: this.inRow,
      ...(first === undefined ? {} : { rowSince: toServerTime(first.at) }),
      ...(succeededAt === undefined ? {} : { succeededAt: toServerTime(succeededAt) }),
      ...(this.#detail === undefined ? {} : { detail: this.#detail }),
    };
  }

  #forget(now: number): void {
    const oldest = Math.floor((now - this.#windowMs) / this.#bucketMs) + 1;
    if ((this.#buckets[0]?.n ?? oldest) < oldest)
      this.#buckets = this.#buckets.filter(({ n }) => n >= oldest);
  }

  #bucket(at: number): { succeeded: number; failed: number } {
    const n = Math.floor(at / this.#bucketMs);
    const last = this.#buckets.at(-1);
    if (last?.n === n) return last;
    const fresh = { n, succeeded: 0, failed: 0 };
    this.#buckets.push(fresh);
    if (this.#buckets.length > BUCKETS + 1) this.#buckets.shift();
    return fresh;
  }
}
