/**
 * The rate of one campaign or one messenger in this worker: asks for blocks of tokens when somebody here wants to send,
 * and hands the tokens out. Invariants: an intent is written only for a token in hand (`room`, `reserve`), a send starts
 * only by using one (`tryTake`); one question is under way at most, none when nobody waits; a token that nobody has
 * reserved goes back before its block expires, and at once when nobody waits any more. Without a rate everything passes,
 * but for the rests that the provider asked for.
 */
import type { Clock } from '../clock.ts';
import { AHEAD_MS, blockTokens, type Rate, spacingMs } from '../core/rate.ts';
import type { TakenBlock } from '../store/rates.ts';
import { BlockQuestions } from './block-questions.ts';
import { HeldTokens, type Unused } from './held-tokens.ts';
import { Rest } from './rest.ts';
import { Waiters } from './waiters.ts';

export interface RateGateOptions {
  readonly clock: Clock;
  readonly rate: Rate | undefined;
  /** Asks for a block of at most `wanted` tokens. */
  readonly take: (rate: Rate, wanted: number) => Promise<TakenBlock>;
  readonly giveBack: (unused: Unused) => Promise<unknown>;
  /** Lets every server rest for so long. */
  readonly slowDown: (forMs: number) => Promise<unknown>;
}

/** A token that nobody has reserved by then goes back: others may need it, and at a slow rate it must not be lost. */
const IDLE_MS = 600;
/** Sends at high rates start in small groups this far apart. */
const PACE_MS = 5;
/** A timer cannot be longer than 24.8 days. */
const LONGEST_WAIT_MS = 60_000;

export class RateGate {
  readonly #options: RateGateOptions;
  readonly #held = new HeldTokens();
  readonly #forRoom = new Waiters();
  readonly #forToken = new Waiters();
  readonly #returning = new Set<Promise<unknown>>();
  readonly #rest: Rest;
  readonly #questions: BlockQuestions;
  #rate: Rate | undefined;
  #reserved = 0;
  #closed = false;
  #wokenAt = Number.NEGATIVE_INFINITY;
  #timer: { readonly at: number; readonly cancel: () => void } | undefined;

  constructor(options: RateGateOptions) {
    this.#options = options;
    this.#rate = options.rate;
    this.#rest = new Rest(options.clock, options.slowDown);
    this.#questions = new BlockQuestions({
      clock: options.clock,
      take: options.take,
      onAnswer: (rate, taken, askedAt) => this.#answered(rate, taken, askedAt),
      onFailure: () => this.#plan(),
    });
  }

  /** A block is a single token: an intent for it should be written only when its send can start at once. */
  get scarce(): boolean {
    return this.#rate !== undefined && blockTokens(this.#rate) === 1;
  }

  /** Another rate counts from the next block on. */
  setRate(rate: Rate | undefined): void {
    if (JSON.stringify(rate) === JSON.stringify(this.#rate)) return;
    this.#giveBack(this.#held.takeOut(this.#now(), Number.POSITIVE_INFINITY));
    this.#rate = rate;
    this.#questions.forget();
    if (rate === undefined) this.#wakeAll();
    this.#plan();
  }

  // ---- intents ------------------------------------------------------------------------------------------------------

  /** How many intents may be written now: tokens in hand, usable within a second, that nobody has reserved. */
  room(): number {
    if (this.#closed || this.blockedForMs() > 0) return 0;
    if (this.#rate === undefined) return Number.POSITIVE_INFINITY;
    return Math.max(0, this.#held.count(this.#now()) - this.#reserved);
  }

  /** These many intents are going to be written. */
  reserve(count: number): void {
    this.#reserved += count;
  }

  /** Intents are withdrawn, or gone. */
  release(count: number): void {
    this.#reserved -= count;
    this.#forRoom.call(this.room());
    this.#plan();
  }

  /** Calls once when there may be room for an intent. `wanted`: how many the caller could write. */
  waitForRoom(wake: () => void, wanted: number): void {
    this.#forRoom.add(wake, Math.max(1, wanted));
    this.#plan();
  }

  // ---- sends --------------------------------------------------------------------------------------------------------

  /** Is a token usable now? */
  get ready(): boolean {
    if (this.#closed || this.blockedForMs() > 0) return false;
    if (this.#rate === undefined) return true;
    const nextAt = this.#held.nextAt(this.#now());
    return nextAt !== undefined && nextAt <= this.#now();
  }

  /** Uses a token for one of the reserved intents, if one is usable now. */
  tryTake(): boolean {
    if (!this.ready) return false;
    if (this.#rate !== undefined) this.#held.use(this.#now());
    this.#reserved -= 1;
    this.#questions.used();
    return true;
  }

  /** Calls once when a token may be usable for a reserved intent. `wanted`: how many the caller has. */
  waitForToken(wake: () => void, wanted: number): void {
    this.#forToken.add(wake, Math.max(1, wanted));
    this.#plan();
  }

  forget(wake: () => void): void {
    this.#forRoom.forget(wake);
    this.#forToken.forget(wake);
  }

  /** How far away the next token is, ms; 0 when one is in hand and due. Undefined: nobody has asked lately. */
  nextAtMs(): number | undefined {
    const now = this.#now();
    const nextAt = this.#rate === undefined ? now : (this.#held.nextAt(now) ?? this.#questions.nextTokenAt);
    if (nextAt !== undefined) return Math.max(0, nextAt - now, this.blockedForMs());
    return this.blockedForMs() || undefined;
  }

  // ---- rests and ends -----------------------------------------------------------------------------------------------

  /** How long nothing may start because the provider asked for a rest, ms. */
  blockedForMs(): number {
    return this.#rest.leftMs;
  }

  /** Another server has heard of a rest. */
  block(forMs: number): void {
    this.#rest.extend(forMs);
    this.#plan();
  }

  /** The provider asks for a rest: here at once, on the other servers when they ask next or look for rests. */
  slowDown(forMs: number): void {
    this.#rest.announce(forMs);
    this.#plan();
  }

  /** On a pause: gives back what is not reserved. Resolves when MongoDB has answered. Never rejects. */
  async giveBack(): Promise<void> {
    const now = this.#now();
    this.#giveBack(this.#held.takeOut(now, this.#held.count(now) - this.#reserved));
    this.#plan();
    await Promise.all(this.#returning);
  }

  /** On a stop, after the last send: gives back everything and asks for no more. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#rest.close();
    this.#giveBack(this.#held.takeOut(this.#now(), Number.POSITIVE_INFINITY));
    await this.#questions.underWay; // its block goes back as well
    await Promise.all(this.#returning);
  }

  #giveBack(unused: readonly Unused[]): void {
    for (const each of unused) {
      // A failure is no harm: these tokens expire within the second. Repeating it could count them twice.
      const returned: Promise<unknown> = this.#options
        .giveBack(each)
        .then(
          () => this.#returned(),
          () => undefined,
        )
        .finally(() => this.#returning.delete(returned));
      this.#returning.add(returned);
    }
  }

  /** What a question was refused before may be there now. */
  #returned(): void {
    this.#questions.forget();
    this.#plan();
  }

  // ---- time ---------------------------------------------------------------------------------------------------------

  #now(): number {
    return this.#options.clock.monotonic();
  }

  /** Does what is due and sets the timer for what is due next. Called whenever something has changed. */
  #plan(): void {
    if (this.#closed) return;
    const now = this.#now();
    this.#returnIdle(now);
    const askAt = this.#askDueAt(now);
    if (askAt <= now && this.#rate !== undefined) this.#questions.ask(this.#rate, this.#wanted(now));
    const at = Math.min(
      askAt <= now ? Number.POSITIVE_INFINITY : askAt,
      this.#wakeDueAt(now),
      this.#idleAt(now),
    );
    if (at === this.#timer?.at) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    if (at === Number.POSITIVE_INFINITY) return;
    const delayMs = Math.min(LONGEST_WAIT_MS, Math.max(0, at - now));
    this.#timer = { at, cancel: this.#options.clock.schedule(delayMs, () => this.#tick()) };
  }

  #tick(): void {
    this.#timer = undefined;
    const now = this.#now();
    this.#wokenAt = now;
    if (this.blockedForMs() === 0) {
      if (this.#rate === undefined) this.#wakeAll();
      else this.#forToken.call(this.#held.usable(now));
    }
    this.#plan();
  }

  #wakeAll(): void {
    this.#forRoom.call(Number.POSITIVE_INFINITY);
    this.#forToken.call(Number.POSITIVE_INFINITY);
  }

  #wakeDueAt(now: number): number {
    const waiting = this.#forToken.size + (this.#rate === undefined ? this.#forRoom.size : 0);
    if (waiting === 0) return Number.POSITIVE_INFINITY;
    if (this.#rate === undefined) return this.#rest.until;
    const nextAt = this.#held.nextAt(now) ?? Number.POSITIVE_INFINITY;
    const pacedAt = spacingMs(this.#rate) < PACE_MS ? this.#wokenAt + PACE_MS : Number.NEGATIVE_INFINITY;
    return Math.max(nextAt, this.#rest.until, pacedAt);
  }

  // ---- blocks -------------------------------------------------------------------------------------------------------

  #wanted(now: number): number {
    const reserved = this.#forToken.wanted - this.#held.count(now);
    return Math.max(0, this.#forRoom.wanted - this.room()) + Math.max(0, reserved);
  }

  /** When the next block is to be asked for: while the last is being used, not before the bucket would give one. */
  #askDueAt(now: number): number {
    if (this.#questions.underWay !== undefined || this.#rate === undefined || this.#wanted(now) === 0)
      return Number.POSITIVE_INFINITY;
    const lastAt = this.#held.lastAt(now) ?? Number.NEGATIVE_INFINITY;
    return Math.max(this.#questions.againAt, this.#rest.until, lastAt - AHEAD_MS);
  }

  #answered(rate: Rate, taken: TakenBlock, askedAt: number): void {
    const now = this.#now();
    if (taken.blockedForMs > 0) this.#rest.extend(taken.blockedForMs);
    if (taken.granted > 0) this.#held.add(rate, taken, askedAt, now);
    const nobodyWaits = this.#forRoom.size + this.#forToken.size === 0;
    const surplus = this.#held.count(now) - (this.#closed ? 0 : this.#reserved);
    if (this.#closed || nobodyWaits) this.#giveBack(this.#held.takeOut(now, surplus));
    this.#forRoom.call(this.room());
    this.#plan();
  }

  #idleAt(now: number): number {
    if (this.#held.count(now) <= this.#reserved) return Number.POSITIVE_INFINITY;
    return (this.#held.oldestAskedAt(now) ?? Number.POSITIVE_INFINITY) + IDLE_MS;
  }

  #returnIdle(now: number): void {
    const surplus = this.#held.count(now) - this.#reserved;
    if (surplus > 0) this.#giveBack(this.#held.takeOut(now, surplus, now - IDLE_MS));
  }
}
