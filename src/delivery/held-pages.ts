/**
 * The pages that this worker holds, or is about to hold because a claim or a takeover is under way, and the runs that they
 * are of.
 */
import type { Clock } from '../clock.ts';
import type { HeldRun, HeldRunBeat } from './hold-environment.ts';
import type { PageHold } from './page-hold.ts';

const LOOK_MS = 100;

export class HeldPages {
  readonly #clock: Clock;
  readonly #holds = new Set<PageHold>();
  /** With how many pages each is held, or 0: it was since somebody last asked. */
  readonly #runs = new Map<HeldRun, number>();
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
  /** Since when the one that has been held longest is held, monotonic; undefined: none is held. */
  get since(): number | undefined {
    let oldest: number | undefined;
    for (const { heldSince } of this.#holds) oldest = Math.min(oldest ?? heldSince, heldSince);
    return oldest;
  }
  /** Ids of the runs that pages are held of. */
  get runIds(): string[] {
    return [...this.#runs].filter(([, pages]) => pages > 0).map(([{ doc }]) => doc._id);
  }

  [Symbol.iterator](): Iterator<PageHold> {
    return this.#holds.values();
  }

  add(hold: PageHold, run: HeldRun): void {
    this.#holds.add(hold);
    this.#bytes += hold.bytes;
    this.#count(run, 1);
  }
  remove(hold: PageHold, run: HeldRun): void {
    this.#holds.delete(hold);
    this.#bytes -= hold.bytes;
    this.#count(run, -1);
    this.#removed?.();
  }

  #count(run: HeldRun, pages: 1 | -1): void {
    this.#runs.set(run, (this.#runs.get(run) ?? 0) + pages);
  }

  /** The runs that pages were held of since the last call, and who was handed over last. */
  takeRuns(): HeldRunBeat[] {
    const found = [...this.#runs];
    for (const [run, pages] of found) if (pages === 0) this.#runs.delete(run);
    return found.map(([{ doc, lastRecipient }]) => ({ runId: doc._id, recipient: lastRecipient ?? null }));
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
