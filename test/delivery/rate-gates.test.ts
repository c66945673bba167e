/** The gates of two workers on a real MongoDB. */
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { RateGates } from '../../src/delivery/rate-gates.ts';
import type { RateDoc } from '../../src/store/documents.ts';
import { openStore } from '../../src/store/store.ts';
import { PATIENCE } from '../engine/provider.ts';
import { testDatabase } from '../support/mongo.ts';
import { Sender } from './rate-senders.ts';

const { uri, db } = await testDatabase();
const store = await openStore({ mongo: uri, collectionPrefix: '', journalDays: 90 });
const rates = db.collection<RateDoc>('rates');
afterAll(() => store.close());

let here: RateGates;
let there: RateGates;
beforeEach(async () => {
  await rates.deleteMany({});
  here = new RateGates(store, systemClock);
  there = new RateGates(store, systemClock);
});
afterEach(() => Promise.all([here.close(), there.close()]));

const sender = (gates: ConstructorParameters<typeof Sender>[0]) => new Sender(gates, { clock: systemClock });
const tokensOf = async (id: string) => (await rates.findOne({ _id: id }))?.tokens ?? Number.NaN;

test('a campaign without a rate has no gate; all its pages share one, whose rate can change', () => {
  expect(here.ofCampaign('c', undefined)).toBeUndefined();
  const gate = here.ofCampaign('c', { perMinute: 1 });
  expect(gate?.scarce).toBe(true);
  expect(here.ofCampaign('c', { perSecond: 100 })).toBe(gate);
  expect(gate?.scarce).toBe(false);
  expect(here.ofCampaign('c', undefined)).toBe(gate);
  expect(gate?.room()).toBe(Number.POSITIVE_INFINITY);
  expect(here.ofMessenger('c', undefined)).not.toBe(gate);
});

test('what a campaign has left goes back when its last page is gone', async () => {
  const gate = here.ofCampaign('c', { perMinute: 1 });
  const room = new Promise<void>((resolve) => gate?.waitForRoom(resolve, 1));
  await room;
  expect(gate?.room()).toBe(1);
  expect(await tokensOf('campaign:c')).toBeLessThan(-1);
  await here.dropCampaign('c');
  expect(await tokensOf('campaign:c')).toBe(0);
});

test('a rest that one worker hears of holds the others, with and without a rate', async () => {
  const free = [here.ofMessenger('free', undefined), there.ofMessenger('free', undefined)] as const;
  const rated = [
    here.ofMessenger('rated', { perSecond: 50 }),
    there.ofMessenger('rated', { perSecond: 50 }),
  ] as const;
  free[0].slowDown(30_000);
  rated[0].slowDown(30_000);
  expect(free[0].blockedForMs()).toBeGreaterThan(29_000);
  await expect.poll(() => rates.countDocuments({ blockedUntil: { $exists: true } }), PATIENCE).toBe(2);

  await there.lookForRests(['free', 'other']);
  expect(free[1].blockedForMs()).toBeGreaterThan(20_000);

  const waiting = sender([rated[1]]);
  await expect.poll(() => rated[1].blockedForMs(), PATIENCE).toBeGreaterThan(20_000); // it asked for a block
  expect(waiting.sends).toHaveLength(0);
  waiting.stop();
});

test('a stop gives back what was asked for and has not come yet', async () => {
  const gate = here.ofCampaign('c', { perMinute: 1 });
  gate?.waitForRoom(() => undefined, 1);
  await here.close();
  expect(await tokensOf('campaign:c')).toBe(0);
  expect(gate?.room()).toBe(0);
});

test('two workers at two a second send as many as one', async () => {
  const from = performance.now();
  const senders = [here, there].map((gates) => {
    const gate = gates.ofCampaign('c', { perSecond: 2 });
    return sender(gate === undefined ? [] : [gate]);
  });
  const sent = () => senders.flatMap((each) => each.sends).length;
  await expect.poll(sent, PATIENCE).toBeGreaterThanOrEqual(8);
  for (const each of senders) each.stop();
  expect(sent()).toBeLessThanOrEqual((2 * (performance.now() - from)) / 1_000 + 2);
});
