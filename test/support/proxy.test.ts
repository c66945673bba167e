import { type Db, MongoClient } from 'mongodb';
import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { closeClient, testDatabase } from './mongo.ts';
import { type MongoProxy, startProxy } from './proxy.ts';

const { db: direct, name } = await testDatabase();
let proxy: MongoProxy;
let client: MongoClient;
let db: Db;

beforeEach(async () => {
  proxy = await startProxy(inject('mongoUri'));
  const options = { serverSelectionTimeoutMS: 1_000, retryWrites: false, retryReads: false };
  client = await MongoClient.connect(proxy.uriFor(name), options);
  db = client.db(name);
  await direct.collection('marks').deleteMany({});
});
afterEach(async () => {
  await proxy.stop();
  await closeClient(client);
  expect(proxy.connections()).toBe(0);
});

const insert = (fields: object): Promise<unknown> => db.collection('marks').insertOne({ ...fields });
const seen = (): Promise<number> => direct.collection('marks').countDocuments();

it('passes messages of any size on', async () => {
  const text = 'x'.repeat(8_000_000);
  await insert({ text });
  expect((await db.collection('marks').findOne())?.text).toHaveLength(text.length);
});

/** An insert by a client that waits 300 ms for an answer. */
async function impatientInsert(whilePaused: 'requests' | 'answers'): Promise<unknown> {
  const impatient = await MongoClient.connect(proxy.uriFor(name), {
    retryWrites: false,
    socketTimeoutMS: 300,
  });
  try {
    await impatient.db(name).command({ ping: 1 });
    proxy.pause(whilePaused);
    return await impatient.db(name).collection('marks').insertOne({});
  } finally {
    await closeClient(impatient);
  }
}

it('pause: nothing flows; resume: what waited arrives', async () => {
  proxy.pause();
  const waiting = insert({});
  const second = await Promise.race([waiting, new Promise((resolve) => setTimeout(resolve, 300, 'silence'))]);
  expect(second).toBe('silence');
  expect(await seen()).toBe(0);
  proxy.resume();
  await waiting;
  expect(await seen()).toBe(1);
});

it('pause: a client with a timeout gives up, and its write still arrives later', async () => {
  await expect(impatientInsert('requests')).rejects.toThrow(/timed out/i);
  expect(await seen()).toBe(0);
  proxy.resume();
  await expect.poll(seen, { timeout: 10_000 }).toBe(1);
});

it('pause of answers: the write is done, the client does not know', async () => {
  await expect(impatientInsert('answers')).rejects.toThrow(/timed out/i);
  expect(await seen()).toBe(1);
  proxy.resume();
});

it('cut: operations in flight fail, later ones connect again', async () => {
  const hold = proxy.hold((command) => command.insert === 'marks');
  const doomed = expect(insert({})).rejects.toThrow(/closed|reset/i);
  await hold.reached();
  proxy.cut();
  await doomed;
  hold.release();
  await insert({});
  expect(await seen()).toBe(1);
});

it('refuse: no server is found; accept: it is again', async () => {
  proxy.refuse();
  proxy.cut();
  await expect(insert({})).rejects.toThrow();
  proxy.accept();
  await expect
    .poll(
      () =>
        insert({}).then(
          () => true,
          () => false,
        ),
      { timeout: 10_000 },
    )
    .toBe(true);
});

it('hold: a matching write arrives after a newer one', async () => {
  const hold = proxy.hold((command, message) => command.update === 'marks' && message.includes('older'));
  await direct.collection<{ _id: string }>('marks').insertOne({ _id: 'page' });
  const write = (by: string) =>
    db.collection<{ _id: string }>('marks').updateOne({ _id: 'page' }, { $push: { by } as object });
  const older = write('older');
  await hold.reached();
  await write('newer');
  expect(hold.count()).toBe(1);
  hold.release();
  await older;
  expect(await direct.collection('marks').findOne()).toMatchObject({ by: ['newer', 'older'] });
});

it('hold: arrives even when the client that sent it is gone', async () => {
  const hold = proxy.hold((command) => command.insert === 'marks');
  const doomed = expect(insert({})).rejects.toThrow();
  await hold.reached();
  await client.close(true);
  await doomed;
  expect(await seen()).toBe(0);
  hold.release();
  await expect.poll(seen, { timeout: 10_000 }).toBe(1);
});

it('delay: requests take longer', async () => {
  proxy.delay(200);
  const start = performance.now();
  await insert({});
  expect(performance.now() - start).toBeGreaterThanOrEqual(195);
  proxy.delay(0);
});
