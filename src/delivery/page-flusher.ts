/**
 * The single writer of a held page: numbers its flushes, repeats each until it is known what became of it, and says until
 * when the claim can be trusted. Invariant: one flush at a time; a flush is repeated unchanged, so a lost answer is
 * harmless; trust counts from the first start of the last acknowledged flush, never from its end or a repetition: it may
 * have been applied at once, and what watchers count from is the change.
 */
import type { LateTruth } from '../core/settlement.ts';
import type { Claim } from '../store/documents.ts';
import {
  type FlushAnswer,
  flushPage,
  type PageImage,
  type Release,
  removeLateTruths,
} from '../store/ledger-pages.ts';
import { type HoldEnvironment, type Moment, momentOf } from './hold-environment.ts';

const REPEAT_MS = 500;

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
    const now = momentOf(this.#env.clock);
    return now.monotonic < this.#trustedUntil.monotonic && now.wall < this.#trustedUntil.wall;
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
        const answer = await flushPage(store, flush);
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

  /** Repeats no more. */
  force(): void {
    this.#forced = true;
  }

  #trustFrom(start: Moment): Moment {
    const trustMs = this.#env.claimTtlMs - this.#env.claimMarginMs;
    return { monotonic: start.monotonic + trustMs, wall: start.wall + trustMs };
  }
}
