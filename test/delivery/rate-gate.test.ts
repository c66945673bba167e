/** Rates in a worker, in virtual time: several gates on one bucket, whatever happens to them. */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Rate } from '../../src/core/rate.ts';
import type { RateGate } from '../../src/delivery/rate-gate.ts';
import { fullest, PlayedBuckets, Sender, type SenderOptions } from './rate-senders.ts';
import { VirtualClock } from './virtual-clock.ts';

let clock: VirtualClock;
let buckets: PlayedBuckets;
let gates: RateGate[];

beforeEach(() => {
  clock = new VirtualClock();
  buckets = new PlayedBuckets(clock);
  gates = [];
});

afterEach(async () => {
  const closing = Promise.all(gates.map((gate) => gate.close()));
  await clock.advance(20_000);
  await closing;
  expect(clock.timers).toBe(0);
});

function gate(key: string, rate: Rate | undefined): RateGate {
  const made = buckets.gate(key, rate);
  gates.push(made);
  return made;
}

const sender = (on: readonly RateGate[], options: Partial<SenderOptions> = {}): Sender =>
  new Sender(on, { clock, ...options });
const sendsOf = (...senders: Sender[]): number[] =>
  senders.flatMap(({ sends }) => sends).sort((a, b) => a - b);

describe('three workers on one rate', () => {
  test('100 a second for half a minute: within 5 %, smooth, and a few questions a second', async () => {
    const senders = [1, 2, 3].map(() => sender([gate('a', { perSecond: 100 })]));
    await clock.advance(30_000);
    const sends = sendsOf(...senders);
    expect(sends.length).toBeGreaterThanOrEqual(2_850);
    expect(sends.length).toBeLessThanOrEqual(3_150);
    expect(fullest(sends, 1_000)).toBeLessThanOrEqual(110);
    expect(fullest(sends, 100)).toBeLessThanOrEqual(20);
    for (const { sends: own } of senders) expect(own.length).toBeGreaterThan(300);
    expect(buckets.questions / 30 / 3).toBeLessThan(6);
    for (const each of senders) each.stop();
  });

  test('10,000 a second: a few questions a second each', async () => {
    const senders = [1, 2, 3].map(() => sender([gate('a', { perSecond: 10_000 })], { window: 400 }));
    await clock.advance(3_000);
    const sends = sendsOf(...senders);
    expect(sends.length).toBeGreaterThanOrEqual(28_500);
    expect(sends.length).toBeLessThanOrEqual(31_500);
    expect(fullest(sends, 1_000)).toBeLessThanOrEqual(20_000);
    expect(buckets.questions / 3 / 3).toBeLessThan(8);
    for (const each of senders) each.stop();
  });

  test('one a minute for an hour never exceeds it, and an hour of waiting costs little', async () => {
    const senders = [1, 2, 3].map(() => sender([gate('a', { perMinute: 1 })]));
    await clock.advance(3_600_000);
    const sends = sendsOf(...senders);
    for (const [position, at] of sends.entries()) {
      if (position > 0) expect(at - (sends[position - 1] ?? 0)).toBeGreaterThanOrEqual(60_000);
    }
    expect(sends.length).toBeGreaterThanOrEqual(57);
    expect(buckets.questions).toBeLessThan(250);
    for (const each of senders) each.stop();
  });

  test('one that holds an intent for each token in hand, no more', async () => {
    const one = sender([gate('a', { perMinute: 30 })], { window: 50, flushMs: 20 });
    for (let ms = 0; ms < 10_000; ms += 7) {
      await clock.advance(7);
      expect(one.share.reserved).toBeLessThanOrEqual(1);
    }
    expect(one.sends.length).toBeGreaterThanOrEqual(5);
    one.stop();
  });
});

describe('a gate', () => {
  test('asks nothing while nobody waits', async () => {
    const idle = gate('a', { perSecond: 100 });
    expect(idle.nextAtMs()).toBeUndefined();
    await clock.advance(60_000);
    expect(buckets.questions).toBe(0);
    expect(clock.timers).toBe(0);
  });

  test('says how far away the next token is', async () => {
    const slow = gate('a', { perMinute: 1 });
    const one = sender([slow]);
    await clock.advance(1_000);
    expect(one.sends).toHaveLength(1);
    expect(slow.nextAtMs()).toBeGreaterThan(58_000);
    expect(slow.nextAtMs()).toBeLessThan(61_000);
    one.stop();
    await clock.advance(70_000);
    expect(slow.nextAtMs()).toBe(0);
  });

  test('gives back on a pause what it has not used, and goes on later', async () => {
    const paused = gate('a', { perMinute: 1 });
    const one = sender([paused], { flushMs: 300 });
    await clock.advance(100);
    expect(one.share.reserved).toBe(1);
    one.stop();
    void paused.giveBack();
    await clock.advance(10);
    expect(buckets.level('a')).toBeCloseTo(0, 3);
    const other = sender([gate('a', { perMinute: 1 })]);
    await clock.advance(100);
    expect(other.sends).toHaveLength(1);
    other.stop();
  });

  test('gives a block that comes too late for its askers back', async () => {
    const late = gate('a', { perMinute: 1 });
    const one = sender([late]);
    await clock.advance(3);
    expect(buckets.questions).toBe(1);
    one.stop();
    await clock.advance(10);
    expect(late.room()).toBe(0);
    expect(buckets.level('a')).toBeCloseTo(0, 3);
  });

  test('loses an unused token of a slow rate to nobody: it goes back before it expires', async () => {
    const campaign = gate('a', { perMinute: 1 });
    const messenger = gate('m', { perSecond: 100 });
    messenger.block(5_000);
    const one = sender([campaign, messenger]);
    await clock.advance(4_900);
    expect(one.sends).toHaveLength(0);
    await clock.advance(2_000);
    expect(one.sends).toHaveLength(1);
    one.stop();
  });

  test('grants nothing while MongoDB is away, asks more and more rarely, and recovers', async () => {
    buckets.away = true;
    const one = sender([gate('a', { perSecond: 100 })]);
    await clock.advance(60_000);
    expect(one.sends).toHaveLength(0);
    expect(buckets.questions).toBeLessThan(20);
    buckets.away = false;
    await clock.advance(6_000);
    expect(one.sends.length).toBeGreaterThan(50);
    one.stop();
  });

  test('a block whose answer took longer than its life is worth nothing', async () => {
    buckets.latencyMs = 600;
    const one = sender([gate('a', { perSecond: 100 })]);
    await clock.advance(10_000);
    expect(one.sends).toHaveLength(0);
    one.stop();
  });

  test('follows another rate at once', async () => {
    const changing = gate('a', { perDay: 1 });
    const one = sender([changing]);
    await clock.advance(10_000);
    expect(one.sends).toHaveLength(1);
    changing.setRate({ perSecond: 100 });
    await clock.advance(1_000);
    expect(one.sends.length).toBeGreaterThan(90);
    changing.setRate(undefined);
    await clock.advance(100);
    expect(one.sends.length).toBeGreaterThan(200);
    one.stop();
  });

  test('is not misled by an answer that was given under the rate before', async () => {
    const changing = gate('a', { perDay: 1 });
    const one = sender([changing]);
    await clock.advance(20);
    buckets.latencyMs = 100;
    void changing.giveBack();
    one.kick();
    await clock.advance(20);
    changing.setRate({ perDay: 2 });
    await clock.advance(20);
    changing.setRate({ perSecond: 100 });
    await clock.advance(2_000);
    expect(one.sends.length).toBeGreaterThan(60);
    one.stop();
  });

  test('a restart has no burst: what the first left is all there is', async () => {
    const first = gate('a', { perSecond: 100 });
    const before = sender([first]);
    await clock.advance(2_000);
    before.stop();
    void first.close();
    const after = sender([gate('a', { perSecond: 100 })]);
    await clock.advance(2_000);
    const sends = sendsOf(before, after);
    expect(sends.length).toBeLessThanOrEqual(430);
    expect(fullest(sends, 1_000)).toBeLessThanOrEqual(130);
    after.stop();
  });
});

test('whatever happens to its senders and to the way to the server, no second is a block above', async () => {
  const event = fc.record({
    afterMs: fc.integer({ min: 1, max: 700 }),
    kind: fc.constantFrom('pause', 'pause', 'restart', 'latency', 'away', 'back', 'rest'),
    which: fc.nat(3),
    ms: fc.integer({ min: 1, max: 400 }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.record({ perSecond: fc.integer({ min: 1, max: 150 }) }),
      fc.array(event, { minLength: 5, maxLength: 25 }),
      async (rate, events) => {
        clock = new VirtualClock();
        buckets = new PlayedBuckets(clock);
        const slots = [0, 1, 2, 3].map(() => {
          const on = gate('a', rate);
          return { on, sender: sender([on], { flushMs: 30, sendMs: 40 }) };
        });
        const sends: number[] = [];
        for (const { afterMs, kind, which, ms } of events) {
          await clock.advance(afterMs);
          const slot = slots[which] as (typeof slots)[number];
          if (kind === 'latency') buckets.latencyMs = ms;
          if (kind === 'away' || kind === 'back') buckets.away = kind === 'away';
          if (kind === 'rest') slot.on.slowDown(ms);
          if (kind !== 'pause' && kind !== 'restart') continue;
          slot.sender.stop();
          sends.push(...slot.sender.sends);
          void (kind === 'pause' ? slot.on.giveBack() : slot.on.close());
          if (kind === 'restart') slot.on = gate('a', rate);
          slot.sender = sender([slot.on], { flushMs: 30, sendMs: 40 });
        }
        buckets.away = false;
        await clock.advance(1_000);
        for (const each of slots) {
          each.sender.stop();
          sends.push(...each.sender.sends);
        }
        expect(fullest(sends, 1_000)).toBeLessThanOrEqual(2 * rate.perSecond + 1);
        const closing = Promise.all(gates.splice(0).map((each) => each.close()));
        await clock.advance(20_000);
        await closing;
        expect(clock.timers).toBe(0);
      },
    ),
    { numRuns: 25 },
  );
});

describe('a rest', () => {
  test('stops every worker on the messenger, rated or not', async () => {
    const [here, there] = [gate('m', { perSecond: 100 }), gate('m', { perSecond: 100 })];
    const senders = [sender([here]), sender([there])];
    await clock.advance(1_000);
    here.slowDown(5_000);
    await clock.advance(1_000);
    const before = sendsOf(...senders).length;
    await clock.advance(3_900);
    expect(sendsOf(...senders)).toHaveLength(before);
    expect(there.blockedForMs()).toBeGreaterThan(0);
    await clock.advance(1_500);
    expect(sendsOf(...senders).length).toBeGreaterThan(before + 80);
    for (const each of senders) each.stop();
  });

  test('without a rate: passes freely, rests when told, and goes on by itself', async () => {
    const free = gate('m', undefined);
    const one = sender([free], { sendMs: 5 });
    await clock.advance(100);
    expect(one.sends.length).toBeGreaterThan(50);
    free.block(2_000);
    expect(free.nextAtMs()).toBe(2_000);
    await clock.advance(10);
    const before = one.sends.length;
    await clock.advance(1_900);
    expect(one.sends).toHaveLength(before);
    await clock.advance(200);
    expect(one.sends.length).toBeGreaterThan(before);
    expect(buckets.questions).toBe(0);
    one.stop();
  });

  test('is told to the others when MongoDB is back', async () => {
    const here = gate('m', undefined);
    buckets.away = true;
    here.slowDown(60_000);
    await clock.advance(10_000);
    buckets.away = false;
    await clock.advance(6_000);
    const there = gate('m', { perSecond: 100 });
    const one = sender([there]);
    await clock.advance(1_000);
    expect(one.sends).toHaveLength(0);
    expect(there.blockedForMs()).toBeGreaterThan(40_000);
    one.stop();
  });
});

describe('several campaigns on one messenger', () => {
  test('share its rate in turn', async () => {
    const messenger = gate('m', { perSecond: 100 });
    const campaigns = Array.from({ length: 10 }, () => sender([messenger]));
    await clock.advance(20_000);
    expect(sendsOf(...campaigns).length).toBeGreaterThanOrEqual(1_900);
    for (const { sends } of campaigns) {
      expect(sends.length).toBeGreaterThan(140);
      expect(sends.length).toBeLessThan(260);
    }
    for (const each of campaigns) each.stop();
  });

  test('one that waits for its own rate blocks no other and takes none of its tokens', async () => {
    const messenger = gate('m', { perSecond: 100 });
    const slow = Array.from({ length: 20 }, (_, index) =>
      sender([gate(`s${index}`, { perMinute: 1 }), messenger]),
    );
    const fast = sender([messenger]);
    await clock.advance(30_000);
    expect(fast.sends.length).toBeGreaterThanOrEqual(2_800);
    for (const { sends } of slow) expect(sends).toHaveLength(1);
    for (const each of [...slow, fast]) each.stop();
  });

  test('the slower of the two rates counts', async () => {
    const messenger = gate('m', { perSecond: 20 });
    const one = sender([gate('a', { perSecond: 100 }), messenger]);
    await clock.advance(10_000);
    expect(one.sends.length).toBeGreaterThanOrEqual(190);
    expect(one.sends.length).toBeLessThanOrEqual(210);
    one.stop();
  });
});
