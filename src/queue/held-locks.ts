/**
 * The locks this process holds, counted by ourselves. Agenda's own counter grows for ever when it drops a job that
 * waited too long in its queue; here a lock that is one and a half lifetimes old no longer counts, and is forgotten
 * unless its run has begun.
 *
 * Invariant: `whenIdle` resolves only when no run is going on, no lock is held and no request that may still take or
 * give back one is in flight, so that nothing of ours reaches the database afterwards.
 */
import type { Clock } from '../clock.ts';

export interface HeldLock {
  readonly jobId: string;
  readonly name: string;
  readonly token: string;
}

export class HeldLocks {
  readonly #clock: Clock;
  readonly #forgetAfterMs: number;
  readonly #held = new Map<string, HeldLock & { renewedAt: number; started: boolean }>();
  #requests = 0;
  #waiting: (() => void)[] = [];

  constructor(clock: Clock, lockLifetimeMs: number) {
    this.#clock = clock;
    this.#forgetAfterMs = lockLifetimeMs * 1.5;
  }

  /** `since`: monotonic time before the request that took the lock was sent. */
  take(lock: HeldLock, since: number): void {
    this.#held.set(lock.token, { ...lock, renewedAt: since, started: false });
  }

  /** The run begins, or renews its lock. From now on only `drop` ends it: Agenda always writes the end of a run. */
  renew(token: string): void {
    const lock = this.#held.get(token);
    if (!lock) return;
    lock.renewedAt = this.#clock.monotonic();
    lock.started = true;
  }

  drop(token: string): void {
    if (this.#held.delete(token)) this.#wakeWaiting();
  }

  /** All locks on this job: more than one when an earlier run of it outlived its lock. */
  ofJob(jobId: string): HeldLock[] {
    return [...this.#held.values()].filter((lock) => lock.jobId === jobId);
  }

  get size(): number {
    return this.#held.size;
  }

  count(name: string): number {
    const oldest = this.#clock.monotonic() - this.#forgetAfterMs;
    let count = 0;
    for (const lock of this.#held.values()) {
      const expired = lock.renewedAt < oldest;
      if (expired && !lock.started) this.drop(lock.token);
      else if (!expired && lock.name === name) count++;
    }
    return count;
  }

  /** Counts a request that may change what is held as work in progress until it settles. */
  async during<T>(request: () => Promise<T>): Promise<T> {
    this.#requests++;
    try {
      return await request();
    } finally {
      this.#requests--;
      this.#wakeWaiting();
    }
  }

  async whenIdle(): Promise<void> {
    while (!this.#isIdle()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #isIdle(): boolean {
    return this.#held.size === 0 && this.#requests === 0;
  }

  #wakeWaiting(): void {
    if (this.#isIdle()) for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
