/**
 * Makes one mongod the primary of a replica set of one, whatever it finds: a fresh directory, a set initiated earlier, or
 * a set whose only member was reached on another port. Invariant: an existing configuration is changed in its member's
 * address only, and never when the set has other members.
 */
import { type Document, type MongoClient, MongoServerError } from 'mongodb';

export const REPLICA_SET = 'rs0';

export async function becomePrimary(
  client: MongoClient,
  port: number,
  givenUp: () => boolean,
): Promise<void> {
  const host = `127.0.0.1:${port}`;
  const config = await currentConfig(client);
  if (config === undefined) await initiate(client, host);
  else if (config.members.length > 1) throw new Error('the data belongs to a replica set of several members');
  else if (config.members[0]?.host !== host) await moveTo(client, config, host);
  await untilPrimary(client, givenUp);
}

interface SetConfig extends Document {
  readonly version: number;
  readonly members: readonly { readonly host: string }[];
}

/** Read from the data, not by command: right after a start the server does not know its configuration yet. */
async function currentConfig(client: MongoClient): Promise<SetConfig | undefined> {
  const stored = await client
    .db('local')
    .collection<SetConfig>('system.replset')
    .findOne({}, { readPreference: 'primaryPreferred' });
  return stored ?? undefined;
}

async function initiate(client: MongoClient, host: string): Promise<void> {
  const settings = { electionTimeoutMillis: 1_000 };
  const config = { _id: REPLICA_SET, members: [{ _id: 0, host }], settings };
  await client.db('admin').command({ replSetInitiate: config });
}

/** Forced, because a member that does not find itself in its configuration is no primary and can have no majority. */
async function moveTo(client: MongoClient, config: SetConfig, host: string): Promise<void> {
  const members = config.members.map((member) => ({ ...member, host }));
  const changed = { ...config, version: config.version + 1, members };
  for (let attempt = 1; ; attempt += 1) {
    try {
      await client.db('admin').command({ replSetReconfig: changed, force: true });
      return;
    } catch (error) {
      // It reads its old configuration shortly after it starts to answer, and refuses until it has.
      if (!(error instanceof MongoServerError) || attempt === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

async function untilPrimary(client: MongoClient, givenUp: () => boolean): Promise<void> {
  for (;;) {
    const hello = await client.db('admin').command({ hello: 1 });
    if (hello.isWritablePrimary === true) return;
    if (givenUp()) throw new Error('it did not become primary of its replica set in time');
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
