/** Several processes on one collection: at the same instant, killed, frozen, with a wrong clock, and left alone to end. */
import { beforeAll, describe, expect, inject, it, onTestFinished, vi } from 'vitest';
import { BULK_ALARM } from '../../src/queue/alarm.ts';
import { testDatabase } from '../support/mongo.ts';
import { startWorker, type Worker } from '../support/processes.ts';
import { startProxy } from '../support/proxy.ts';
import {
  abandonedAlarm,
  HOUR_MS,
  inFuture,
  newCollectionName,
  newId,
  newIds,
  PATIENCE,
  PATIENT_TEST_MS,
  type TestAlarms,
  testAlarms,
  untilEmpty,
} from './alarm-fixtures.ts';
import type { WorkerOptions } from './alarm-worker.ts';
import { door } from './signals.ts';

const { db, uri, name: dbName } = await testDatabase();
vi.setConfig({ testTimeout: PATIENT_TEST_MS, hookTimeout: PATIENT_TEST_MS });
const ROUNDS = process.env.FAULTS === 'long' ? 10 : 1;

async function worker(options: Partial<WorkerOptions> & { collectionName: string }): Promise<Worker> {
  const all: WorkerOptions = { uri, workerId: newId(), ...options };
  const started = startWorker(new URL('./alarm-worker.ts', import.meta.url), { args: [JSON.stringify(all)] });
  await started.next('ready', PATIENCE.timeout);
  return started;
}

/** What stands in an alarm that rings in this worker. */
function heldBy({ workerId }: TestAlarms) {
  return { lastModifiedBy: workerId, lockedAt: expect.any(Date), lockToken: expect.any(String) };
}

async function order(to: Worker, kind: string, fields: object = {}) {
  to.send({ kind, ...fields });
  return to.next(`${kind}-done`, PATIENCE.timeout);
}

const ringsOf = (workers: Worker[]) =>
  workers.flatMap(({ messages }) =>
    messages.filter(({ kind }) => kind === 'rang').map(({ campaignId }) => campaignId),
  );
const unhandledOf = (workers: Worker[]) =>
  workers.flatMap(({ messages }) => messages.filter(({ kind }) => kind === 'unhandled'));

describe('eight processes', () => {
  const collectionName = newCollectionName();
  let workers: Worker[];
  beforeAll(async () => {
    const options = { collectionName, lockLifetimeMs: 300_000 };
    workers = await Promise.all(Array.from({ length: 8 }, () => worker(options)));
  });

  it('wake the same 200 campaigns at the same instant: 200 alarms, each rings once, also while all work', async () => {
    const { alarms, jobs } = testAlarms(db, { collectionName });
    await alarms.ensureIndexes();
    for (let round = 0; round < ROUNDS; round++) {
      const campaignIds = newIds(200);
      await Promise.all(workers.map((each) => order(each, 'wake', { campaignIds })));
      expect(await jobs.countDocuments()).toBe(200);
      const before = ringsOf(workers).length;
      await Promise.all(workers.map((each) => order(each, 'start')));
      await untilEmpty(jobs);
      expect(ringsOf(workers).slice(before)).toHaveLength(200);

      const more = newIds(200); // a wake-up that comes after the ring rings once more: it may not be lost
      await Promise.all(workers.map((each) => order(each, 'wake', { campaignIds: more })));
      await untilEmpty(jobs);
      expect(ringsOf(workers)).toEqual(expect.arrayContaining(more));
      await Promise.all(workers.map((each) => order(each, 'stop')));
    }
    expect(unhandledOf(workers)).toEqual([]);
  });
});

describe('kill -9', () => {
  it('in a handler: the alarm rings in another worker', async () => {
    const collectionName = newCollectionName();
    const victim = await worker({ collectionName, waits: true });
    await order(victim, 'start');
    const campaignId = newId();
    await order(victim, 'wake', { campaignIds: [campaignId] });
    await victim.next('rang');
    await victim.kill();
    const survivor = testAlarms(db, { collectionName, lockLifetimeMs: 1_000 });
    await survivor.alarms.start();
    expect(await survivor.rings.next()).toBe(campaignId);
    await untilEmpty(survivor.jobs);
  });

  it.each([
    ['between lock and start', 'update', false],
    ['between the work and its last write, which arrives later', 'delete', true],
  ] as const)('%s: the alarm rings in another worker', async (_, command, hasRung) => {
    const collectionName = newCollectionName();
    const proxy = await startProxy(inject('mongoUri'));
    onTestFinished(() => proxy.stop());
    const victim = await worker({ collectionName, uri: proxy.uriFor(dbName) });
    await order(victim, 'start');
    const held = proxy.hold((sent) => sent[command] === collectionName);
    const campaignId = newId();
    await order(victim, 'wake', { campaignIds: [campaignId] });
    await held.reached();
    expect(ringsOf([victim])).toEqual(hasRung ? [campaignId] : []);
    await victim.kill();

    const finish = door();
    const survivor = testAlarms(db, {
      collectionName,
      lockLifetimeMs: 1_000,
      handler: async () => {
        await finish.opened;
        return null;
      },
    });
    await survivor.alarms.start();
    expect(await survivor.rings.next()).toBe(campaignId);
    held.release();
    await expect.poll(() => proxy.connections(), PATIENCE).toBe(0);
    expect(await survivor.jobs.findOne()).toMatchObject(heldBy(survivor));
    finish.open();
    await untilEmpty(survivor.jobs);
  });
});

it('SIGSTOP beyond the lifetime, then SIGCONT: the new holder keeps its lock, the old one learns that it lost', async () => {
  const collectionName = newCollectionName();
  const zombie = await worker({ collectionName, waits: true, lockLifetimeMs: 60_000 }); // it takes nothing back itself
  await order(zombie, 'start');
  await order(zombie, 'wake', { campaignIds: [newId()] });
  await zombie.next('rang');
  zombie.freeze();
  const finish = door();
  const holder = testAlarms(db, {
    collectionName,
    lockLifetimeMs: 1_000,
    handler: async () => {
      await finish.opened;
      return null;
    },
  });
  await holder.alarms.start();
  await holder.rings.next();
  zombie.send({ kind: 'stop' });
  zombie.send({ kind: 'finish' });
  zombie.thaw();
  await zombie.next('stop-done');
  const lost = zombie.messages.filter(({ kind, code }) => kind === 'log' && code === 'lock_lost');
  expect(lost).toHaveLength(1);
  expect(await holder.jobs.findOne()).toMatchObject(heldBy(holder));
  finish.open();
  await untilEmpty(holder.jobs);
  expect(unhandledOf([zombie])).toEqual([]);
});

it.each([
  ['ahead', 2 * HOUR_MS],
  ['behind', -2 * HOUR_MS],
])(
  'a clock two hours %s: alarms ring neither early nor late, and locks expire in time',
  async (_, skewMs) => {
    const collectionName = newCollectionName();
    const { alarms, jobs } = testAlarms(db, { collectionName });
    const skewed = await worker({ collectionName, skewMs, lockLifetimeMs: 60_000 });
    const [now, soon, later, crashed, held] = newIds(5) as [string, string, string, string, string];
    await jobs.insertMany([
      abandonedAlarm(crashed, { lockedAt: inFuture(-120_000) }),
      abandonedAlarm(held, { lockedAt: inFuture(0) }),
    ]);
    await alarms.wake(BULK_ALARM, later, inFuture(HOUR_MS));
    await order(skewed, 'start');
    expect(await skewed.next('rang')).toMatchObject({ campaignId: crashed });
    const dueAt = inFuture(1_000);
    await alarms.wake(BULK_ALARM, soon, dueAt);
    await alarms.wake(BULK_ALARM, now, new Date());
    expect(await skewed.next('rang')).toMatchObject({ campaignId: now });
    expect(await skewed.next('rang')).toMatchObject({ campaignId: soon });
    expect(Date.now()).toBeGreaterThanOrEqual(dueAt.getTime());
    await expect.poll(() => jobs.countDocuments(), PATIENCE).toBe(2);
    await order(skewed, 'stop');
    expect(ringsOf([skewed])).toEqual([crashed, now, soon]);
  },
);

it('after the stop a process ends by itself', async () => {
  const leaving = await worker({ collectionName: newCollectionName() });
  await order(leaving, 'start');
  await order(leaving, 'wake', { campaignIds: newIds(3) });
  await leaving.next('rang');
  leaving.send({ kind: 'leave' });
  expect(await leaving.exit).toEqual({ code: 0, signal: null });
});
