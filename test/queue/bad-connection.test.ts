/** The repository behind a connection that is silent, slow or cut: no name is blocked, no lock stays counted. */
import { type Db, type Document, MongoClient } from 'mongodb';
import { describe, expect, inject, it, onTestFinished } from 'vitest';
import { BULK_ALARM, RECURRING_ALARM } from '../../src/queue/alarm.ts';
import { testDatabase } from '../support/mongo.ts';
import { type MongoProxy, startProxy } from '../support/proxy.ts';
import { newId, PATIENCE, testRepository } from './alarm-fixtures.ts';
import { beginning, ending, twoWorkers } from './played-workers.ts';

const { db, name: dbName } = await testDatabase();

describe('behind a bad connection', () => {
  async function behindProxy(): Promise<{ proxy: MongoProxy; far: Db }> {
    const proxy = await startProxy(inject('mongoUri'));
    const client = await MongoClient.connect(proxy.uriFor(dbName), { serverSelectionTimeoutMS: 300 });
    onTestFinished(async () => {
      await client.close();
      await proxy.stop();
    });
    return { proxy, far: client.db(dbName) };
  }
  const locking = (command: Document) => command.findAndModify !== undefined;

  it('a lock request without an answer blocks its name for half a lifetime only', async () => {
    const { proxy, far } = await behindProxy();
    const { jobs, one } = await twoWorkers(db);
    const worker = testRepository(far, { collectionName: jobs.collectionName, lockLifetimeMs: 1_000 });
    let held = 0;
    const dead = proxy.hold((command) => locking(command) && held++ === 0);
    const first = worker.lock();
    await dead.reached();
    expect(await worker.lock()).toBeUndefined(); // one request at a time
    await one.alarms.wake(RECURRING_ALARM, newId(), new Date());
    expect(await worker.lock(RECURRING_ALARM)).toBeDefined(); // the other name goes on
    await expect.poll(() => worker.lock(), PATIENCE).toBeDefined();

    await one.alarms.wake(BULK_ALARM, newId(), new Date());
    dead.release(); // what it locks now comes too late to be trusted
    expect(await first).toBeUndefined();
    expect(await jobs.countDocuments({ name: BULK_ALARM, lockedAt: null, nextRunAt: { $ne: null } })).toBe(1);
    expect(worker.repository.locks.size).toBe(2);
  });

  it('a lock that arrives after the gate closed is given back', async () => {
    const { proxy, far } = await behindProxy();
    const { jobs } = await twoWorkers(db);
    const worker = testRepository(far, { collectionName: jobs.collectionName, lockLifetimeMs: 60_000 });
    const slow = proxy.hold(locking);
    const locked = worker.lock();
    await slow.reached();
    worker.repository.closeGate();
    let isIdle = false;
    const idle = worker.repository.locks.whenIdle().then(() => {
      isIdle = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(isIdle).toBe(false);
    slow.release();
    expect(await locked).toBeUndefined();
    await idle;
    expect(await jobs.countDocuments({ lockedAt: null })).toBe(1);
  });

  it('giving back and writing the end never leave a lock counted', async () => {
    const { proxy, far } = await behindProxy();
    const { jobs, one } = await twoWorkers(db);
    await one.alarms.wake(BULK_ALARM, newId(), new Date());
    await one.alarms.wake(BULK_ALARM, newId(), new Date());
    const worker = testRepository(far, { collectionName: jobs.collectionName });
    const [begun, ended, freed] = [(await worker.lock())!, (await worker.lock())!, (await worker.lock())!];
    await worker.repository.saveJobState(beginning(ended), undefined);
    proxy.refuse();
    proxy.cut();
    await expect(worker.repository.saveJobState(beginning(begun), undefined)).rejects.toThrow();
    await expect(worker.repository.saveJobState(ending(ended, null), undefined)).rejects.toThrow();
    await worker.repository.unlockJobs([freed._id!]);
    expect(worker.repository.locks.size).toBe(0);
    expect(worker.log.map(({ level }) => level)).toEqual(['warn', 'warn']);
  });
});
