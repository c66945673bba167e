/**
 * Who owns an alarm, step by step: the test plays the workers, so that each sequence happens exactly as written. Locks
 * are made to expire by moving their time back in the document.
 */
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { BULK_ALARM, RECURRING_ALARM } from '../../src/queue/alarm.ts';
import { testDatabase } from '../support/mongo.ts';
import { abandonedAlarm, HOUR_MS, inFuture, newId, newIds, testRepository } from './alarm-fixtures.ts';
import { beginning, ending, expire, twoWorkers } from './played-workers.ts';

const { db } = await testDatabase();

describe('a lock', () => {
  it('belongs to one worker, who is named in it', async () => {
    const { one, two, jobs, campaignId } = await twoWorkers(db);
    const job = await one.lock(BULK_ALARM, 'worker-one');
    expect(job).toMatchObject({ name: BULK_ALARM, data: { campaignId } });
    expect(await two.lock()).toBeUndefined();
    expect(await one.lock()).toBeUndefined();
    expect(await jobs.findOne()).toMatchObject({
      lastModifiedBy: 'worker-one',
      lockedAt: expect.any(Date),
      lockToken: expect.stringMatching(/^[0-9a-f-]{36}$/),
    });
  });

  it('that expired goes to another; what the first still writes changes nothing', async () => {
    const { one, two, jobs } = await twoWorkers(db);
    const lost = (await one.lock())!;
    await one.repository.saveJobState(beginning(lost), undefined);
    await expire(jobs);
    expect(await two.lock(BULK_ALARM, 'worker-two')).toMatchObject({ _id: lost._id });
    const taken = await jobs.findOne();

    const late = { code: 'lock_lost' };
    await expect(one.repository.saveJobState(beginning(lost), undefined)).rejects.toMatchObject(late);
    await expect(one.repository.saveJobState(ending(lost, null), undefined)).rejects.toMatchObject(late);
    await expect(one.repository.saveJobState(ending(lost, new Date()), undefined)).rejects.toMatchObject(
      late,
    );
    await one.repository.unlockJob(lost);
    await one.repository.unlockJobs([lost._id!]);
    expect(await jobs.findOne()).toEqual(taken);
    expect(one.repository.locks.size).toBe(0);
  });

  it('of a job that was not locked by us cannot be written', async () => {
    const { one } = await twoWorkers(db);
    const foreign = { ...(await one.lock())!, lockToken: undefined };
    await expect(one.repository.saveJobState(foreign, undefined)).rejects.toMatchObject({
      code: 'lock_lost',
    });
  });

  it('that expired comes before what is due, and starts now', async () => {
    const { one, jobs, campaignId } = await twoWorkers(db);
    const crashed = abandonedAlarm(newId(), { nextRunAt: inFuture(HOUR_MS) });
    await jobs.insertOne(crashed);
    const first = await one.lock();
    expect(first?.data).toEqual(crashed.data);
    expect(first?.nextRunAt?.getTime()).toBeLessThanOrEqual(Date.now());
    expect((await one.lock())?.data).toEqual({ campaignId });
  });

  it('is not taken from an alarm that is not due or has no date', async () => {
    const { repository, jobs, lock } = testRepository(db, {});
    await jobs.insertMany([
      abandonedAlarm(newId(), { lockedAt: null, nextRunAt: inFuture(HOUR_MS) }),
      abandonedAlarm(newId(), { lockedAt: null, nextRunAt: null }),
    ]);
    expect(await lock()).toBeUndefined();
    expect(repository.locks.size).toBe(0);
  });

  it('is not taken from a disabled alarm, and not beyond the limit of a name', async () => {
    const { one, two, jobs, wake } = await twoWorkers(db);
    await jobs.updateOne({}, { $set: { disabled: true } });
    expect(await one.lock()).toBeUndefined();
    await jobs.updateOne({}, { $set: { disabled: false } });
    const limited = testRepository(db, { collectionName: jobs.collectionName, limitPerName: 1 });
    const job = (await limited.lock())!;
    await one.alarms.wake(BULK_ALARM, newId(), new Date());
    await one.alarms.wake(RECURRING_ALARM, newId(), new Date());
    expect(await limited.lock()).toBeUndefined();
    expect(await limited.lock(RECURRING_ALARM)).toBeDefined();
    await limited.repository.saveJobState(ending(job, null), undefined);
    expect(await limited.lock()).toBeDefined();
    await wake(new Date());
    expect(await two.lock()).toBeDefined();
  });

  it('given back leaves the alarm as it was, or due now when a crash had left no date', async () => {
    const { one, two, jobs, campaignId } = await twoWorkers(db);
    const due = (await jobs.findOne())?.nextRunAt;
    const crashed = abandonedAlarm(newId());
    await jobs.insertOne(crashed);
    const held = [(await one.lock())!, (await one.lock())!];
    await one.repository.unlockJobs(held.map((job) => job._id!));
    const free = { lockedAt: null, lockToken: null };
    expect(await jobs.findOne({ 'data.campaignId': campaignId })).toMatchObject({ ...free, nextRunAt: due });
    expect(await jobs.findOne({ _id: crashed._id })).toMatchObject({ ...free, nextRunAt: expect.any(Date) });
    expect(await two.lock()).toBeDefined();
    expect(await two.lock()).toBeDefined();
  });
});

describe('where many are due', () => {
  async function crowd(count: number, options: Parameters<typeof testRepository>[1] = {}) {
    const one = testRepository(db, { limitPerName: 40, lockLifetimeMs: 10_000, ...options });
    const two = testRepository(db, { limitPerName: 40, collectionName: one.jobs.collectionName });
    await one.alarms.insertMissing(
      newIds(count).map((campaignId) => ({ name: BULK_ALARM, campaignId, at: new Date() })),
    );
    return { one, two, jobs: one.jobs };
  }
  const held = (jobs: { countDocuments: (filter: object) => Promise<number> }) =>
    jobs.countDocuments({ lockedAt: { $ne: null } });

  it('they are locked together, each by one worker under a token of its own, never beyond the limit', async () => {
    const { one, two, jobs } = await crowd(100);
    const runs: {
      repository: typeof one.repository;
      job: NonNullable<Awaited<ReturnType<typeof one.lock>>>;
    }[] = [];
    for (let idle = 0; idle < 2; ) {
      idle = 0;
      for (const { repository, lock } of [one, two]) {
        const job = await lock();
        if (job === undefined) idle += 1;
        else runs.push({ repository, job });
        expect(repository.locks.size).toBeLessThanOrEqual(40);
      }
    }
    expect(runs).toHaveLength(80);
    expect(new Set(runs.map(({ job }) => String(job._id))).size).toBe(80);
    expect(
      new Set((await jobs.find({ lockedAt: { $ne: null } }).toArray()).map((alarm) => alarm.lockToken)).size,
    ).toBe(80);
    for (const { repository, job } of runs) {
      await repository.saveJobState(beginning(job), undefined);
      await repository.saveJobState(ending(job, null), undefined);
    }
    expect(await jobs.countDocuments()).toBe(20);
    expect(await held(jobs)).toBe(0);
  });

  it('those locked together go back when the gate closes', async () => {
    const { one, jobs } = await crowd(30);
    const begun = [(await one.lock())!, (await one.lock())!];
    expect(await held(jobs)).toBe(30);
    one.repository.closeGate();
    await one.repository.unlockJobs(begun.map((job) => job._id!));
    await one.repository.locks.whenIdle();
    expect(await held(jobs)).toBe(0);
    expect(await jobs.countDocuments({ nextRunAt: null })).toBe(0);
    expect(await one.lock()).toBeUndefined();
  });

  it('those that have waited for long are given back first, and locked anew', async () => {
    let shiftMs = 0;
    const clock = { ...systemClock, monotonic: () => systemClock.monotonic() + shiftMs };
    const { one, jobs } = await crowd(5, { clock });
    const begun = [(await one.lock())!, (await one.lock())!];
    const before = await jobs.find({ lockedAt: { $ne: null } }).toArray();
    expect(before).toHaveLength(5);
    shiftMs = 3_000; // more than a quarter of a lock's life
    while (begun.length < 5) {
      const job = await one.lock();
      if (job !== undefined) begun.push(job);
    }
    const tokens = new Set(before.map((alarm) => alarm.lockToken));
    const after = await jobs.find({ lockToken: { $nin: [...tokens] } }).toArray();
    expect(after).toHaveLength(3);
    expect(one.repository.locks.size).toBe(5);
  });

  it('two workers that look at the same time lock each alarm once', async () => {
    const { one, two, jobs } = await crowd(20);
    const all = await Promise.all([one.lock(), two.lock(), one.lock(), two.lock()]);
    const again = await Promise.all(Array.from({ length: 30 }, (_, n) => (n % 2 === 0 ? one : two).lock()));
    const ids = [...all, ...again].flatMap((job) => (job === undefined ? [] : String(job._id)));
    expect(new Set(ids).size).toBe(ids.length);
    expect(await held(jobs)).toBe(one.repository.locks.size + two.repository.locks.size);
  });
});

describe('a run', () => {
  const [early, late] = [inFuture(HOUR_MS), inFuture(2 * HOUR_MS)];
  it.each<[string, Date | undefined, Date | undefined, Date | null, Date | null | 'deleted']>([
    ['nothing left', undefined, undefined, null, 'deleted'],
    ['a date', undefined, undefined, early, early],
    ['woken before the start, nothing left', early, undefined, null, 'deleted'],
    ['woken during the run, nothing left', undefined, late, null, late],
    ['woken during the run, an earlier date', undefined, late, early, early],
    ['woken during the run, a later date', undefined, early, late, early],
  ])('that ends with %s', async (_, wokenBefore, wokenDuring, answer, expected) => {
    const { one, jobs, wake } = await twoWorkers(db);
    if (wokenBefore) await wake(wokenBefore);
    const job = (await one.lock())!;
    await one.repository.saveJobState(beginning(job), undefined);
    if (wokenDuring) await wake(wokenDuring);
    await one.repository.saveJobState(ending(job, answer), undefined);
    const alarm = await jobs.findOne();
    if (expected === 'deleted') expect(alarm).toBeNull();
    else expect(alarm).toMatchObject({ nextRunAt: expected, lockedAt: null, lockToken: null });
  });

  it('that was woken between lock and start rings again after it', async () => {
    const { one, jobs, wake } = await twoWorkers(db);
    const due = (await jobs.findOne())?.nextRunAt;
    const job = (await one.lock())!;
    await wake(new Date());
    await one.repository.saveJobState(beginning(job), undefined);
    await one.repository.saveJobState(ending(job, null), undefined);
    expect(await jobs.findOne()).toMatchObject({ nextRunAt: due, lockedAt: null });
  });

  it('renews its lock at the start and keeps what people read, literally', async () => {
    const { one, jobs } = await twoWorkers(db);
    const job = (await one.lock())!;
    await expire(jobs);
    await one.repository.saveJobState(beginning(job), { lastModifiedBy: '$name' });
    expect((await jobs.findOne())?.lockedAt?.getTime()).toBeGreaterThan(Date.now() - HOUR_MS / 2);
    const failed = { ...ending(job, new Date()), failReason: '$data', failCount: 1 };
    await one.repository.saveJobState(failed, { lastModifiedBy: '$name' });
    expect(await jobs.findOne()).toMatchObject({
      failReason: '$data',
      failCount: 1,
      lastModifiedBy: '$name',
    });
  });

  it('does not begin when the gate closed while its start was written', async () => {
    const { one, jobs } = await twoWorkers(db);
    const job = (await one.lock())!;
    one.repository.closeGate();
    const starting = one.repository.saveJobState(beginning(job), undefined);
    await expect(starting).rejects.toMatchObject({ code: 'stopped' });
    expect(await jobs.findOne()).toMatchObject({ lockedAt: null, nextRunAt: expect.any(Date) });
    expect(await one.lock()).toBeUndefined();
    await one.repository.locks.whenIdle();
  });
});
