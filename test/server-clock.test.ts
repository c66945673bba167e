/** The server's time as a worker measures it, over questions that take their time: on clocks that the test sets. */
import { expect, it } from 'vitest';
import { systemClock } from '../src/clock.ts';
import { createServerClock } from '../src/server-clock.ts';

/** The server is ten seconds ahead. Each question takes these many ms before the server reads its clock, and after. */
function scene(...trips: [beforeMs: number, afterMs: number][]) {
  let ms = 0;
  let asked = 0;
  const clock = { ...systemClock, now: () => new Date(ms), monotonic: () => ms };
  const serverClock = createServerClock(clock);
  const ask = async (): Promise<Date> => {
    const [before = 0, after = 0] = trips[asked] ?? trips.at(-1) ?? [];
    asked += 1;
    ms += before;
    const server = new Date(ms + 10_000);
    ms += after;
    return server;
  };
  return {
    measure: () => serverClock.measure(ask),
    /** How wrong it is. */
    errorMs: () => Math.abs(serverClock.skewMs() - 10_000),
    asked: () => asked,
  };
}

it('asks once where the answer is quick', async () => {
  const { measure, errorMs, asked } = scene([3, 3]);
  await measure();
  expect([errorMs(), asked()]).toEqual([0, 1]);
});

it('asks again after it stood still for a minute, and is right at once', async () => {
  const { measure, errorMs, asked } = scene([60_000, 2], [4, 2]);
  await measure();
  expect(errorMs()).toBeLessThanOrEqual(1);
  expect(asked()).toBe(2);
});

it('keeps the best where every answer is slow, and gives up after a few', async () => {
  const { measure, errorMs, asked } = scene([40_000, 0], [900, 0], [2_000, 0], [8_000, 0]);
  await measure();
  expect(errorMs()).toBe(450);
  expect(asked()).toBe(4);
});

it('a stop between two measurements does not spoil a good one', async () => {
  const { measure, errorMs } = scene([2, 2], [60_000, 0], [50_000, 0], [40_000, 0], [30_000, 0]);
  await measure();
  await measure();
  expect(errorMs()).toBe(0);
});
