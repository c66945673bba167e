/** Many alarms, slow handlers, a stalled process: every alarm still rings, and no wake-up is lost. */
import { MongoClient } from 'mongodb';
import { expect, it, onTestFinished, vi } from 'vitest';
import { BULK_ALARM, RECURRING_ALARM } from '../../src/queue/alarm.ts';
import { testDatabase } from '../support/mongo.ts';
import {
  abandonedAlarm,
  inFuture,
  newCollectionName,
  newId,
  newIds,
  PATIENCE,
  PATIENT_TEST_MS,
  testAlarms,
  untilEmpty,
} from './alarm-fixtures.ts';
import { door } from './signals.ts';

vi.setConfig({ testTimeout: PATIENT_TEST_MS, hookTimeout: PATIENT_TEST_MS });
const { db, uri } = await testDatabase();

it('random wake-ups against finishing runs: no work is left, no two runs of one campaign, no alarm at rest', async () => {
  const collectionName = newCollectionName();
  const campaigns = newIds(20);
  const work = new Map(campaigns.map((campaignId) => [campaignId, 0]));
  const running = new Set<string>();
  let overlaps = 0;
  let runs = 0;
  const handler = async (campaignId: string) => {
    if (running.has(campaignId)) overlaps += 1;
    running.add(campaignId);
    runs += 1;
    const seen = work.get(campaignId) ?? 0;
    await pause(runs % 7);
    work.set(campaignId, (work.get(campaignId) ?? 0) - seen);
    await pause(runs % 5); // the truth has been read: what comes now is for the next run
    running.delete(campaignId);
    return null;
  };
  const workers = [];
  for (let count = 0; count < 2; count++) {
    const client = await MongoClient.connect(uri);
    onTestFinished(() => client.close());
    const worker = testAlarms(client.db(), {
      collectionName,
      processEveryMs: 20,
      lockLifetimeMs: 30_000,
      handler,
    });
    workers.push(worker);
    await worker.alarms.start();
  }
  const [one, two] = workers as [(typeof workers)[0], (typeof workers)[0]];
  let seed = 7;
  const random = (below: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
    return seed % below;
  };
  for (let woken = 0; woken < 1_500; woken += 10) {
    const wakeUps = Array.from({ length: 10 }, async () => {
      const campaignId = campaigns[random(campaigns.length)] as string;
      work.set(campaignId, (work.get(campaignId) ?? 0) + 1);
      await (random(2) === 0 ? one : two).alarms.wake(BULK_ALARM, campaignId, inFuture(random(3) * 10));
    });
    await Promise.all(wakeUps);
  }
  await untilEmpty(one.jobs);
  expect([...work.values()]).toEqual(campaigns.map(() => 0));
  expect(overlaps).toBe(0);
});

it('a crashed alarm is taken over although due work never ends', async () => {
  const busy = newIds(20);
  const crashed = newId();
  const { alarms, rings, jobs } = testAlarms(db, {
    concurrency: 2,
    handler: async (campaignId) => (campaignId === crashed ? null : new Date(0)),
  });
  await alarms.ensureIndexes();
  await alarms.insertMissing(busy.map((campaignId) => ({ name: BULK_ALARM, campaignId, at: new Date(0) })));
  await alarms.start();
  await rings.count(30);
  await jobs.insertOne(abandonedAlarm(crashed));
  while ((await rings.next()) !== crashed);
  await expect.poll(() => jobs.countDocuments(), PATIENCE).toBe(20);
});

it('a name whose handlers hang does not hold up the other, and in the end all its alarms ring', async () => {
  const finish = door();
  const slow = newIds(12);
  const { alarms, rings, jobs } = testAlarms(db, {
    concurrency: 2,
    lockLifetimeMs: 1_000,
    handler: async (campaignId) => {
      if (slow.includes(campaignId)) await finish.opened;
      return null;
    },
  });
  await alarms.start();
  await alarms.insertMissing(slow.map((campaignId) => ({ name: BULK_ALARM, campaignId, at: new Date() })));
  await rings.count(2);
  const quick = newId();
  await alarms.wake(RECURRING_ALARM, quick, new Date());
  await expect.poll(() => rings.all, PATIENCE).toContain(quick);
  await expect.poll(() => rings.all.length, PATIENCE).toBeGreaterThan(4); // their locks have expired
  finish.open();
  await untilEmpty(jobs);
  expect(new Set(rings.all)).toEqual(new Set([...slow, quick]));
});

it('after a stall of the process beyond the lifetime of its locks every alarm rings', async () => {
  const ids = newIds(40);
  let stalled = false;
  const { alarms, rings, jobs } = testAlarms(db, {
    concurrency: 10,
    lockLifetimeMs: 1_000,
    handler: async () => {
      if (!stalled) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_600);
      stalled = true;
      return null;
    },
  });
  await alarms.ensureIndexes();
  await alarms.insertMissing(ids.map((campaignId) => ({ name: BULK_ALARM, campaignId, at: new Date() })));
  await alarms.start();
  await untilEmpty(jobs);
  expect(new Set(rings.all)).toEqual(new Set(ids));
});

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
