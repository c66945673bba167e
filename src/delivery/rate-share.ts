/**
 * One page's part in the rates of its campaign and its messenger. A send uses one token of each, at the same moment or not
 * at all. Invariants: the page's intents that have not begun never exceed what it has reserved at every gate; the
 * campaign is asked first, and the messenger for no more than the campaign has granted, so that a slow campaign takes
 * nothing from the others.
 */
import type { RateGate } from './rate-gate.ts';

export class RateShare {
  /** The campaign's, then the messenger's. */
  readonly #gates: readonly RateGate[];
  readonly #wake: () => void;
  #reserved = 0;

  constructor(gates: readonly RateGate[], wake: () => void) {
    this.#gates = gates;
    this.#wake = wake;
  }

  /** Intents not begun that have a place in the rates. */
  get reserved(): number {
    return this.#reserved;
  }
  /** An intent should be written only when its send can start at once: tokens come one by one. */
  get scarce(): boolean {
    return this.#gates.some((gate) => gate.scarce);
  }

  /** How many of `wanted` intents may be written now; asks to be woken where that are fewer. */
  askForRoom(wanted: number): number {
    // While a provider rests, or the campaign has no token, nothing is asked of the other gate: it would only expire.
    const closed =
      this.#gates.find((gate) => gate.blockedForMs() > 0) ?? this.#gates.find((gate) => gate.room() === 0);
    if (closed !== undefined) {
      const others = this.#gates.filter((gate) => gate !== closed).map((gate) => gate.room());
      closed.waitForRoom(this.#wake, Math.min(wanted, ...others.filter((room) => room > 0)));
      return 0;
    }
    const room = Math.min(wanted, ...this.#gates.map((gate) => gate.room()));
    for (const gate of this.#gates) {
      if (gate.room() < wanted && gate.room() === room) gate.waitForRoom(this.#wake, wanted - room);
    }
    return room;
  }

  /** Before the flush that writes these many intents. */
  reserve(count: number): void {
    this.#reserved += count;
    for (const gate of this.#gates) gate.reserve(count);
  }

  /** Intents that had not begun were withdrawn. */
  release(count: number): void {
    this.#reserved -= count;
    for (const gate of this.#gates) gate.release(count);
  }

  /** Uses one token of each rate for a send that starts now; asks to be woken where one is missing. */
  tryStart(): boolean {
    let missing = false;
    for (const gate of this.#gates) {
      if (gate.ready) continue;
      gate.waitForToken(this.#wake, this.#reserved);
      missing = true;
    }
    if (missing) return false;
    for (const gate of this.#gates) gate.tryTake();
    this.#reserved -= 1;
    return true;
  }

  /** How far away the next send is, ms. Undefined: not known yet. */
  nextAtMs(): number | undefined {
    let furthest: number | undefined;
    for (const gate of this.#gates) {
      const ms = gate.nextAtMs();
      if (ms !== undefined) furthest = Math.max(furthest ?? 0, ms);
    }
    return this.#gates.length === 0 ? 0 : furthest;
  }

  /** How long a provider's rest still lasts, ms. */
  blockedForMs(): number {
    return Math.max(0, ...this.#gates.map((gate) => gate.blockedForMs()));
  }

  /** The page is gone. */
  giveUp(): void {
    this.stopWaiting();
    this.release(this.#reserved);
  }

  /** The page is let go of: it wants no more. */
  stopWaiting(): void {
    for (const gate of this.#gates) gate.forget(this.#wake);
  }
}
