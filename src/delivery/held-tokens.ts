/**
 * The tokens of one key that this worker has in hand, by the monotonic clock. Invariant: a token is used at its point of
 * the grid or later, and before its block expires. Both ends lean to the safe side: points count from the answer, the
 * block's end from the question, so that the unknown time on the way makes a token usable later and for less time.
 */
import { BLOCK_LIFE_MS, type Rate, spacingMs } from '../core/rate.ts';
import type { TakenBlock } from '../store/rates.ts';

/** Tokens to be given back: so many of the block that was granted then, under that rate. */
export interface Unused {
  readonly rate: Rate;
  readonly count: number;
  readonly takenAt: Date;
}

interface Block {
  readonly rate: Rate;
  readonly takenAt: Date;
  readonly spacingMs: number;
  readonly askedAt: number;
  readonly expiresAt: number;
  /** Point of the next token. */
  nextAt: number;
  left: number;
}

export class HeldTokens {
  /** In the order of their points. */
  #blocks: Block[] = [];

  add(rate: Rate, taken: TakenBlock, askedAt: number, answeredAt: number): void {
    const granted = spacingMs(rate);
    const lastAt = answeredAt + taken.firstInMs + (taken.granted - 1) * granted;
    // Late tokens catch up at twice the speed at most, not all at once.
    const nextAt = answeredAt + Math.max(0, taken.firstInMs);
    const spacing =
      taken.firstInMs >= 0
        ? granted
        : Math.max(granted / 2, (lastAt - nextAt) / Math.max(1, taken.granted - 1));
    const expiresAt = askedAt + BLOCK_LIFE_MS + Math.min(0, taken.firstInMs);
    const inTime = Math.max(0, Math.ceil((expiresAt - nextAt) / spacing));
    const left = Math.min(taken.granted, inTime);
    const { takenAt } = taken;
    this.#blocks.push({ rate, takenAt, spacingMs: spacing, askedAt, expiresAt, nextAt, left });
    this.#blocks.sort((a, b) => a.nextAt - b.nextAt);
  }

  count(now: number): number {
    return this.#live(now).reduce((sum, { left }) => sum + left, 0);
  }

  /** How many can be used at once. */
  usable(now: number): number {
    let sum = 0;
    for (const { nextAt, left, spacingMs } of this.#live(now)) {
      if (nextAt <= now) sum += Math.min(left, Math.floor((now - nextAt) / spacingMs) + 1);
    }
    return sum;
  }

  /** When the next token can be used; may be past. */
  nextAt(now: number): number | undefined {
    return this.#live(now)[0]?.nextAt;
  }

  /** Point of the last token. */
  lastAt(now: number): number | undefined {
    const last = this.#live(now).at(-1);
    return last === undefined ? undefined : last.nextAt + (last.left - 1) * last.spacingMs;
  }

  /** Uses one, if one is usable. */
  use(now: number): boolean {
    const block = this.#live(now)[0];
    if (block === undefined || block.nextAt > now) return false;
    block.left -= 1;
    block.nextAt += block.spacingMs;
    this.#blocks.sort((a, b) => a.nextAt - b.nextAt);
    return true;
  }

  /** Takes out at most so many of the blocks asked for at `askedBefore` or earlier, those that are furthest away first. */
  takeOut(now: number, most: number, askedBefore = Number.POSITIVE_INFINITY): Unused[] {
    const unused: Unused[] = [];
    let more = most;
    for (const block of this.#live(now).toReversed()) {
      const count = Math.min(block.left, more);
      if (count <= 0 || block.askedAt > askedBefore) continue;
      block.left -= count;
      more -= count;
      unused.push({ rate: block.rate, count, takenAt: block.takenAt });
    }
    return unused;
  }

  /** When the oldest block was asked for. */
  oldestAskedAt(now: number): number | undefined {
    const live = this.#live(now);
    return live.length === 0 ? undefined : Math.min(...live.map(({ askedAt }) => askedAt));
  }

  #live(now: number): Block[] {
    if (this.#blocks.some(({ left, expiresAt }) => left === 0 || expiresAt <= now)) {
      this.#blocks = this.#blocks.filter(({ left, expiresAt }) => left > 0 && expiresAt > now);
    }
    return this.#blocks;
  }
}
