/** The system's clock with a hand on it: time can be moved forward, for back-offs that would take minutes. */
import { type Clock, systemClock } from '../../src/clock.ts';

export interface TestClock extends Clock {
  /** From now on it is this much later, on both clocks. Timers that are running keep their own pace. */
  advance(ms: number): void;
}

export function testClock(): TestClock {
  let aheadMs = 0;
  return {
    now: () => new Date(systemClock.now().getTime() + aheadMs),
    monotonic: () => systemClock.monotonic() + aheadMs,
    schedule: systemClock.schedule,
    advance: (ms) => {
      aheadMs += ms;
    },
  };
}

/** A sign of life would set the clock by the server's time again: with these it is given once. */
export const RARE_HEARTBEAT = { heartbeatMs: 600_000, workerOfflineAfterMs: 1_800_000 };
