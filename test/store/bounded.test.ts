/** Every operation ends, also one whose answer never comes; and everything else is as the driver does it. */

import { MongoClient } from 'mongodb';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { bounded } from '../../src/store/bounded.ts';
import { closeClient, testDatabase } from '../support/mongo.ts';
import { type MongoProxy, startProxy } from '../support/proxy.ts';

const { uri, name } = await testDatabase();
let proxy: MongoProxy;
let client: MongoClient;
beforeAll(async () => {
  proxy = await startProxy(uri);
  // As an app's own connection may be: without any time-out that would end a silent operation.
  client = await MongoClient.connect(proxy.uriFor(name));
});
afterAll(async () => {
  proxy.cut();
  await closeClient(client);
  await proxy.stop();
});
const rows = (count: number) => Array.from({ length: count }, (_, n) => ({ n }));

it('works like the driver: writes, chains, cursors over many batches, commands', async () => {
  const db = bounded(client.db());
  const numbers = db.collection<{ n: number }>('numbers');
  await numbers.insertMany(rows(250));
  const found: number[] = [];
  for await (const { n } of numbers
    .find({ n: { $gte: 10 } }, { projection: { n: 1 } })
    .sort({ n: 1 })
    .batchSize(20)) {
    found.push(n);
  }
  expect(found).toEqual(
    rows(250)
      .map(({ n }) => n)
      .slice(10),
  );
  for await (const { n } of numbers.find().sort({ n: 1 })) if (n === 3) break;
  expect(await numbers.find().sort({ n: -1 }).limit(2).toArray()).toMatchObject([{ n: 249 }, { n: 248 }]);
  expect(await numbers.aggregate([{ $group: { _id: null, sum: { $sum: '$n' } } }]).toArray()).toMatchObject([
    { sum: (249 * 250) / 2 },
  ]);
  expect(numbers.collectionName).toBe('numbers');
  expect(await db.command({ ping: 1 })).toMatchObject({ ok: 1 });
  await expect(numbers.insertOne({ _id: (await numbers.findOne())?._id, n: 1 } as never)).rejects.toThrow(
    /E11000/,
  );
});

it('rejects when no answer comes, and works again after', async () => {
  const db = bounded(client.db(), 200);
  const numbers = db.collection<{ n: number }>('late');
  await numbers.insertMany(rows(50));
  const cursor = numbers.find().batchSize(10);
  const slowly = cursor[Symbol.asyncIterator]();
  await slowly.next();
  proxy.pause('answers');
  onTestFinished(() => proxy.resume());
  const late = /gave no answer to `\w+` within 200 ms/;
  const drain = async () => {
    for (;;) if ((await slowly.next()).done === true) return;
  };
  await Promise.all([
    expect(numbers.updateOne({ n: 1 }, { $set: { n: -1 } })).rejects.toThrow(late),
    expect(numbers.find().toArray()).rejects.toThrow(late),
    expect(drain()).rejects.toThrow(late),
    expect(db.command({ ping: 1 })).rejects.toThrow(late),
  ]);
  proxy.resume();
  expect(await numbers.countDocuments({ n: -1 })).toBe(1); // given up is not undone
});
