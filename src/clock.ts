/**
 * Time as a port. Two different clocks, because they answer two different questions: `now()` is the wall clock (it can
 * jump), `monotonic()` only ever grows and is what every duration and every trust decision is measured with.
 */

export interface Clock {
  /** The wall clock of this machine. */
  now(): Date;
  /** Milliseconds since an arbitrary instant; never goes back. */
  monotonic(): number;
  /** Calls `run` after `ms`; the returned function cancels it. Never keeps the process alive by itself. */
  schedule(ms: number, run: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => new Date(),
  monotonic: () => performance.now(),
  schedule: (ms, run) => {
    const timer = setTimeout(run, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};
