/** Workers that a test plays itself, step by step, on the repository without an Agenda. */
import type { Collection, Db } from 'mongodb';
import { type AlarmDocument, BULK_ALARM } from '../../src/queue/alarm.ts';
import { HOUR_MS, inFuture, newCollectionName, newId, testRepository } from './alarm-fixtures.ts';

export type Job = NonNullable<Awaited<ReturnType<ReturnType<typeof testRepository>['lock']>>>;

/** Two workers on one collection that holds one alarm, due now. */
export async function twoWorkers(db: Db) {
  const collectionName = newCollectionName();
  const one = testRepository(db, { collectionName });
  const two = testRepository(db, { collectionName });
  const campaignId = newId();
  await one.alarms.wake(BULK_ALARM, campaignId, new Date());
  return {
    one,
    two,
    jobs: one.jobs,
    campaignId,
    wake: (at: Date) => one.alarms.wake(BULK_ALARM, campaignId, at),
  };
}

export async function expire(jobs: Collection<AlarmDocument>): Promise<void> {
  await jobs.updateMany({ lockedAt: { $ne: null } }, { $set: { lockedAt: inFuture(-HOUR_MS) } });
}

/** The job as Agenda hands it over when its run begins, and when it ends with this date. */
export const beginning = (job: Job): Job => ({ ...job, lastRunAt: new Date(), nextRunAt: null });
export const ending = (job: Job, nextRunAt: Date | null): Job => {
  const { lockedAt: _, ...rest } = job;
  return { ...rest, lastFinishedAt: new Date(), nextRunAt };
};
