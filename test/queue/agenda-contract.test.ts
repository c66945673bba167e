/** What we rely on in Agenda itself, and what our side of it refuses. Runs again at every new version of Agenda. */
import { Agenda, type Job, type JobParameters, type JobRepositoryOptions } from 'agenda';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { BULK_ALARM } from '../../src/queue/alarm.ts';
import { alarmBackend } from '../../src/queue/alarm-backend.ts';
import { alarmCollection } from '../../src/queue/alarm-collection.ts';
import { AlarmRepository } from '../../src/queue/alarm-repository.ts';
import { testDatabase } from '../support/mongo.ts';
import { HOUR_MS, inFuture, newCollectionName, newId, PATIENCE, recordingLogger } from './alarm-fixtures.ts';
import { Signals } from './signals.ts';

const { db } = await testDatabase();

/** Notes every state that Agenda saves; `failing` makes the next save fail. */
class WatchedRepository extends AlarmRepository {
  readonly saved = new Signals<JobParameters>('saved state');
  failing = false;

  override async saveJobState(job: JobParameters, options: JobRepositoryOptions | undefined): Promise<void> {
    const copy = { ...job };
    if (this.failing) throw new Error('no connection');
    await super.saveJobState(job, options);
    this.saved.emit(copy);
  }
}

let repository: WatchedRepository;
let agenda: Agenda;
beforeEach(async () => {
  const alarms = alarmCollection(db, newCollectionName());
  repository = new WatchedRepository({
    db,
    alarms,
    logger: recordingLogger().logger,
    clock: systemClock,
    processEveryMs: 137,
    lockLifetimeMs: 2_000,
    limitPerName: 10,
  });
  const backend = alarmBackend(repository, async () => {});
  agenda = new Agenda({ backend, name: 'contract', processEvery: 137, defaultLockLifetime: 2_000 });
  await agenda.ready;
  onTestFinished(() => agenda.stop(false));
});

function define(name: string, handler: (job: Job) => Promise<void>): void {
  // biome-ignore lint/nursery/noMisusedPromises: Agenda's type does not say that it waits for the handler
  agenda.define(name, handler);
}

describe('Agenda', () => {
  it('takes a number as interval as it is', async () => {
    await agenda.start();
    expect((await agenda.getRunningStats()).config).toMatchObject({ processEvery: 137 });
  });

  it('saves the date that a handler sets together with the unlock, and keeps fields it does not know', async () => {
    const date = inFuture(HOUR_MS);
    const handler = async (job: Job): Promise<void> => {
      job.attrs.nextRunAt = date;
    };
    define(BULK_ALARM, handler);
    await agenda.now(BULK_ALARM, { campaignId: newId() });
    await agenda.start();
    const [begun, ended] = [await repository.saved.next(), await repository.saved.next()];
    const kept = { lockToken: expect.any(String), wakeRev: 1 };
    expect(begun).toMatchObject({ ...kept, lockedAt: expect.any(Date), nextRunAt: null });
    expect(ended).toMatchObject({ ...kept, lockedAt: undefined, nextRunAt: date });
    expect(await repository.collection.findOne()).toMatchObject({ nextRunAt: date, lockedAt: null });
  });

  it('does not call the handler when the start cannot be saved', async () => {
    let calls = 0;
    const errors = new Signals<Error>('error');
    agenda.on('error', (error) => errors.emit(error));
    const handler = async (): Promise<void> => {
      calls += 1;
    };
    define(BULK_ALARM, handler);
    repository.failing = true;
    await agenda.now(BULK_ALARM, { campaignId: newId() });
    await agenda.start();
    expect((await errors.next()).message).toBe('no connection');
    repository.failing = false;
    expect(calls).toBe(0);
    await repository.saved.count(2); // the lock expires, then it runs
    expect(calls).toBe(1);
  });
});

describe('refused is', () => {
  const refused = { code: 'refused' };
  const data = { campaignId: newId() };
  const create = () => agenda.create(BULK_ALARM, data);

  it.each<[string, () => Promise<unknown>]>([
    ['every()', () => agenda.every(1_000, BULK_ALARM, data)],
    ['a job that repeats', () => create().repeatEvery(1_000).save()],
    ['a job at a time of day', () => create().repeatAt('3:30am').save()],
    ['data without a campaign', () => agenda.now(BULK_ALARM, {})],
    ['data with an ObjectId', () => agenda.now(BULK_ALARM, { campaignId: {} })],
    ['another name', () => agenda.now('some-job', data)],
  ])('%s', async (_, act) => {
    await expect(act()).rejects.toMatchObject(refused);
    expect(await repository.collection.countDocuments()).toBe(0);
  });

  it.each<[string, () => Promise<unknown>]>([
    ['cancel by name', () => agenda.cancel({ name: BULK_ALARM })],
    ['cancel without an id', () => agenda.cancel({ id: undefined as unknown as string, name: BULK_ALARM })],
    ['cancel with no ids', () => agenda.cancel({ ids: [] })],
    ['cancelAll', () => agenda.cancelAll()],
    ['purge', () => agenda.purge()],
    ['a lock without a token', async () => repository.lockJob()],
    ['saving a job again', async () => saveStored()],
  ])('%s, and the alarm stands', async (_, act) => {
    await agenda.schedule(inFuture(HOUR_MS), BULK_ALARM, data);
    const alarm = await repository.collection.findOne();
    const nothing = async (): Promise<void> => {};
    define('another-job', nothing);
    await expect(act()).rejects.toMatchObject(refused);
    expect(await repository.collection.findOne()).toEqual(alarm);
  });

  async function saveStored(): Promise<unknown> {
    const job = create();
    const id = (await repository.collection.findOne())?._id.toHexString();
    Object.assign(job.attrs, { _id: id });
    return job.save();
  }

  it('nothing else: now() and schedule() are wake-ups', async () => {
    const [early, late] = [inFuture(HOUR_MS), inFuture(2 * HOUR_MS)];
    await agenda.schedule(early, BULK_ALARM, data);
    await agenda.schedule(late, BULK_ALARM, data);
    expect(await repository.collection.find().toArray()).toMatchObject([{ nextRunAt: early, wakeRev: 2 }]);
    await agenda.now(BULK_ALARM, data);
    await expect.poll(() => repository.getQueueSize(), PATIENCE).toBe(1);
  });
});
