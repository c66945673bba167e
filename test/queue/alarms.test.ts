import { describe, expect, it } from 'vitest';
import { BULK_ALARM, RECURRING_ALARM } from '../../src/queue/alarm.ts';
import { RETRY_AFTER_ERROR_MS } from '../../src/queue/alarm-handler.ts';
import { testDatabase } from '../support/mongo.ts';
import {
  abandonedAlarm,
  HOUR_MS,
  inFuture,
  newId,
  newIds,
  PATIENCE,
  testAlarms,
  untilAtRest,
  untilEmpty,
} from './alarm-fixtures.ts';
import { door } from './signals.ts';

const { db } = await testDatabase();

describe('an alarm', () => {
  it('rings when it is due and is deleted when nothing is left', async () => {
    const { alarms, rings, jobs } = testAlarms(db);
    const [bulk, recurring, later] = newIds(3) as [string, string, string];
    await alarms.start();
    await alarms.wake(BULK_ALARM, bulk, new Date());
    await alarms.wake(RECURRING_ALARM, recurring, inFuture(300));
    await alarms.wake(BULK_ALARM, later, inFuture(HOUR_MS));
    await rings.count(2);
    await expect.poll(() => jobs.countDocuments(), PATIENCE).toBe(1);
    expect(rings.all.sort()).toEqual([bulk, recurring].sort());
    expect(await alarms.find([later])).toHaveLength(1);
  });

  it('never rings before its date', async () => {
    const rangAt = new Map<string, number>();
    const { alarms, rings } = testAlarms(db, {
      handler: async (campaignId) => {
        rangAt.set(campaignId, Date.now());
        return null;
      },
    });
    await alarms.start();
    const dates = newIds(40).map((campaignId, index) => ({ campaignId, at: inFuture(index * 25) }));
    for (const { campaignId, at } of dates) await alarms.wake(BULK_ALARM, campaignId, at);
    await rings.count(40);
    for (const { campaignId, at } of dates) {
      expect(rangAt.get(campaignId)).toBeGreaterThanOrEqual(at.getTime());
    }
  });

  it('rings again at the date that its handler returns', async () => {
    const date = inFuture(HOUR_MS);
    const answers = [new Date(), inFuture(200), date];
    const { alarms, rings } = testAlarms(db, { handler: async () => answers.shift() ?? null });
    const campaignId = newId();
    await alarms.start();
    await alarms.wake(BULK_ALARM, campaignId, new Date());
    await rings.count(3);
    expect((await untilAtRest(alarms, campaignId))?.nextRunAt).toEqual(date);
    expect(rings.all).toEqual([campaignId, campaignId, campaignId]);
  });

  it.each<[string, Date | null, Date]>([
    ['an earlier wake-up', inFuture(2 * HOUR_MS), inFuture(HOUR_MS)],
    ['a later wake-up', inFuture(HOUR_MS), inFuture(3 * HOUR_MS)],
    ['any wake-up when nothing was left', null, inFuture(HOUR_MS)],
  ])('that is woken during its run: %s', async (_, answer, wokenFor) => {
    const finish = door();
    const { alarms, rings } = testAlarms(db, {
      handler: async () => {
        await finish.opened;
        return answer;
      },
    });
    const campaignId = newId();
    await alarms.start();
    await alarms.wake(BULK_ALARM, campaignId, new Date());
    await rings.next();
    await alarms.wake(BULK_ALARM, campaignId, wokenFor);
    await alarms.wake(BULK_ALARM, campaignId, inFuture(4 * HOUR_MS));
    expect((await alarms.find([campaignId]))[0]).toMatchObject({ lockedAt: expect.any(Date) });
    finish.open();
    const earlier = answer !== null && answer < wokenFor ? answer : wokenFor;
    expect((await untilAtRest(alarms, campaignId))?.nextRunAt).toEqual(earlier);
    expect(rings.all).toHaveLength(1);
  });

  it('that is woken for now during its run rings again after it', async () => {
    const finish = door();
    const { alarms, rings, jobs } = testAlarms(db, {
      handler: async () => {
        await finish.opened;
        return null;
      },
    });
    const campaignId = newId();
    await alarms.start();
    await alarms.wake(BULK_ALARM, campaignId, new Date());
    await rings.next();
    await alarms.wake(BULK_ALARM, campaignId, new Date());
    finish.open();
    await rings.next();
    await untilEmpty(jobs);
  });
});

describe('a handler', () => {
  it.each([
    ['throws', () => Promise.reject(new Error('a bug'.repeat(1_000)))],
    ['throws what is no error', () => Promise.reject(undefined)],
    ['throws synchronously', () => thrown()],
    ['returns no date', async () => 'tomorrow' as unknown as Date],
    ['returns nothing', async () => undefined as unknown as Date],
    ['returns an invalid date', async () => new Date(Number.NaN)],
  ])('that %s is logged and rings again in 30 s', async (_, handler) => {
    const { alarms, rings, log, jobs } = testAlarms(db, { handler });
    const campaignId = newId();
    const before = Date.now();
    await alarms.wake(BULK_ALARM, campaignId, new Date());
    await alarms.start();
    await rings.next();
    const alarm = await untilAtRest(alarms, campaignId);
    expect(alarm?.nextRunAt?.getTime()).toBeGreaterThanOrEqual(before + RETRY_AFTER_ERROR_MS);
    expect(log.filter(({ level }) => level === 'error')).toEqual([
      { level: 'error', fields: expect.objectContaining({ campaignId }), message: expect.any(String) },
    ]);
    const stored = await jobs.findOne();
    expect(stored).toMatchObject({ failCount: 1, failReason: expect.any(String) });
    expect(stored?.failReason?.length).toBeLessThanOrEqual(256);
  });

  it('still has a date when even the clock fails', async () => {
    const { alarms, rings } = testAlarms(db, {
      handler: () => Promise.reject(new Error('a bug')),
      serverNow: () => {
        throw new Error('no time');
      },
    });
    const campaignId = newId();
    await alarms.wake(BULK_ALARM, campaignId, new Date());
    await alarms.start();
    await rings.next();
    expect((await untilAtRest(alarms, campaignId))?.nextRunAt).toBeInstanceOf(Date);
  });

  it.each([
    ['no data', null],
    ['no campaign', {}],
    ['an ObjectId', { campaignId: abandonedAlarm(newId())._id }],
    ['a number', { campaignId: 7 }],
    ['no hex', { campaignId: 'the summer campaign' }],
  ])('is not called for a job with %s: it is logged and deleted', async (_, data) => {
    const { alarms, rings, log, jobs } = testAlarms(db);
    await alarms.start();
    const job = { ...abandonedAlarm(newId()), lockedAt: null, lockToken: null, nextRunAt: new Date() };
    await jobs.insertOne({ ...job, data: data as { campaignId: string } });
    await untilEmpty(jobs);
    expect(rings.all).toEqual([]);
    expect(log.map(({ level }) => level)).toEqual(['error']);
  });

  it('is called as before when the logger throws', async () => {
    const shout = () => {
      throw new Error('the disk is full');
    };
    let calls = 0;
    const { alarms, rings, jobs } = testAlarms(db, {
      handler: async () => {
        calls += 1;
        if (calls === 1) throw new Error('a bug');
        return null;
      },
      logger: { debug: shout, info: shout, warn: shout, error: shout },
    });
    const campaignId = newId();
    await alarms.start();
    await alarms.wake(BULK_ALARM, campaignId, new Date());
    await rings.next();
    expect((await untilAtRest(alarms, campaignId))?.nextRunAt).toBeInstanceOf(Date);
    await alarms.wake(BULK_ALARM, campaignId, new Date());
    await rings.next();
    await untilEmpty(jobs);
    expect(rings.all).toHaveLength(2);
  });
});

describe('a job of another origin', () => {
  it('is not repeated or forked, whatever its document says', async () => {
    const { alarms, rings, jobs } = testAlarms(db);
    const campaignId = newId();
    const job = { ...abandonedAlarm(campaignId), lockedAt: null, nextRunAt: new Date() };
    const odd = {
      repeatInterval: '1 second',
      repeatAt: '3:30am',
      fork: true,
      skipDays: [0, 1, 2, 3, 4, 5, 6],
    };
    await jobs.insertOne({ ...job, ...odd });
    await alarms.start();
    expect(await rings.next()).toBe(campaignId);
    await untilEmpty(jobs);
  });
});

function thrown(): never {
  throw new Error('a bug');
}
