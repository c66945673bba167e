/**
 * A database of its own for a test file on the shared server. Call it once at the top of the file:
 * `const { db, uri } = await testDatabase();`. It is dropped, and its client closed, after the file's last test.
 */
import { randomBytes } from 'node:crypto';
import { type Db, MongoClient } from 'mongodb';
import { afterAll, inject } from 'vitest';

export interface TestDatabase {
  /** With the database in it. */
  readonly uri: string;
  readonly client: MongoClient;
  readonly db: Db;
  readonly name: string;
}

export async function testDatabase(): Promise<TestDatabase> {
  const name = `test_${randomBytes(6).toString('hex')}`;
  const url = new URL(inject('mongoUri'));
  url.pathname = `/${name}`;
  // The test sees nothing that a majority read of the scheduler would not see yet.
  const client = await MongoClient.connect(url.href, {
    serverSelectionTimeoutMS: 10_000,
    readConcernLevel: 'majority',
  });
  const db = client.db(name);
  afterAll(async () => {
    await db.dropDatabase();
    await client.close();
  });
  return { uri: url.href, client, db, name };
}

/**
 * Closes a client whose connections may be broken: it asks the server to end its sessions, and on a connection that has
 * just broken the driver may wait for the answer for ever.
 */
export async function closeClient(client: MongoClient): Promise<void> {
  await Promise.race([client.close(), new Promise((resolve) => setTimeout(resolve, 3_000))]);
}
