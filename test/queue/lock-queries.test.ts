/** The two lock queries stay cheap beside any number of alarms: explained one by one, and profiled in live traffic. */
import type { Document } from 'mongodb';
import { beforeAll, expect, it } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { BULK_ALARM, RECURRING_ALARM } from '../../src/queue/alarm.ts';
import { ensureAlarmIndexes } from '../../src/queue/alarm-indexes.ts';
import { dueAlarms, expiredLocks, type LockQuery, lockChange } from '../../src/queue/lock-queries.ts';
import { testDatabase } from '../support/mongo.ts';
import {
  abandonedAlarm,
  HOUR_MS,
  inFuture,
  newId,
  newIds,
  testAlarms,
  testRepository,
} from './alarm-fixtures.ts';

const { db } = await testDatabase();
const collectionName = 'alarms';
const FUTURE = 10_000;
const OTHERS = 100_000;

beforeAll(async () => {
  const { alarms, jobs } = testRepository(db, { collectionName });
  await ensureAlarmIndexes(jobs, { deadlineMs: 10_000, clock: systemClock });
  await alarms.insertMissing(
    newIds(FUTURE).map((campaignId, index) => ({
      name: BULK_ALARM,
      campaignId,
      at: inFuture(HOUR_MS + index * 1_000),
    })),
  );
  const other = (index: number) => {
    const free = { lockedAt: null, nextRunAt: index % 2 === 0 ? inFuture(HOUR_MS) : null };
    const held = { lockedAt: new Date(), nextRunAt: null };
    const name = index % 10 === 0 ? RECURRING_ALARM : 'a-finished-job-of-another-program';
    return abandonedAlarm(newId(), { name, ...(index % 4 === 0 ? held : free) });
  };
  for (let made = 0; made < OTHERS; made += 20_000) {
    await jobs.insertMany(Array.from({ length: 20_000 }, (_, index) => other(index)));
  }
});

async function keysExamined(query: LockQuery): Promise<number> {
  const { executionStats } = await db.command({
    explain: {
      findAndModify: collectionName,
      query: query.filter,
      sort: query.sort,
      update: lockChange('token', 'worker'),
      new: true,
    },
    verbosity: 'executionStats',
  });
  return (executionStats as Document).totalKeysExamined as number;
}

it('each examines fewer than ten keys', async () => {
  for (const name of [BULK_ALARM, RECURRING_ALARM]) {
    expect(await keysExamined(dueAlarms(name, 1_000))).toBeLessThan(10);
    expect(await keysExamined(dueAlarms(name, 24 * HOUR_MS))).toBeLessThan(10);
    expect(await keysExamined(expiredLocks(name, HOUR_MS))).toBeLessThan(10);
    expect(await keysExamined(expiredLocks(name, 0))).toBeLessThan(10);
  }
});

it('also in live traffic, where plans are cached', async () => {
  const { alarms, rings } = testAlarms(db, { collectionName, processEveryMs: 50, lockLifetimeMs: HOUR_MS });
  await db.command({ profile: 2 });
  const woken = newIds(100);
  await Promise.all(woken.map((campaignId) => alarms.wake(BULK_ALARM, campaignId, new Date())));
  await alarms.start();
  await rings.count(woken.length);
  await alarms.find(woken);
  await alarms.stop({ timeoutMs: 10_000 });
  await db.command({ profile: 0 });
  const operations = await db
    .collection('system.profile', { readConcern: { level: 'local' } })
    .find({ ns: `${db.databaseName}.${collectionName}`, keysExamined: { $exists: true } })
    .toArray();
  const costly = operations.filter(
    // Locked together: the keys of each alarm, by its id.
    ({ op, command, nModified = 0, keysExamined: keys }) =>
      keys >
      (command?.find ? 2 * woken.length + 10 : 9 + (op === 'update' && nModified > 1 ? 2 * nModified : 0)),
  );
  expect(operations.length).toBeGreaterThan(2 * woken.length);
  expect(costly).toEqual([]);
});
