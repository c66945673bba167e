/**
 * The single writer of a held page: numbers its flushes, repeats each until it is known what became of it, and says until
 * when the claim can be trusted. Invariant: one flush at a time; a flush is repeated unchanged, so a lost answer is
 * harmless; trust counts from the first start of the last acknowledged flush, never from its end or a repetition: it may
 * have been applied at once, and what watchers count from is the change.
 */
import type { Release } from '../core/page-release.ts';
import type { LateTruth } from '../core/settlement.ts';
import { orAtDeadline } from '../deadline.ts';
import type { Claim } from '../store/documents.ts';
import { type FlushAnswer, flushPage, type PageImage } from '../store/ledger-flushes.ts';
import { removeLateTruths } from '../store/ledger-late-truths.ts';
import { type HoldEnvironment, type Moment, momentOf } from './hold-environment.ts';

const REPEAT_MS = 500;
/** How long one try waits for its answer at the most; the first ones wait for less. */
const LONGEST_TRY_MS = 30_000;

export class PageFlusher {
  readonly #env: HoldEnvironment;
  readonly #pageId: string;
  readonly #token: string;
  #seq: number;
  #lastStart: Moment;
  #trustedUntil: Moment;
  #forced = false;

  constructor(env: HoldEnvironment, pageId: string, claim: Pick<Claim, 'token' | 'seq'>, claimedAt: Moment) {
    this.#env = env;
    this.#pageId = pageId;
    this.#token = claim.token;
    this.#seq = claim.seq;
    this.#lastStart = claimedAt;
    this.#trustedUntil = this.#trustFrom(claimedAt);
  }

  /** May a send start now? Not after `start of the last acknowledged flush + ttl − margin`, by either clock. */
  get trusted(): boolean {
    const { clock } = this.#env;
    const until = this.#trustedUntil;
    return clock.monotonic() < until.monotonic && clock.now().getTime() < until.wall;
  }
  /** A third of the claim's life has passed since the last flush began. */
  get renewalDue(): boolean {
    return this.#env.clock.monotonic() - this.#lastStart.monotonic >= this.#env.claimTtlMs / 3;
  }

  /** Writes until the database has answered. `seenLate` are late truths that the image contains: they are removed after. */
  async flush(
    image: PageImage,
    release: Release | undefined,
    seenLate: readonly LateTruth[],
  ): Promise<FlushAnswer> {
    const { clock, store, logger } = this.#env;
    this.#seq += 1;
    const flush = {
      pageId: this.#pageId,
      token: this.#token,
      seq: this.#seq,
      image,
      ...(release === undefined ? {} : { release }),
    };
    const trust = this.#trustFrom(momentOf(clock));
    for (let failures = 0; ; failures += 1) {
      this.#lastStart = momentOf(clock);
      try {
        const answer = await this.#answerOf(flushPage(store, flush), failures);
        if (answer === 'applied') this.#trustedUntil = trust;
        if (answer === 'applied' && seenLate.length > 0)
          await removeLateTruths(store, this.#pageId, seenLate);
        return answer;
      } catch (error) {
        if (failures === 0)
          logger.warn({ error, page: this.#pageId }, 'outcomes wait: MongoDB does not take them');
        if (this.#forced) return 'lost';
        await new Promise<void>((resolve) => clock.schedule(REPEAT_MS, resolve));
      }
    }
  }

  /**
   * A try without an answer is made again while there is still life in the claim: the answer may never come (see
   * `store/bounded.ts`), and others would take the page although its holder knows what became of its sends.
   */
  #answerOf(flushing: Promise<FlushAnswer>, failures: number): Promise<FlushAnswer> {
    const { clock, claimTtlMs } = this.#env;
    const ms = Math.min(LONGEST_TRY_MS, (claimTtlMs / 3) * 2 ** failures);
    return orAtDeadline(flushing, ms, clock, () => {
      throw new Error(`MongoDB gave no answer within ${Math.round(ms)} ms`);
    });
  }

  /** Repeats no more. */
  force(): void {
    this.#forced = true;
  }

  #trustFrom(start: Moment): Moment {
    const trustMs = this.#env.claimTtlMs - this.#env.claimMarginMs;
    return { monotonic: start.monotonic + trustMs, wall: start.wall + trustMs };
  }
}
