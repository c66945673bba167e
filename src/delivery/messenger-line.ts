/**
 * One messenger in one worker: how many sends it takes at once over all campaigns, and whether it is sick. A provider
 * failure stops every start for 1 to 60 s; then a single probe goes out, and its success opens the line again.
 */
import type { Clock } from '../clock.ts';
import type { SendOutcome } from '../core/outcome.ts';
import { restMsOf } from '../core/rate.ts';
import { providerBackoffMs } from '../core/retry.ts';
import type { Messenger } from '../messengers/messenger.ts';
import type { RateGate } from './rate-gate.ts';
import { Slots } from './slots.ts';

/** Intents run ahead of sends by as much again, so that a send never waits for the database. */
export const WINDOW_FACTOR = 2;
const UNLIMITED = 1_000_000;

export class MessengerLine {
  readonly name: string;
  readonly messenger: Messenger;
  /** Sends in flight. */
  readonly sends: Slots;
  /** Recipients with an intent whose outcome is not recorded. */
  readonly window: Slots;
  /** Its rate, and the rests that its provider asked for, over all servers. */
  readonly rate: RateGate;
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

  constructor(name: string, messenger: Messenger, clock: Clock, rate: RateGate) {
    this.name = name;
    this.messenger = messenger;
    this.sends = new Slots(messenger.concurrency ?? UNLIMITED);
    this.window = new Slots((messenger.concurrency ?? UNLIMITED) * WINDOW_FACTOR);
    this.rate = rate;
    this.#clock = clock;
  }

  /** How long nothing may start, ms; 0 when something may. */
  blockedForMs(): number {
    return Math.max(0, this.#blockedUntil - this.#clock.monotonic());
  }
  /** After a failure only one recipient at a time is tried, until one succeeds. */
  get sick(): boolean {
    return this.#failures > 0;
  }

  mayStart(): boolean {
    if (this.#failures === 0) return true;
    return !this.#probing && this.blockedForMs() === 0;
  }
  started(): void {
    if (this.#failures > 0) this.#probing = true;
  }

  /** What the answer to a send that began at `startedAt` says of the messenger's health. */
  heard(outcome: SendOutcome, startedAt: number): void {
    if (outcome.kind === 'provider') {
      this.#failed(startedAt, outcome.retryAfterMs);
      // This worker backs off by itself; where the provider asked for a rest, all servers do.
      const restMs = restMsOf(outcome, this.blockedForMs());
      if (restMs !== undefined) this.rate.slowDown(restMs);
    } else if (outcome.kind === 'transient' || outcome.kind === 'unknown') this.#probing = false;
    else this.#succeeded(); // it took the message, or had a verdict on this very recipient
  }

  #succeeded(): void {
    this.#successes += 1;
    this.#failures = 0;
    this.#probing = false;
    this.#blockedUntil = Number.NEGATIVE_INFINITY;
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
