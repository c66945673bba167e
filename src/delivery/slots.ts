/**
 * A fixed number of places that many users share: sends in flight, or recipients whose fate is open. Invariant: never more
 * taken than there are. Who found none is
 * called when places come free, in the order of asking, as many as there are places.
 */

export class Slots {
  readonly capacity: number;
  #used = 0;
  #waiters = new Set<() => void>();

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get free(): number {
    return this.capacity - this.#used;
  }
  /** Somebody could use places that others hold. */
  get contended(): boolean {
    return this.#waiters.size > 0;
  }

  take(count: number): void {
    if (count > this.free) throw new RangeError(`${count} places asked for, ${this.free} free`);
    this.#used += count;
  }

  release(count: number): void {
    this.#used -= count;
    if (count === 0 || this.#waiters.size === 0) return;
    for (const call of [...this.#waiters].slice(0, count)) {
      this.#waiters.delete(call);
      call();
    }
  }

  /** Calls once, when places come free. Asking twice counts once. */
  waitForFree(call: () => void): void {
    this.#waiters.add(call);
  }
  forget(call: () => void): void {
    this.#waiters.delete(call);
  }
}
