/** A MongoDB that cannot be used: one clear error with a code, at the start, and never a password in it. */
import { inspect } from 'node:util';
import { MongoClient } from 'mongodb';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureMongod } from '../../scripts/mongod.ts';
import { guard, launchMongod, type MongodProcess } from '../../src/embedded/mongod-process.ts';
import { startCampaignScheduler } from '../../src/scheduler.ts';
import { testDatabase } from '../support/mongo.ts';
import { type Mongod, type Mongods, startMongods } from '../support/mongods.ts';

const { db, uri } = await testDatabase();
const PASSWORD = 's3cret';

/** The error of a start that must fail; everything that was logged and everything in it is searched for the password. */
async function failure(mongo: string): Promise<{ code?: unknown; message: string }> {
  const log: unknown[] = [];
  const note = (fields: object, message: string): void => void log.push(fields, message);
  const logger = { debug: note, info: note, warn: note, error: note };
  const error = await startCampaignScheduler({ mongo, logger }).then(
    async (scheduler) => {
      await scheduler.stop();
      throw new Error('it started');
    },
    (reason: unknown) => reason,
  );
  const everything = inspect([error, log], { depth: 12, showHidden: true });
  expect(everything).not.toContain(PASSWORD);
  return error as { code?: unknown; message: string };
}

describe('an address', () => {
  it.each([
    ['where nobody listens', `mongodb://ann:${PASSWORD}@127.0.0.1:1/app`],
    ['with a slash in the password', `mongodb://ann:${PASSWORD}/x@127.0.0.1:1/app`],
    ['with an at sign in the password', `mongodb://ann:x@${PASSWORD}@127.0.0.1:1/app`],
    ['with a wrong escape in the password', `mongodb://ann:${PASSWORD}%@127.0.0.1:1/app`],
    ['with a question mark in the password', `mongodb://ann:${PASSWORD}?x@127.0.0.1:1/app`],
    ['with a hash in the password', `mongodb://ann:#${PASSWORD}@127.0.0.1:1/app`],
    ['without a host', `mongodb://ann:${PASSWORD}@/app`],
    ['with a port that is none', `mongodb://ann:${PASSWORD}@127.0.0.1:99999/app`],
    ['of a name that does not exist', `mongodb+srv://ann:${PASSWORD}@nowhere.invalid/app`],
    [
      'with keys that do not exist',
      `mongodb://ann:${PASSWORD}@127.0.0.1:1/app?tls=true&tlsCAFile=/nowhere.pem`,
    ],
    ['with an unknown option', `mongodb://ann:${PASSWORD}@127.0.0.1:1/app?colour=red`],
    ['with an option of a wrong value', `mongodb://ann:${PASSWORD}@127.0.0.1:1/app?maxPoolSize=many`],
  ])('%s', async (_what, mongo) => {
    const { code, message } = await failure(mongo);
    expect(code).toBe('mongo_unreachable');
    expect(message).toContain('MongoDB');
  });
});

describe('a server that asks for a password', () => {
  let mongods: Mongods;
  let strict: MongodProcess;
  let dismiss = (): void => {};
  let host: string;
  beforeAll(async () => {
    mongods = await startMongods({ replicaSet: false });
    const [member] = mongods.members as [Mongod];
    host = `127.0.0.1:${member.port}`;
    const client = await MongoClient.connect(`mongodb://${host}/`);
    const add = (user: string, pwd: string, role: string, on: string) =>
      client.db('admin').command({ createUser: user, pwd, roles: [{ role, db: on }] });
    await add('root', 'right', 'root', 'admin');
    await add('reader', PASSWORD, 'read', 'app');
    await client.close();
    await member.stop(); // and once more, this time it asks
    const { dataDir, port } = member;
    strict = await launchMongod({ binary: await ensureMongod(), dataDir, port, args: ['--auth'] });
    dismiss = guard(strict.pid);
    const root = await MongoClient.connect(`mongodb://root:right@${host}/?authSource=admin`);
    await root.close();
  });
  afterAll(async () => {
    strict.kill('SIGKILL');
    await strict.untilEnded();
    dismiss();
    await mongods.stop();
  });

  it.each([
    ['gets a wrong one', `root:${PASSWORD}@`],
    ['gets none', ''],
    ['gets an unknown user', `nobody:${PASSWORD}@`],
    ['gets a user who may only read', `reader:${PASSWORD}@`],
  ])('and %s', async (_what, credentials) => {
    const { code, message } = await failure(`mongodb://${credentials}${host}/app?authSource=admin`);
    expect(code).toBe('mongo_auth');
    expect(message).toMatch(/password|permission|authentication/);
  });

  it('and gets the right one', async () => {
    const mongo = `mongodb://root:right@${host}/app?authSource=admin`;
    const scheduler = await startCampaignScheduler({ mongo, worker: false });
    await scheduler.stop();
  });
});

describe('indexes that exist with other options', () => {
  it.each([
    ['audience_pages', 'audience_recipient', 'audience_recipient'],
    ['agendaJobs', 'jobs_identity', 'agendaJobs'],
  ])('in %s', async (collection, index, named) => {
    await db.collection(collection).createIndex({ ofAnother: 1 }, { name: index });
    const { code, message } = await failure(uri);
    expect(code).toBe('index_conflict');
    expect(message).toContain(named);
    await db.collection(collection).drop();
  });

  it('or data that breaks a unique one', async () => {
    const job = { name: 'process-bulk-campaign', data: { campaignId: 'same' } };
    await db
      .collection('agendaJobs')
      .drop()
      .catch(() => undefined);
    await db.collection<typeof job>('agendaJobs').insertMany([{ ...job }, { ...job }]);
    const { code } = await failure(uri);
    expect(code).toBe('index_conflict');
    await db.collection('agendaJobs').drop();
    const scheduler = await startCampaignScheduler({ mongo: uri, worker: false });
    await scheduler.stop();
  });
});
