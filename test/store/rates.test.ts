/** Token buckets on a real MongoDB: many takers, restarts, rests, and the same sums as `core/rate.ts`. */
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { type Bucket, type Grant, putBack, type Rate, takeBlock } from '../../src/core/rate.ts';
import type { RateDoc } from '../../src/store/documents.ts';
import {
  campaignRateKey,
  messengerRateKey,
  restingKeys,
  returnTokens,
  slowDown,
  takeTokens,
  takeTokensOfMany,
} from '../../src/store/rates.ts';
import { openStore, type Store } from '../../src/store/store.ts';
import { PATIENCE } from '../engine/provider.ts';
import { testDatabase } from '../support/mongo.ts';
import { startProxy } from '../support/proxy.ts';

const { uri, db, name } = await testDatabase();
const stores = await Promise.all(
  [1, 2, 3].map(() => openStore({ mongo: uri, collectionPrefix: '', journalDays: 90 })),
);
const store = stores[0] as Store;
const rates = db.collection<RateDoc>('rates');
afterAll(() => Promise.all(stores.map((each) => each.close())));
beforeEach(() => rates.deleteMany({}));

const KEY = campaignRateKey('c1');
const fast: Rate = { perSecond: 100 };
const slow: Rate = { perMinute: 1 };

/** Lets server time pass for the bucket alone. */
async function pass(ms: number): Promise<void> {
  await rates.updateOne({ _id: KEY }, [
    {
      $set: {
        at: { $subtract: ['$at', ms] },
        takenAt: { $subtract: ['$takenAt', ms] },
        blockedUntil: { $subtract: ['$blockedUntil', ms] },
      },
    },
  ]);
}

async function bucket(): Promise<Bucket> {
  const { tokens = 0, at = new Date(0), blockedUntil } = (await rates.findOne({ _id: KEY })) ?? {};
  return { tokens, at: at.getTime(), blockedUntil: blockedUntil?.getTime() ?? 0 };
}

describe('takeTokens', () => {
  test('does the same sums as the core, whatever stood there', async () => {
    const befores: Partial<RateDoc>[] = [
      {},
      { tokens: 0, at: new Date() },
      { tokens: -60, at: new Date() },
      { tokens: -20.5, at: new Date(Date.now() - 137) },
      { tokens: 1_000, at: new Date(Date.now() - 86_400_000) },
      { tokens: -3, at: new Date(Date.now() + 400) },
      { tokens: -3, at: new Date(Date.now() + 3_600_000) },
      { tokens: 0, at: new Date(), blockedUntil: new Date(Date.now() + 5_000) },
      { tokens: 0, at: new Date(), blockedUntil: new Date(Date.now() - 5_000) },
      { blockedUntil: new Date(Date.now() + 5_000) },
    ];
    for (const before of befores) {
      for (const rate of [fast, slow, { perSecond: 7.3 }, { perHour: 1_000 }] as Rate[]) {
        await rates.replaceOne({ _id: KEY }, { schemaVersion: 1, ...before }, { upsert: true });
        const { takenAt, ...grant } = await takeTokens(store, KEY, rate, 20);
        const now = takenAt.getTime();
        const { tokens = 0, at = takenAt, blockedUntil } = before;
        const known = { tokens, at: at.getTime(), blockedUntil: blockedUntil?.getTime() ?? 0 };
        const expected = takeBlock(known, rate, now, 20);
        for (const field of ['granted', 'firstInMs', 'waitMs', 'blockedForMs'] as (keyof Grant)[]) {
          expect(grant[field], `${field} of ${JSON.stringify({ before, rate })}`).toBeCloseTo(
            expected.grant[field],
            5,
          );
        }
        const after = await bucket();
        expect(after.tokens).toBeCloseTo(expected.bucket.tokens, 6);
        expect(after.at).toBe(expected.bucket.at);
      }
    }
  });

  test('many clients at once on a new bucket get as much as one would', async () => {
    const asked = performance.now();
    const taken = await Promise.all(
      Array.from({ length: 60 }, (_, index) => takeTokens(stores[index % 3] as Store, KEY, fast, 5)),
    );
    const elapsedMs = performance.now() - asked;
    const granted = taken.reduce((sum, grant) => sum + grant.granted, 0);
    // What lies ahead, the last block that begins there, and the time that has passed.
    expect(granted).toBeLessThanOrEqual(25 + 5 + elapsedMs / 10);
    expect(granted).toBeGreaterThanOrEqual(25);
    const points = taken.flatMap(({ granted: count, firstInMs, takenAt }) =>
      Array.from({ length: count }, (_, k) => takenAt.getTime() + firstInMs + k * 10),
    );
    points.sort((a, b) => a - b);
    for (const [position, point] of points.entries()) {
      if (position > 0) expect(point - (points[position - 1] ?? 0)).toBeGreaterThanOrEqual(10 - 1e-3);
    }
  });

  test('a restart grants no second burst', async () => {
    await takeTokens(store, KEY, slow, 25);
    const restarted = await openStore({ mongo: uri, collectionPrefix: '', journalDays: 90 });
    try {
      const asked = await takeTokens(restarted, KEY, slow, 25);
      expect(asked.granted).toBe(0);
      expect(asked.waitMs).toBeGreaterThan(0);
    } finally {
      await restarted.close();
    }
  });

  test('an answer that is lost wastes its block and grants nothing twice', async () => {
    const proxy = await startProxy(uri);
    const far = await openStore({ mongo: proxy.uriFor(name), collectionPrefix: '', journalDays: 90 });
    try {
      await takeTokens(far, KEY, fast, 1);
      await pass(60_000);
      proxy.pause('answers');
      const asked = takeTokens(far, KEY, fast, 25).catch(() => undefined);
      await expect.poll(async () => (await rates.findOne({ _id: KEY }))?.granted, PATIENCE).toBe(25);
      const taken = await rates.findOne({ _id: KEY });
      proxy.cut();
      proxy.resume();
      // The driver may ask again: then it hears of the same block.
      const answer = await asked;
      if (answer !== undefined) expect(answer.takenAt).toEqual(taken?.takenAt);
      expect(await rates.findOne({ _id: KEY })).toEqual(taken);
    } finally {
      await far.close();
      await proxy.stop();
    }
  });

  test('one a minute: two clients never get two, however the minutes pass', async () => {
    const from = performance.now();
    let granted = 0;
    for (let second = 0; second < 305; second += 5) {
      const both = await Promise.all([
        takeTokens(stores[0] as Store, KEY, slow, 3),
        takeTokens(stores[1] as Store, KEY, slow, 3),
      ]);
      granted += both.reduce((sum, grant) => sum + grant.granted, 0);
      const passed = second + (performance.now() - from) / 1_000;
      expect(granted).toBeLessThanOrEqual(1 + Math.floor(passed / 60));
      await pass(5_000);
    }
    expect(granted).toBeGreaterThanOrEqual(5);
  });

  test('the rate stands there for whoever looks, and the document goes long after the bucket is full', async () => {
    await takeTokens(store, KEY, { perDay: 0.1 }, 1);
    const found = await rates.findOne({ _id: KEY });
    expect(found).toMatchObject({ rate: { perDay: 0.1 }, granted: 1, schemaVersion: 1 });
    expect(found?.expiresAt?.getTime()).toBeGreaterThan(Date.now() + 10 * 86_400_000);
  });
});

describe('takeTokensOfMany', () => {
  const keys = Array.from({ length: 30 }, (_, index) => campaignRateKey(`m${index}`));
  const rateOf = (index: number): Rate =>
    index % 3 === 0 ? slow : index % 3 === 1 ? fast : { perSecond: 7.3 };
  const questions = keys.map((key, index) => ({ key, rate: rateOf(index), wanted: 1 + (index % 2) * 9 }));

  test('answers each bucket as if it had been asked alone', async () => {
    for (const [index, { key, rate }] of questions.entries()) {
      await takeTokens(store, key, rate, 1);
      if (index % 5 === 4) await slowDown(store, key, 30_000);
    }
    const before = new Map((await rates.find().toArray()).map((found) => [found._id, found]));
    const answers = await takeTokensOfMany(store, questions);
    expect([...answers.keys()].sort()).toEqual([...keys].sort());
    const after = new Map((await rates.find().toArray()).map((found) => [found._id, found]));
    for (const { key, rate, wanted } of questions) {
      const { takenAt = new Date(0), ...grant } = answers.get(key) ?? {};
      const { tokens = 0, at = new Date(0), blockedUntil } = before.get(key) ?? {};
      const known = { tokens, at: at.getTime(), blockedUntil: blockedUntil?.getTime() ?? 0 };
      const expected = takeBlock(known, rate, takenAt.getTime(), wanted);
      for (const field of ['granted', 'firstInMs', 'waitMs', 'blockedForMs'] as (keyof Grant)[])
        expect(grant[field as never], `${field} of ${key}`).toBeCloseTo(expected.grant[field], 5);
      expect(after.get(key)?.tokens).toBeCloseTo(expected.bucket.tokens, 6);
    }
  });

  test('a bucket that is not there yet has no answer, and is not made', async () => {
    await takeTokens(store, keys[0] ?? '', fast, 1);
    const answers = await takeTokensOfMany(store, questions.slice(0, 3));
    expect([...answers.keys()]).toEqual([keys[0]]);
    expect(await rates.countDocuments()).toBe(1);
  });

  test('several servers at once: each gets its own answer, and together no more than one would', async () => {
    for (const key of keys) await takeTokens(store, key, fast, 1);
    await rates.updateMany({}, [{ $set: { at: { $subtract: ['$at', 60_000] } } }]);
    const asked = performance.now();
    const all = await Promise.all(
      stores.flatMap((each) =>
        [1, 2].map(() =>
          takeTokensOfMany(
            each,
            keys.map((key) => ({ key, rate: fast, wanted: 20 })),
          ),
        ),
      ),
    );
    const elapsedMs = performance.now() - asked;
    for (const key of keys) {
      const taken = all.flatMap((answers) => answers.get(key) ?? []);
      expect(taken).toHaveLength(all.length);
      const points = taken.flatMap(({ granted, firstInMs, takenAt }) =>
        Array.from({ length: granted }, (_, k) => takenAt.getTime() + firstInMs + k * 10),
      );
      // What idle time gives, what lies ahead, the last block that begins there, and the time that has passed.
      expect(points.length).toBeLessThanOrEqual(25 + 25 + 20 + elapsedMs / 10);
      expect(new Set(points.map(Math.round)).size).toBe(points.length);
    }
  });

  test('an answer that many others have pushed out is missing: its block is wasted, not granted again', async () => {
    await takeTokens(store, KEY, fast, 1);
    for (let times = 0; times < 12; times += 1)
      await takeTokensOfMany(store, [{ key: KEY, rate: fast, wanted: 1 }]);
    expect((await rates.findOne({ _id: KEY }))?.answers).toHaveLength(8);
  });
});

describe('returnTokens', () => {
  /** However long this machine has stood still since: a block lives for a second. */
  const justNow = ({ takenAt }: { takenAt: Date }) => new Date(takenAt.getTime() + 30_000);

  test('gives a block back', async () => {
    const taken = await takeTokens(store, KEY, fast, 25);
    const before = await bucket();
    expect(await returnTokens(store, KEY, fast, 20, justNow(taken))).toBe(true);
    const after = await bucket();
    const expected = putBack(before, fast, after.at, 20);
    expect(after.tokens).toBeCloseTo(expected.tokens, 6);
    expect((await takeTokens(store, KEY, fast, 25)).granted).toBe(25);
  });

  test('a slow rate’s token that was returned is there again, whole and once', async () => {
    const taken = await takeTokens(store, KEY, slow, 1);
    await returnTokens(store, KEY, slow, 1, justNow(taken));
    expect((await takeTokens(store, KEY, slow, 1)).granted).toBe(1);
    expect((await takeTokens(store, KEY, slow, 1)).granted).toBe(0);
  });

  test('after the block’s end it gives nothing', async () => {
    const taken = await takeTokens(store, KEY, slow, 1);
    const before = await bucket();
    const expired = new Date(taken.takenAt.getTime() - 10_000);
    expect(await returnTokens(store, KEY, slow, 1, expired)).toBe(false);
    expect(await bucket()).toEqual(before);
  });

  test('never lifts a bucket above what idle time gives, nor makes one', async () => {
    expect(await returnTokens(store, KEY, fast, 1_000, new Date())).toBe(false);
    expect(await rates.countDocuments()).toBe(0);
    const taken = await takeTokens(store, KEY, fast, 1);
    await returnTokens(store, KEY, fast, 1_000, justNow(taken));
    expect((await bucket()).tokens).toBeLessThanOrEqual(25);
  });
});

describe('slowDown', () => {
  const messenger = messengerRateKey('post');

  test('holds every client, also where the messenger has no rate', async () => {
    await slowDown(store, messenger, 30_000.4);
    const resting = await restingKeys(stores[1] as Store, [messenger, 'messenger:other']);
    expect([...resting.keys()]).toEqual([messenger]);
    expect(resting.get(messenger)).toBeGreaterThan(20_000);
    expect(resting.get(messenger)).toBeLessThanOrEqual(30_001);
    const refused = await takeTokens(stores[2] as Store, messenger, fast, 5);
    expect(refused.granted).toBe(0);
    expect(refused.waitMs).toBeGreaterThan(20_000);
    expect(refused.blockedForMs).toBe(refused.waitMs);
  });

  test('the longest rest counts, and it ends', async () => {
    await slowDown(store, KEY, 30_000);
    await slowDown(store, KEY, 1_000);
    expect((await restingKeys(store, [KEY])).get(KEY)).toBeGreaterThan(20_000);
    await pass(30_000);
    expect((await restingKeys(store, [KEY])).size).toBe(0);
    expect((await takeTokens(store, KEY, fast, 5)).granted).toBe(5);
  });

  test('nobody is asked for nothing', async () => {
    expect(await restingKeys(store, [])).toEqual(new Map());
  });
});
