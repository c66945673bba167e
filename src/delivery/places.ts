/**
 * One page's places in the windows of its run and of its messenger. Invariant: the recipients of the page that can stand as
 * `sending` in the document, before or after the flush under way, never exceed the places taken. The place of a finished
 * send goes straight to the next intent of the same flush, because the document changes both at once.
 */
import type { MessengerLine } from './messenger-line.ts';
import type { Slots } from './slots.ts';

export class Places {
  readonly #window: Slots;
  readonly #line: MessengerLine;
  readonly #wake: () => void;
  #taken = 0;

  constructor(window: Slots, line: MessengerLine, wake: () => void) {
    this.#window = window;
    this.#line = line;
    this.#wake = wake;
  }

  /** Somebody waits for places that this page may hold. */
  get contended(): boolean {
    return this.#window.contended || this.#line.window.contended;
  }

  /** How many intents more than the `open` ones are possible now; asks to be woken when others hold all places. */
  room(open: number): number {
    const { window, users, mostIntents } = this.#line;
    const fairShare = window.contended ? Math.max(1, Math.floor(window.capacity / users)) : window.capacity;
    const free = Math.min(this.#window.free, window.free);
    const room = Math.min(this.#taken + free, fairShare, mostIntents) - open;
    if (room > 0) return room;
    for (const slots of [this.#window, window]) {
      if (slots.free === 0 && this.#taken < slots.capacity) slots.waitForFree(this.#wake);
    }
    return 0;
  }

  /** Makes sure of places for so many open recipients. */
  reserve(open: number): void {
    const more = open - this.#taken;
    if (more <= 0) return;
    this.#window.take(more);
    this.#line.window.take(more);
    this.#taken = open;
  }

  /** Frees the places beyond so many: a flush was acknowledged. */
  keep(open: number): void {
    const freed = this.#taken - open;
    if (freed <= 0) return;
    this.#taken = open;
    this.#window.release(freed);
    this.#line.window.release(freed);
  }

  /** The page is gone. */
  giveUp(): void {
    this.keep(0);
    this.#window.forget(this.#wake);
    this.#line.window.forget(this.#wake);
  }
}
