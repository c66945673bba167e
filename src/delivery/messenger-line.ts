/**
 * One messenger in one worker: how many sends it takes at once over all campaigns, and whether it is sick. A provider
 * failure stops every start for 1 to 60 s; then a single probe goes out, and its success opens the line again. That is this
 * worker's own affair; what the cluster's breaker says comes on top (`breaker-gate.ts`).
 */
import type { Clock } from '../clock.ts';
import type { BreakerSettings } from '../core/breaker.ts';
import type { SendOutcome } from '../core/outcome.ts';
import { restMsOf } from '../core/rate.ts';
import { providerBackoffMs } from '../core/retry.ts';
import type { Messenger } from '../messengers/messenger.ts';
import { BreakerGate } from './breaker-gate.ts';
import type { RateGate } from './rate-gate.ts';
import { Slots } from './slots.ts';

/** Intents run ahead of sends by as much again, so that a send never waits for the database. */
export const WINDOW_FACTOR = 2;
const UNLIMITED = 1_000_000;
/** While the breaker lets nothing start, it is looked at again after this time, ms. */
const SHUT_MS = 1_000;

export class MessengerLine {
  readonly name: string;
  readonly messenger: Messenger;
  /** Sends in flight. */
  readonly sends: Slots;
  /** Recipients with an intent whose outcome is not recorded. */
  readonly window: Slots;
  /** Its rate, and the rests that its provider asked for, over all servers. */
  readonly rate: RateGate;
  /** What the breaker of the whole cluster lets it do. */
  readonly breaker: BreakerGate;
  /** Other live workers have the messenger: while it is sick here, they should try. */
  othersHaveIt = false;
  /** Pages that share the line at present. */
  users = 0;
  /** Those of them that wait for tokens, as last seen: they take no place from others. */
  waiting = 0;
  /** Pages that are being claimed for it: users to come. */
  claiming = 0;
  /** At the last failure: had other recipients succeeded since the failure before? Then the messenger itself is well. */
  othersSucceeded = false;
  readonly #clock: Clock;
  #failures = 0;
  #lastFailureAt = Number.NEGATIVE_INFINITY;
  #blockedUntil = Number.NEGATIVE_INFINITY;
  #probing = false;
  #successes = 0;

  constructor(
    name: string,
    messenger: Messenger,
    clock: Clock,
    rate: RateGate,
    breaker: BreakerSettings | undefined,
  ) {
    this.name = name;
    this.messenger = messenger;
    this.sends = new Slots(messenger.concurrency ?? UNLIMITED);
    this.window = new Slots((messenger.concurrency ?? UNLIMITED) * WINDOW_FACTOR);
    this.rate = rate;
    this.breaker = new BreakerGate(clock, breaker);
    this.#clock = clock;
  }

  /** How long nothing may start, ms; 0 when something may. */
  blockedForMs(): number {
    const ownMs = Math.max(0, this.#blockedUntil - this.#clock.monotonic());
    return this.breaker.isShut ? Math.max(SHUT_MS, ownMs) : ownMs;
  }
  /** It failed here and has not succeeded since. */
  get sick(): boolean {
    return this.#failures > 0;
  }
  /** Only one recipient at a time is tried: after a failure until one succeeds, and while the breaker is not closed. */
  get careful(): boolean {
    return this.sick || !this.breaker.isClosed;
  }
  /** It failed here more than once, or the breaker lets nothing start: pages are better off with other workers. */
  get lendsPages(): boolean {
    return this.breaker.isShut || (this.othersHaveIt && this.#failures > 1 && this.blockedForMs() > 0);
  }
  /** Most intents that a page may have now. */
  get mostIntents(): number {
    return this.careful ? 1 : this.breaker.most(this.sends.capacity) * WINDOW_FACTOR;
  }

  mayStart(): boolean {
    if (!this.breaker.mayStart(this.sends.capacity - this.sends.free, this.sends.capacity)) return false;
    if (this.#failures === 0) return true;
    return !this.#probing && this.blockedForMs() === 0;
  }
  started(): void {
    if (this.#failures > 0) this.#probing = true;
    this.breaker.started();
  }

  /** The breaker begins a trial, or has closed: what failed here before is over. */
  forgetFailures(): void {
    this.#failures = 0;
    this.#probing = false;
    this.#blockedUntil = Number.NEGATIVE_INFINITY;
  }

  /**
   * What the answer to a send that began at `startedAt` says of the messenger's health. `isEvident`: it was the messenger
   * that ended the send, and not this worker because of its own trouble.
   */
  heard(outcome: SendOutcome, startedAt: number, isEvident = true): void {
    const inDoubt = this.breaker.heard(outcome, startedAt, isEvident);
    if (inDoubt) this.#failed(startedAt, undefined);
    else if (outcome.kind === 'provider') {
      this.#failed(startedAt, outcome.retryAfterMs);
      // This worker backs off by itself; where the provider asked for a rest, all servers do.
      const restMs = restMsOf(outcome, this.blockedForMs());
      if (restMs !== undefined) this.rate.slowDown(restMs);
    } else if (outcome.kind === 'transient' || outcome.kind === 'unknown') this.#probing = false;
    else this.#succeeded(); // it took the message, or had a verdict on this very recipient
  }

  #succeeded(): void {
    this.#successes += 1;
    this.forgetFailures();
  }

  /** Sends that failed together count once. */
  #failed(startedAt: number, retryAfterMs: number | undefined): void {
    this.#probing = false;
    if (startedAt < this.#lastFailureAt) return;
    const now = this.#clock.monotonic();
    this.othersSucceeded = this.#successes > 0;
    this.#successes = 0;
    this.#failures += 1;
    this.#lastFailureAt = now;
    this.#blockedUntil =
      now + Math.max(providerBackoffMs(this.#failures), Math.min(retryAfterMs ?? 0, 60_000));
  }

  /** The longest that the provider remembers an idempotency key; undefined: for ever, or it has none. */
  get idempotencyWindowMs(): number | undefined {
    const { idempotent } = this.messenger;
    return typeof idempotent === 'object' ? idempotent.windowMs : undefined;
  }
}
