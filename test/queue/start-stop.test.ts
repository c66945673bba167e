/** Starting and stopping: in any order, with everything that can be wrong with the database, and without a trace. */
import { MongoClient } from 'mongodb';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { BULK_ALARM, RECURRING_ALARM } from '../../src/queue/alarm.ts';
import { testDatabase } from '../support/mongo.ts';
import { connectTo, startMongods } from '../support/mongods.ts';
import {
  abandonedAlarm,
  inFuture,
  jobsOf,
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
const { db, uri, name: dbName } = await testDatabase();

describe('what is created', () => {
  it('is one collection with exactly two indexes', async () => {
    const own = db.client.db(`${dbName}_own`);
    onTestFinished(async () => void (await own.dropDatabase()));
    const { alarms, rings, jobs } = testAlarms(own, { collectionName: 'agendaJobs' });
    await alarms.start();
    await alarms.wake(BULK_ALARM, newId(), new Date());
    await rings.next();
    await untilEmpty(jobs);
    expect((await own.listCollections().toArray()).map(({ name }) => name)).toEqual(['agendaJobs']);
    expect(await jobs.indexes()).toEqual([
      expect.objectContaining({ name: '_id_' }),
      { v: 2, name: 'jobs_lock', key: { name: 1, lockedAt: 1, nextRunAt: 1, priority: -1 } },
      {
        v: 2,
        name: 'jobs_identity',
        key: { name: 1, 'data.campaignId': 1 },
        unique: true,
        partialFilterExpression: { 'data.campaignId': { $exists: true } },
      },
    ]);
  });

  it('is created once, whoever comes first', async () => {
    const collectionName = newCollectionName();
    const servers = Array.from({ length: 8 }, () => testAlarms(db, { collectionName }));
    await Promise.all(servers.map(({ alarms }) => alarms.start()));
    expect(await jobsOf(db, collectionName).indexes()).toHaveLength(3);
  });
});

describe('a start that cannot succeed says why, and may be tried again', () => {
  it('an index of another shape', async () => {
    const { alarms, rings, jobs } = testAlarms(db);
    await jobs.createIndex({ name: 1 }, { name: 'jobs_lock' });
    await expect(alarms.ensureIndexes()).rejects.toMatchObject({ code: 'index_conflict' });
    await expect(alarms.start()).rejects.toMatchObject({ code: 'index_conflict' });
    await jobs.dropIndexes();
    await alarms.start();
    await alarms.wake(BULK_ALARM, newId(), new Date());
    await rings.next();
  });

  it('two alarms of one campaign', async () => {
    const { alarms, jobs } = testAlarms(db);
    const campaignId = newId();
    await jobs.insertMany([abandonedAlarm(campaignId), abandonedAlarm(campaignId)]);
    await expect(alarms.start()).rejects.toMatchObject({ code: 'index_conflict' });
  });

  it('a wrong address', async () => {
    const nowhere = 'mongodb://127.0.0.1:9/?directConnection=true';
    const client = new MongoClient(nowhere, { serverSelectionTimeoutMS: 2_000 });
    onTestFinished(() => client.close().catch(() => {}));
    const { alarms } = testAlarms(client.db(dbName), { connectTimeoutMs: 300, unreadable: true });
    await expect(alarms.ensureIndexes()).rejects.toMatchObject({ code: 'mongo_unreachable' });
    await expect(alarms.start()).rejects.toMatchObject({ code: 'mongo_unreachable' });
    expect(await alarms.stop({ timeoutMs: 1_000 })).toBe(true);
  });

  it('a wrong password', async () => {
    const client = new MongoClient(uri, { auth: { username: 'nobody', password: 'x' } });
    onTestFinished(() => client.close().catch(() => {}));
    const { alarms } = testAlarms(client.db(dbName), { unreadable: true });
    await expect(alarms.start()).rejects.toMatchObject({ code: 'mongo_auth' });
  });

  it('no permission', async () => {
    const mongods = await startMongods({
      replicaSet: false,
      args: ['--setParameter', 'enableTestCommands=1'],
    });
    onTestFinished(() => mongods.stop());
    const client = await connectTo(mongods.uri);
    onTestFinished(() => client.close());
    const data = { failCommands: ['createIndexes'], errorCode: 13 };
    await client.db('admin').command({ configureFailPoint: 'failCommand', mode: { times: 1 }, data });
    const { alarms } = testAlarms(client.db('app'));
    await expect(alarms.start()).rejects.toMatchObject({ code: 'mongo_auth' });
    await alarms.start();
  });
});

describe('start and stop', () => {
  it('are idempotent and safe in any order', async () => {
    const { alarms, rings, jobs } = testAlarms(db);
    const stop = () => alarms.stop({ timeoutMs: 10_000 });
    expect(await stop()).toBe(true);
    await Promise.all([alarms.start(), alarms.start()]);
    await alarms.start();
    expect(await Promise.all([stop(), stop()])).toEqual([true, true]);

    const overtaken = alarms.start();
    const stopping = stop();
    await expect(overtaken).rejects.toMatchObject({ code: 'stopped' });
    expect(await stopping).toBe(true);

    const orders = Array.from({ length: 20 }, (_, index) => (index % 2 === 0 ? alarms.start() : stop()));
    await Promise.allSettled(orders);
    const campaignId = newId();
    await alarms.wake(BULK_ALARM, campaignId, new Date());
    expect(rings.all).toEqual([]);
    await alarms.start();
    await rings.next();
    await untilEmpty(jobs);
    expect(rings.all).toEqual([campaignId]);
  });

  it('nothing rings after the stop, and wake() works without a start', async () => {
    const { alarms, rings, collectionName } = testAlarms(db);
    await alarms.start();
    await alarms.stop({ timeoutMs: 10_000 });
    const campaignId = newId();
    await alarms.wake(BULK_ALARM, campaignId, new Date());
    const other = testAlarms(db, { collectionName });
    await other.alarms.start();
    expect(await other.rings.next()).toBe(campaignId);
    expect(rings.all).toEqual([]);
  });

  it('stop waits for the handler and for its last write; at the deadline it says so', async () => {
    const finish = door();
    const date = inFuture(3_600_000);
    const { alarms, rings, log } = testAlarms(db, {
      lockLifetimeMs: 60_000,
      handler: async () => {
        await finish.opened;
        return date;
      },
    });
    await alarms.start();
    const campaignId = newId();
    await alarms.wake(RECURRING_ALARM, campaignId, new Date());
    await rings.next();
    expect(await alarms.stop({ timeoutMs: 50 })).toBe(false);
    expect(log.map(({ level }) => level)).toEqual(['warn']);

    const restarted = alarms.start();
    finish.open();
    await restarted;
    await expect
      .poll(async () => (await alarms.find([campaignId]))[0], PATIENCE)
      .toMatchObject({ lockedAt: null, nextRunAt: date });
  });

  it('a stop while the queue fills leaves no lock and starts nothing more, thirty times', async () => {
    const { collectionName, jobs, alarms: api } = testAlarms(db);
    await api.ensureIndexes();
    for (let round = 0; round < 30; round++) {
      const ids = newIds(40);
      await api.insertMissing(
        ids.map((campaignId) => ({ name: BULK_ALARM, campaignId, at: inFuture(-1_000) })),
      );
      let stopped = false;
      const tooLate: string[] = [];
      const worker = testAlarms(db, {
        collectionName,
        concurrency: round % 3 === 0 ? 3 : 500,
        processEveryMs: 20,
        handler: async (campaignId) => {
          if (stopped) tooLate.push(campaignId);
          return null;
        },
      });
      await worker.alarms.start();
      const untouched = () => jobs.countDocuments({ lockedAt: null });
      await expect.poll(untouched, { ...PATIENCE, interval: 1 }).toBeLessThan(40 - round);
      stopped = true;
      expect(await worker.alarms.stop({ timeoutMs: 10_000 })).toBe(true);
      expect(await jobs.countDocuments({ lockedAt: { $ne: null } })).toBe(0);
      expect(await jobs.countDocuments({ nextRunAt: null })).toBe(0);
      expect(tooLate).toEqual([]);
      await jobs.deleteMany({});
    }
  });

  it('a stop of a worker that lost its alarm leaves the lock of the next one alone', async () => {
    const collectionName = newCollectionName();
    const finish = door();
    const handler = async () => {
      await finish.opened;
      return null;
    };
    const one = testAlarms(db, { collectionName, lockLifetimeMs: 60_000, handler }); // it takes nothing back itself
    await one.alarms.start();
    await one.alarms.wake(BULK_ALARM, newId(), new Date());
    await one.rings.next();
    const two = testAlarms(db, { collectionName, lockLifetimeMs: 1_000, handler });
    await two.alarms.start();
    await two.rings.next();
    const stopping = one.alarms.stop({ timeoutMs: 60_000 });
    const held = { lastModifiedBy: two.workerId, lockedAt: expect.any(Date), lockToken: expect.any(String) };
    expect(await two.jobs.findOne()).toMatchObject(held);
    finish.open();
    expect(await stopping).toBe(true);
    await untilEmpty(two.jobs);
  });
});
