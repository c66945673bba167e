/**
 * Asks the shared bucket for blocks of tokens: when, and for how many. Invariants: one question is under way at most; none
 * is asked before the bucket can give something; while MongoDB is away they become rare.
 */
import type { Clock } from '../clock.ts';
import { AHEAD_MS, BLOCK_MS, blockTokens, type Rate, spacingMs, tokenCost } from '../core/rate.ts';
import type { TakenBlock } from '../store/rates.ts';

const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 5_000;

export interface BlockQuestionsOptions {
  readonly clock: Clock;
  readonly take: (rate: Rate, wanted: number) => Promise<TakenBlock>;
  /** The question was asked at `askedAt`, by the monotonic clock. */
  readonly onAnswer: (rate: Rate, taken: TakenBlock, askedAt: number) => void;
  readonly onFailure: () => void;
}

export class BlockQuestions {
  readonly #options: BlockQuestionsOptions;
  #underWay: Promise<void> | undefined;
  #againAt = Number.NEGATIVE_INFINITY;
  #nextTokenAt: number | undefined;
  /** Answers to questions asked before the last `forget` say nothing about the next question. */
  #era = 0;
  #failures = 0;
  #usedSinceGrant = 0;
  #grantAskedAt = Number.NEGATIVE_INFINITY;

  constructor(options: BlockQuestionsOptions) {
    this.#options = options;
  }

  get underWay(): Promise<void> | undefined {
    return this.#underWay;
  }
  /** Before this moment the answer would be no. */
  get againAt(): number {
    return this.#againAt;
  }
  /** When the bucket has its next token for anybody, as last heard. */
  get nextTokenAt(): number | undefined {
    return this.#nextTokenAt;
  }

  /** A token was used. */
  used(): void {
    this.#usedSinceGrant += 1;
  }

  /** What was heard is no longer true: the rate has changed, or tokens went back. */
  forget(): void {
    this.#era += 1;
    this.#againAt = Number.NEGATIVE_INFINITY;
    this.#nextTokenAt = undefined;
  }

  /** Asks for `wanted` tokens or more. Who used many since the last block will use many until the next. */
  ask(rate: Rate, wanted: number): void {
    const { clock, take } = this.#options;
    const askedAt = clock.monotonic();
    const era = this.#era;
    const speed = this.#usedSinceGrant / Math.max(1, askedAt - this.#grantAskedAt);
    const worthwhile = Math.min(Math.max(wanted, Math.ceil(2 * BLOCK_MS * speed)), blockTokens(rate));
    this.#underWay = take(rate, worthwhile).then(
      (taken) => this.#answered(rate, taken, askedAt, era),
      () => this.#failed(),
    );
  }

  #answered(rate: Rate, taken: TakenBlock, askedAt: number, era: number): void {
    const now = this.#options.clock.monotonic();
    this.#underWay = undefined;
    this.#failures = 0;
    if (taken.granted > 0) {
      this.#usedSinceGrant = 0;
      this.#grantAskedAt = askedAt;
    }
    if (era === this.#era) {
      const nextInMs = taken.firstInMs + taken.granted * tokenCost(rate) * spacingMs(rate);
      this.#nextTokenAt = now + Math.max(nextInMs, taken.blockedForMs);
      this.#againAt = now + Math.max(nextInMs - AHEAD_MS, taken.waitMs);
    }
    this.#options.onAnswer(rate, taken, askedAt);
  }

  #failed(): void {
    this.#underWay = undefined;
    const delayMs = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures);
    this.#failures = Math.min(10, this.#failures + 1);
    this.#againAt = this.#options.clock.monotonic() + delayMs;
    this.#options.onFailure();
  }
}
