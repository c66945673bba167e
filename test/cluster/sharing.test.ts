/**
 * Taking turns: several processes send one campaign together, a small campaign is not kept waiting by a hundred large ones,
 * and the more important one comes first. All shown by the order of hand-overs, never by a clock.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ObjectId } from 'mongodb';
import { expect, it } from 'vitest';
import { openBulkRun } from '../../src/store/campaign-transitions.ts';
import { type CampaignDoc, runIdOf } from '../../src/store/documents.ts';
import {
  campaignsOf,
  inHours,
  people,
  type Rig,
  SHORT,
  startRig,
  testStore,
  tidyUpAfterEach,
} from '../engine/fixtures.ts';
import { newProvider, PATIENCE } from '../engine/provider.ts';
import { testDatabase } from '../support/mongo.ts';
import { startFleet } from './fleet.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

it.each([2, 4])('%i processes share one campaign: each adds its own sends in flight', async (count) => {
  const concurrency = 5;
  const scheduler = { ...SHORT, sendTimeoutMs: 120_000, claimTtlMs: 30_000 };
  const fleet = await startFleet(count, { uri, gated: true, scheduler });
  await fleet.all('start');
  const api = await startRig(uri, { worker: false });
  const { id } = await api.create({ audience: people(600), concurrency });
  // Nothing ends before the gate opens: what has been handed over is in flight, in all processes at the same time.
  await expect.poll(() => fleet.handOvers().length, PATIENCE).toBe(count * concurrency);
  const inFlight = perProcess(fleet.handOvers());
  expect(inFlight).toEqual(new Map(fleet.workers.map(({ pid }) => [pid, concurrency])));
  await fleet.all('open');
  await api.until(id, 'completed');
  expect(await api.scheduler.campaigns.report(id)).toMatchObject({ sent: 600, unknown: 0 });
  for (const sent of perProcess(fleet.handOvers()).values()) expect(sent).toBeGreaterThan(concurrency);
  fleet.expectClean();
  await fleet.stop();
});

function perProcess(handOvers: readonly { pid: number }[]): Map<number, number> {
  const counts = new Map<number, number>();
  for (const { pid } of handOvers) counts.set(pid, (counts.get(pid) ?? 0) + 1);
  return new Map([...counts].sort(([a], [b]) => a - b));
}

it.each([
  ['without a limit of the messenger', undefined, 8_000],
  ['with a messenger that takes four at a time', 4, 2_000],
])('a small campaign beside a hundred large ones starts soon, %s', async (_what, cap, most) => {
  const provider = newProvider(cap === undefined ? {} : { concurrency: cap });
  // Without a limit nothing but this keeps the large ones from being over before the small one exists.
  provider.plan(() => sleep(cap === undefined ? 60 : 20));
  const rig = await startRig(uri, { provider, pageSize: 50 });
  const large = async (index: number) =>
    rig.create({ name: `large ${index}`, audience: people(cap === undefined ? 600 : 150), concurrency: 2 });
  for (let first = 0; first < 100; first += 10)
    await Promise.all(Array.from({ length: 10 }, (_, offset) => large(first + offset)));
  await expect
    .poll(() => campaignsOf(db).countDocuments({ status: 'processing' }), PATIENCE)
    .toBeGreaterThan(90);
  const before = provider.calls.all.length;
  const small = await rig.create({ name: 'small', audience: people(3, 's') });
  const first = () => provider.calls.all.findIndex(({ campaign }) => campaign.name === 'small');
  await expect.poll(first, PATIENCE).toBeGreaterThan(0);
  expect(first() - before).toBeLessThan(most);
  await rig.until(small.id, 'completed');
  expect(await campaignsOf(db).countDocuments({ status: 'completed' })).toBeLessThan(100);
  if (cap !== undefined) expect(provider.most).toBeLessThanOrEqual(cap);
});

it('the more important campaign gets the places as they come free', async () => {
  const provider = newProvider({ concurrency: 2 });
  provider.plan(() => sleep(2));
  const api = await startRig(uri, { worker: false });
  for (let index = 0; index < 5; index += 1) await open(api, 'low', 0);
  await open(api, 'high', 5);
  const rig = await startRig(uri, { provider });
  await expect.poll(() => provider.calls.all.length, PATIENCE).toBe(6 * 300);
  const order = provider.calls.all.map(({ campaign }) => campaign.name);
  const lowFirst = order.slice(0, order.lastIndexOf('high')).filter((name) => name === 'low').length;
  expect(lowFirst).toBeLessThan(300); // by equal turns it would be nearly all of the 1,500
  await expect.poll(() => campaignsOf(db).countDocuments({ status: 'completed' }), PATIENCE).toBe(6);
  expect(rig.provider.most).toBe(2);
});

/** A campaign that is open already, so that the worker finds all of them with its first look. */
async function open(api: Rig, name: string, priority: number): Promise<void> {
  const { id } = await api.create({ name, priority, audience: people(300), sendAt: inHours(-1) });
  const store = await testStore(uri);
  const campaign = (await campaignsOf(db).findOne({ _id: new ObjectId(id) })) as CampaignDoc;
  await openBulkRun(
    store,
    campaign,
    { runId: runIdOf(campaign._id, 'once'), occurrence: 'once' },
    new Date(),
  );
  await store.close();
}
