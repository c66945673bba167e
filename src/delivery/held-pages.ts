/** The pages that this worker holds, or is about to hold because a claim or a takeover is under way. */
import type { Clock } from '../clock.ts';
import type { PageHold } from './page-hold.ts';

const LOOK_MS = 100;

export class HeldPages {
  readonly #clock: Clock;
  readonly #holds = new Set<PageHold>();
  #bytes = 0;
  #taking = 0;
  #removed: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#holds.size;
  }
  /** Claims and takeovers under way. */
  get taking(): number {
    return this.#taking;
  }
  /** What the pages and those to come occupy, if these are like the others. */
  get expectedBytes(): number {
    return this.#bytes * (1 + this.#taking / Math.max(1, this.#holds.size));
  }

  [Symbol.iterator](): Iterator<PageHold> {
    return this.#holds.values();
  }

  add(hold: PageHold): void {
    this.#holds.add(hold);
    this.#bytes += hold.bytes;
  }
  remove(hold: PageHold): void {
    this.#holds.delete(hold);
    this.#bytes -= hold.bytes;
    this.#removed?.();
  }

  /** Does this while it may end in a page to hold. */
  async whileTaking<T>(work: () => Promise<T>): Promise<T> {
    this.#taking += 1;
    try {
      return await work();
    } finally {
      this.#taking -= 1;
    }
  }

  /** Resolves when no page is held and none is being taken. */
  async settled(): Promise<void> {
    while (this.#holds.size > 0 || this.#taking > 0) {
      await new Promise<void>((resolve) => {
        this.#removed = resolve;
        this.#clock.schedule(LOOK_MS, resolve);
      });
    }
  }
}
