import { ObjectId } from 'mongodb';
import { describe, expect, it } from 'vitest';
import { type AlarmName, BULK_ALARM, RECURRING_ALARM } from '../../src/queue/alarm.ts';
import { alarmCollection } from '../../src/queue/alarm-collection.ts';
import { testDatabase } from '../support/mongo.ts';
import {
  abandonedAlarm,
  HOUR_MS,
  inFuture,
  newCollectionName,
  newId,
  newIds,
  testAlarms,
} from './alarm-fixtures.ts';

const { db } = await testDatabase();

async function fresh() {
  const test = testAlarms(db);
  await test.alarms.ensureIndexes();
  return test;
}

describe('wake', () => {
  it('makes one alarm per name and campaign and returns its id', async () => {
    const { alarms, jobs } = await fresh();
    const campaignId = newId();
    const at = inFuture(HOUR_MS);
    const id = await alarms.wake(BULK_ALARM, campaignId, at);
    expect(await alarms.wake(BULK_ALARM, campaignId, at)).toBe(id);
    expect(await alarms.wake(RECURRING_ALARM, campaignId, at)).not.toBe(id);
    expect(await jobs.countDocuments()).toBe(2);
    expect(await jobs.findOne({ _id: new ObjectId(id) })).toMatchObject({
      name: BULK_ALARM,
      data: { campaignId },
      type: 'normal',
      nextRunAt: at,
      lockedAt: null,
    });
  });

  it('lets the earlier date win, and gives a date to an alarm that has none', async () => {
    const { alarms, jobs } = await fresh();
    const campaignId = newId();
    const dateAfter = async (at: Date) => {
      await alarms.wake(BULK_ALARM, campaignId, at);
      return (await alarms.find([campaignId]))[0]?.nextRunAt;
    };
    const [early, middle, late] = [inFuture(HOUR_MS), inFuture(2 * HOUR_MS), inFuture(3 * HOUR_MS)];
    expect(await dateAfter(middle)).toEqual(middle);
    expect(await dateAfter(late)).toEqual(middle);
    expect(await dateAfter(early)).toEqual(early);
    await jobs.updateOne({}, { $set: { nextRunAt: null } });
    expect(await dateAfter(late)).toEqual(late);
  });

  it('leaves the lock and all else of a ringing alarm alone', async () => {
    const { alarms, jobs } = await fresh();
    const ringing = abandonedAlarm(newId(), { failCount: 3, lastRunAt: inFuture(-HOUR_MS) });
    await jobs.insertOne(ringing);
    const at = inFuture(HOUR_MS);
    await alarms.wake(BULK_ALARM, ringing.data.campaignId, at);
    expect(await jobs.findOne()).toEqual({ ...ringing, nextRunAt: at, wakeRev: 2 });
  });

  it.each([
    [
      'an upper-case id',
      BULK_ALARM,
      new ObjectId('aaaaaaaaaaaaaaaaaaaaaaaa').toHexString().toUpperCase(),
      new Date(),
    ],
    ['an ObjectId', BULK_ALARM, new ObjectId(), new Date()],
    ['no id', BULK_ALARM, undefined, new Date()],
    ['an unknown name', 'process-campaign', newId(), new Date()],
    ['an invalid date', BULK_ALARM, newId(), new Date(Number.NaN)],
    ['a date in words', BULK_ALARM, newId(), 'tomorrow'],
  ])('refuses %s', async (_, name, campaignId, at) => {
    const { alarms, jobs } = await fresh();
    const waking = alarms.wake(name as AlarmName, campaignId as string, at as Date);
    await expect(waking).rejects.toMatchObject({ code: 'refused' });
    expect(await jobs.countDocuments()).toBe(0);
  });

  it('makes no double when many collide; without the index it would', async () => {
    const { alarms, jobs } = await fresh();
    const collide = async (wake: typeof alarms.wake, campaignId: string) => {
      const waking = Array.from({ length: 16 }, () => wake(BULK_ALARM, campaignId, new Date()));
      return new Set(await Promise.all(waking)).size;
    };
    for (const campaignId of newIds(8)) expect(await collide(alarms.wake, campaignId)).toBe(1);
    expect(await jobs.countDocuments()).toBe(8);

    const bare = alarmCollection(db, newCollectionName());
    let doubled = false;
    for (let round = 0; round < 50 && !doubled; round++) doubled = (await collide(bare.wake, newId())) > 1;
    expect(doubled).toBe(true);
  });
});

describe('find', () => {
  it('returns the alarms of these campaigns in one indexed query', async () => {
    const { alarms, jobs } = await fresh();
    const [bulk, recurring, other, none] = newIds(4) as [string, string, string, string];
    const at = inFuture(HOUR_MS);
    const bulkId = await alarms.wake(BULK_ALARM, bulk, at);
    await alarms.wake(RECURRING_ALARM, recurring, at);
    await alarms.wake(BULK_ALARM, other, at);
    const ringing = abandonedAlarm(none, { name: 'of-another-program' });
    await jobs.insertOne(ringing);
    const found = await alarms.find([bulk, recurring, none]);
    expect(found.map((alarm) => [alarm.campaignId, alarm.name]).sort()).toEqual(
      [
        [bulk, BULK_ALARM],
        [recurring, RECURRING_ALARM],
      ].sort(),
    );
    expect(found.find((alarm) => alarm.campaignId === bulk)).toEqual({
      id: bulkId,
      name: BULK_ALARM,
      campaignId: bulk,
      nextRunAt: at,
      lockedAt: null,
      lockToken: null,
      lastModifiedBy: null,
    });
    expect(await alarms.find([])).toEqual([]);
  });
});

describe.each(['insertMissing', 'upsertMissing'] as const)('%s', (verb) => {
  it('makes what is missing as wake would, leaves the rest alone, and names all ids', async () => {
    const { alarms, jobs } = await fresh();
    const [existing, ...missing] = newIds(50) as [string, ...string[]];
    const date = inFuture(HOUR_MS);
    const existingId = await alarms.wake(BULK_ALARM, existing, date);
    const like = await jobs.findOne({}, { projection: { _id: 0, data: 0 } });
    const later = inFuture(2 * HOUR_MS);
    const entries = [existing, ...missing].map((campaignId) => ({ name: BULK_ALARM, campaignId, at: later }));
    const ids = await alarms[verb](entries);
    expect([...ids.keys()].sort()).toEqual([existing, ...missing].sort());
    expect(ids.get(existing)).toBe(existingId);
    const stored = await jobs.find().toArray();
    expect(stored).toHaveLength(50);
    for (const { _id, data, ...fields } of stored) {
      expect(ids.get(data.campaignId)).toBe(_id.toHexString());
      expect(fields).toEqual({ ...like, nextRunAt: data.campaignId === existing ? date : later });
    }
    expect(await alarms[verb]([])).toEqual(new Map());
  });

  it('may be called by many at the same time', async () => {
    const { alarms, jobs } = await fresh();
    const entries = newIds(100).map((campaignId) => ({ name: RECURRING_ALARM, campaignId, at: new Date() }));
    const answers = await Promise.all(Array.from({ length: 8 }, () => alarms[verb](entries)));
    expect(await jobs.countDocuments()).toBe(100);
    for (const ids of answers) expect(ids).toEqual(answers[0]);
  });

  it('refuses the whole list for one bad entry', async () => {
    const { alarms, jobs } = await fresh();
    const good = { name: BULK_ALARM, campaignId: newId(), at: new Date() };
    const storing = alarms[verb]([good, { ...good, campaignId: 'x' }]);
    await expect(storing).rejects.toMatchObject({ code: 'refused' });
    expect(await jobs.countDocuments()).toBe(0);
  });
});

describe('release', () => {
  it('frees an alarm that is held as read, and no other', async () => {
    const { alarms, jobs } = await fresh();
    const abandoned = abandonedAlarm(newId());
    await jobs.insertOne(abandoned);
    const [read] = await alarms.find([abandoned.data.campaignId]);
    expect(read?.lockToken).toBe('of-the-dead');
    expect(await alarms.release(abandoned._id.toHexString(), 'of-another')).toBe(false);
    expect(await jobs.findOne()).toEqual(abandoned);
    expect(await alarms.release(abandoned._id.toHexString(), 'of-the-dead')).toBe(true);
    expect(await jobs.findOne()).toMatchObject({
      lockedAt: null,
      lockToken: null,
      nextRunAt: expect.any(Date),
    });
    expect(await alarms.release(abandoned._id.toHexString(), 'of-the-dead')).toBe(false);
  });
});
