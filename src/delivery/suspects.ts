/**
 * The recipients of one page that were in flight at two deaths of a holder in a row: they go out one at a time. Invariants:
 * this worker has at most one of them in flight, of all its pages, and while it has, nobody else of its page; the place for
 * that is freed only when the document no longer shows it as `sending`. So the next death names the one that may be to blame.
 */
import { deathsOf, isSuspect } from '../core/crash-loop.ts';
import type { LedgerPage } from '../core/ledger-page.ts';
import type { Slots } from './slots.ts';

export class Suspects {
  readonly #page: LedgerPage;
  readonly #place: Slots;
  readonly #wake: () => void;
  #waiting = new Set<number>();
  #hasPlace = false;

  /** `place`: the one that all pages of this worker share. `wake` is called when it may be free. */
  constructor(page: LedgerPage, place: Slots, wake: () => void) {
    this.#page = page;
    this.#place = place;
    this.#wake = wake;
  }

  /** How many wait for an intent. */
  get waiting(): number {
    return this.#waiting.size;
  }
  /** One of them is in flight, or the document may still say so: nobody else of the page starts. */
  get open(): boolean {
    return this.#hasPlace;
  }
  /** Other pages wait for the place that this one has. */
  get contended(): boolean {
    return this.#hasPlace && this.#place.contended;
  }

  /** Keeps the suspects among these, and returns the others: last those that were in flight at a death. */
  keepOf(indices: readonly number[]): number[] {
    const first: number[] = [];
    const last: number[] = [];
    for (const index of indices) {
      if (isSuspect(this.#page, index)) this.#waiting.add(index);
      else (deathsOf(this.#page, index) > 0 ? last : first).push(index);
    }
    return [...first, ...last];
  }
  clear(): void {
    this.#waiting.clear();
  }

  /** Who is next. Undefined: nobody waits, or another page has one in flight; the page is woken when that has ended. */
  next(): number | undefined {
    if (this.#waiting.size === 0) return undefined;
    if (!this.#hasPlace && this.#place.free === 0) {
      this.#place.waitForFree(this.#wake);
      return undefined;
    }
    return this.#waiting.values().next().value;
  }
  /** Its intent is about to be written. */
  begin(index: number): void {
    this.#waiting.delete(index);
    if (!this.#hasPlace) this.#place.take(1);
    this.#hasPlace = true;
  }

  /** A flush is durable that leaves so many as `sending`. */
  keepPlace(open: number): void {
    if (!this.#hasPlace || open > 0) return;
    this.#hasPlace = false;
    this.#place.release(1);
  }

  /** The page is gone. */
  giveUp(): void {
    this.keepPlace(0);
    this.#place.forget(this.#wake);
  }
}
