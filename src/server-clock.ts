/**
 * The server's time as this worker knows it: what decides whether something is due. Measured against the monotonic clock,
 * so a jump of the machine's wall clock moves nothing.
 */
import type { Clock } from './clock.ts';

/** A round trip longer than this is measured again, ms. */
const SLOW_MS = 500;
const TRIES = 4;

export interface ServerClock {
  /** The server's present time, about. */
  now(): Date;
  /** Server time minus this machine's wall clock, ms. */
  skewMs(): number;
  /**
   * Takes a measurement: `ask` reads the server's time. The middle of the question counts, so a process that stood still
   * between asking and sending, or between the answer and reading it, would be wrong by half that time: a slow answer is
   * asked for again, at most `TRIES` times in all, and the best one counts.
   */
  measure(ask: () => Promise<Date>): Promise<void>;
}

export function createServerClock(clock: Clock): ServerClock {
  let origin: number | undefined; // server time minus monotonic time
  let spread = Number.POSITIVE_INFINITY; // half the round trip of the best recent measurement
  const now = (): Date => (origin === undefined ? clock.now() : new Date(clock.monotonic() + origin));
  /** Returns the length of the round trip, ms. */
  const once = async (ask: () => Promise<Date>): Promise<number> => {
    const asked = clock.monotonic();
    const server = await ask();
    const answered = clock.monotonic();
    const error = (answered - asked) / 2;
    const measured = server.getTime() - (asked + error);
    // A slow answer says little: keep a better measurement unless the two can no longer both be right.
    const contradicts = origin === undefined || Math.abs(measured - origin) > error + spread;
    if (contradicts || error <= spread) {
      origin = measured;
      spread = error;
    } else spread *= 1.5; // trust in an old measurement fades
    return answered - asked;
  };
  return {
    now,
    skewMs: () => now().getTime() - clock.now().getTime(),
    measure: async (ask) => {
      for (let tries = 1; (await once(ask)) > SLOW_MS && tries < TRIES; tries += 1);
    },
  };
}
