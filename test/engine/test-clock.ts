/** The system's clock with a hand on it: time can be moved forward, for back-offs that would take minutes. */
import { type Clock, systemClock } from '../../src/clock.ts';

export interface TestClock extends Clock {
  /** From now on it is this much later, on both clocks. Timers that are running keep their own pace. */
  advance(ms: number): void;
  /** Forward to this instant, whatever day it is. */
  goTo(instant: string | Date): void;
  /** How often a timer of exactly this length has run out. */
  ended(ms: number): number;
}

export function testClock(): TestClock {
  let aheadMs = 0;
  const ended = new Map<number, number>();
  const clock: TestClock = {
    now: () => new Date(systemClock.now().getTime() + aheadMs),
    monotonic: () => systemClock.monotonic() + aheadMs,
    schedule: (ms, run) =>
      systemClock.schedule(ms, () => {
        ended.set(ms, (ended.get(ms) ?? 0) + 1);
        run();
      }),
    ended: (ms) => ended.get(ms) ?? 0,
    advance: (ms) => {
      aheadMs += ms;
    },
    goTo: (instant) => {
      const ms = new Date(instant).getTime() - clock.now().getTime();
      if (ms < 0) throw new Error('this clock only goes forward');
      aheadMs += ms;
    },
  };
  return clock;
}

/** A sign of life would set the clock by the server's time again: with these it is given once. */
export const RARE_HEARTBEAT = { heartbeatMs: 600_000, workerOfflineAfterMs: 1_800_000 };

/** So long that moving the clock by seconds ends no claim and no send. */
export const LONG_HELD = { claimTtlMs: 60_000, claimMarginMs: 1_000, sendTimeoutMs: 600_000 };
