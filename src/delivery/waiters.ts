/**
 * Who waits for how much of something, in the order of asking. Invariant: what has come is offered from the front until it
 * would be used up, so that a wake-up is worth its while and nobody is passed over; who asks again while waiting keeps the
 * place and changes the amount.
 */

export class Waiters {
  readonly #amounts = new Map<() => void, number>();

  /** How much they want together. */
  get wanted(): number {
    let sum = 0;
    for (const amount of this.#amounts.values()) sum += amount;
    return sum;
  }
  get size(): number {
    return this.#amounts.size;
  }

  add(wake: () => void, amount: number): void {
    this.#amounts.set(wake, amount);
  }
  forget(wake: () => void): void {
    this.#amounts.delete(wake);
  }

  /** Wakes those at the front who can use up `available` together. Each is woken once and has to ask again. */
  call(available: number): void {
    let left = available;
    for (const [wake, amount] of [...this.#amounts]) {
      if (left <= 0) return;
      left -= amount;
      this.#amounts.delete(wake);
      wake();
    }
  }
}
