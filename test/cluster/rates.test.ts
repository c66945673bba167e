/**
 * Rates over the whole engine and several processes, measured where the messages arrive: never above the rate, nothing
 * gained by a restart, and a slow campaign in nobody's way. `FAULTS=long`, on a quiet machine: close to the rate while there
 * is something to send.
 */
import { expect, it } from 'vitest';
import { fullest } from '../delivery/rate-senders.ts';
import { people, SHORT, startRig, tidyUpAfterEach } from '../engine/fixtures.ts';
import { newProvider, PATIENCE } from '../engine/provider.ts';
import { testDatabase } from '../support/mongo.ts';
import { startFleet } from './fleet.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const LONG = process.env.FAULTS === 'long';
/** Times as in production, but for the polls: pages are held while they wait for the next token. */
const TIMES = { ...SHORT, claimTtlMs: 10_000, claimMarginMs: 2_000, pageSize: 100 };

/**
 * What holds on any machine: a worker that gets no processor for a while uses its tokens late, but never later than a
 * second. On a quiet machine the fullest second has a twentieth more than the rate.
 */
function expectWithinRate(times: readonly number[], perSecond: number): void {
  for (const seconds of [1, 3, 5])
    expect(fullest(times, seconds * 1_000)).toBeLessThanOrEqual(perSecond * (seconds + 1));
}

it('100 a second over three processes is 100 a second at the receiver', async () => {
  const seconds = LONG ? 30 : 6;
  const perSecond = 100;
  const fleet = await startFleet(3, { uri, latencyMs: 5, scheduler: TIMES });
  await fleet.all('start');
  const api = await startRig(uri, { worker: false });
  const { id } = await api.create({ audience: people((seconds + 4) * perSecond), rate: { perSecond } });
  await api.until(id, 'completed');
  const times = fleet.handOvers().map(({ at }) => at);
  const first = Math.min(...times) + 1_000; // three workers have found it by then
  const inTime = times.filter((at) => at >= first && at < first + seconds * 1_000).length;
  if (LONG) {
    expect(inTime).toBeLessThanOrEqual(1.05 * perSecond * seconds);
    expect(inTime).toBeGreaterThanOrEqual(0.95 * perSecond * seconds);
  }
  expectWithinRate(times, perSecond);
  expect(new Set(fleet.handOvers().map(({ pid }) => pid)).size).toBe(3);
  console.log(`rate: ${inTime / seconds} a second, fullest second ${fullest(times, 1_000)}`);
  fleet.expectClean();
  await fleet.stop();
});

it('kill -9 and a restart at once grant no second burst', async () => {
  const perSecond = 20;
  const fleet = await startFleet(1, {
    uri,
    latencyMs: 5,
    scheduler: { ...TIMES, claimTtlMs: 2_000, claimMarginMs: 400 },
  });
  await fleet.all('start');
  const api = await startRig(uri, { worker: false });
  const { id } = await api.create({ audience: people(200), rate: { perSecond } });
  await expect.poll(() => fleet.handOvers().length, PATIENCE).toBeGreaterThan(20);
  for (let round = 0; round < 2; round += 1) {
    await fleet.workers.at(-1)?.kill();
    const before = fleet.handOvers().length;
    const next = await fleet.add();
    next.send({ kind: 'start' });
    await expect.poll(() => fleet.handOvers().length, PATIENCE).toBeGreaterThan(before + 10);
  }
  await api.until(id, 'completed');
  const times = fleet.handOvers().map(({ at }) => at);
  expectWithinRate(times, perSecond);
  await fleet.stop();
});

it('a crash at a slow rate leaves at most one recipient unknown', async () => {
  const fleet = await startFleet(1, {
    uri,
    latencyMs: 100,
    scheduler: { ...TIMES, claimTtlMs: 2_000, claimMarginMs: 400 },
  });
  await fleet.all('start');
  const api = await startRig(uri, { worker: false });
  const { id } = await api.create({ audience: people(8), rate: { perSecond: 1 }, concurrency: 10 });
  await expect.poll(() => fleet.handOvers().length, PATIENCE).toBeGreaterThanOrEqual(3);
  await fleet.workers[0]?.kill(); // in the middle of the third send
  const next = await fleet.add();
  next.send({ kind: 'start' });
  await api.until(id, 'completed');
  const report = await api.scheduler.campaigns.report(id);
  expect(report?.unknown).toBeLessThanOrEqual(1);
  expect((report?.sent ?? 0) + (report?.unknown ?? 0)).toBe(8);
  const times = fleet.handOvers().map(({ at }) => at);
  expect(fullest(times, 900)).toBeLessThanOrEqual(2); // a token may be used up to a second late, the next one in time
  fleet.expectClean();
  await fleet.stop();
});

it("the messenger's rate holds for all campaigns and both workers together", async () => {
  const perSecond = 50;
  const provider = newProvider();
  const times: number[] = [];
  provider.plan(() => void times.push(Date.now()));
  const messengers = { post: { ...provider.messenger, rate: { perSecond } } };
  const here = await startRig(uri, { ...TIMES, messengers });
  const there = await startRig(uri, { ...TIMES, messengers });
  const made = await Promise.all([0, 1, 2].map((n) => here.create({ audience: people(60, `c${n}-`) })));
  await Promise.all(made.map(({ id }) => there.until(id, 'completed')));
  expect(times).toHaveLength(180);
  expectWithinRate(times, perSecond);
  provider.expectNobodyTwice();
});

it('a campaign that waits for tokens holds nobody up and holds no intents', async () => {
  const provider = newProvider({ concurrency: 2 });
  const rig = await startRig(uri, { ...TIMES, provider });
  const slow = await Promise.all(
    [0, 1, 2].map((n) =>
      rig.create({ name: 'slow', audience: people(5, `s${n}-`), rate: { perMinute: 2 }, priority: 5 }),
    ),
  );
  await expect.poll(() => provider.left.length, PATIENCE).toBe(3);
  const fast = await rig.create({ name: 'fast', audience: people(500, 'f'), priority: -5 });
  await rig.until(fast.id, 'completed');
  expect(provider.left.filter((id) => id.startsWith('s')).length).toBeLessThanOrEqual(6);
  await expect.poll(() => db.collection('ledger_pages').countDocuments({ states: />/ }), PATIENCE).toBe(0);
  // The page of a campaign whose next token is far away is held by nobody.
  await expect
    .poll(() => db.collection('ledger_pages').countDocuments({ status: 'claimed' }), PATIENCE)
    .toBe(0);
  for (const { id } of slow) await rig.scheduler.campaigns.cancel(id);
  for (const { id } of slow) await rig.until(id, 'cancelled');
});
