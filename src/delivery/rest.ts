/**
 * The rest that a provider asked for, as this worker knows it. Invariant: here it counts at once; it is told to the other
 * servers until MongoDB has taken it or it is over.
 */
import type { Clock } from '../clock.ts';

const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 5_000;

export class Rest {
  readonly #clock: Clock;
  readonly #tell: (forMs: number) => Promise<unknown>;
  #until = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(clock: Clock, tell: (forMs: number) => Promise<unknown>) {
    this.#clock = clock;
    this.#tell = tell;
  }

  /** By the monotonic clock. */
  get until(): number {
    return this.#until;
  }
  get leftMs(): number {
    if (this.#until === Number.NEGATIVE_INFINITY) return 0; // asked before every send
    return Math.max(0, this.#until - this.#clock.monotonic());
  }

  /** Somebody asked for a rest of so long. One that lasts longer stays. */
  extend(forMs: number): void {
    this.#until = Math.max(this.#until, this.#clock.monotonic() + forMs);
  }

  /** Lets every server rest. */
  announce(forMs: number): void {
    this.extend(forMs);
    this.#repeat(this.#clock.monotonic() + forMs, FIRST_RETRY_MS);
  }

  close(): void {
    this.#closed = true;
  }

  #repeat(until: number, delayMs: number): void {
    const leftMs = until - this.#clock.monotonic();
    if (leftMs <= 0 || this.#closed) return;
    this.#tell(leftMs).catch(() => {
      this.#clock.schedule(delayMs, () => this.#repeat(until, Math.min(2 * delayMs, LONGEST_RETRY_MS)));
    });
  }
}
