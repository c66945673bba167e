/** A clock of its own: time stands still until a test moves it, then every timer runs at its moment, in order. */
import type { Clock } from '../../src/clock.ts';

const ORIGIN = Date.UTC(2026, 0, 1);
/** Turns of the event loop between two moments: an answer wakes a sender, which asks again in the next turn. */
const TURNS = 4;

export class VirtualClock implements Clock {
  #now = 0;
  #timers = new Map<object, { readonly at: number; readonly run: () => void }>();

  now(): Date {
    return new Date(ORIGIN + this.#now);
  }
  monotonic(): number {
    return this.#now;
  }
  schedule(ms: number, run: () => void): () => void {
    const key = {};
    // Like setTimeout: never at once, in whole milliseconds.
    this.#timers.set(key, { at: this.#now + Math.max(1, Math.trunc(ms)), run });
    return () => this.#timers.delete(key);
  }

  get timers(): number {
    return this.#timers.size;
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.schedule(ms, resolve));
  }

  /** Lets so much time pass. Promises settle between two moments. */
  async advance(ms: number): Promise<void> {
    const until = this.#now + ms;
    for (;;) {
      for (let turn = 0; turn < TURNS; turn += 1) await new Promise((resolve) => setImmediate(resolve));
      let next: [object, { readonly at: number; readonly run: () => void }] | undefined;
      for (const timer of this.#timers) {
        if (next === undefined || timer[1].at < next[1].at) next = timer;
      }
      if (next === undefined || next[1].at > until) break;
      this.#timers.delete(next[0]);
      this.#now = Math.max(this.#now, next[1].at);
      next[1].run();
    }
    this.#now = until;
  }
}
