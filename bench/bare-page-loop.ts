/**
 * The physical limit: pages of 250, claimed and written with the same columns as the ledger's, 83 outcomes a write, two
 * pages at once, nothing else. No messenger, no retries, no orders, no trust: what any engine on this schema cannot beat.
 */
import { MongoClient } from 'mongodb';

const PAGE = 250;
const OUTCOMES = 83;
const AT_ONCE = 2;

export async function barePageLoop(url: string, count: number): Promise<number> {
  const client = await MongoClient.connect(url);
  const writeConcern = { w: 'majority', journal: true } as const;
  const audience = client.db().collection<{ _id: number; recipients: object[] }>('bare_audience');
  const ledger = client
    .db()
    .collection<{ _id: number; status: string; token?: string; seq?: number }>('bare_ledger', {
      writeConcern,
    });
  const pages = Math.ceil(count / PAGE);
  const recipients = Array.from({ length: PAGE }, (_, index) => ({
    id: `u${index}`,
    to: `user${index}@example.com`,
    vars: { first: 'Ann', city: 'Oslo' },
  }));
  for (let n = 0; n < pages; n += 1) {
    await audience.insertOne({ _id: n, recipients });
    await ledger.insertOne({ _id: n, status: 'pending' }, { writeConcern: { w: 1 } });
  }
  await ledger.createIndex({ status: 1, _id: 1 });
  const from = performance.now();
  const one = async (): Promise<void> => {
    for (;;) {
      const token = `${Math.random()}`;
      const page = await ledger.findOneAndUpdate(
        { status: 'pending' },
        { $set: { status: 'claimed', token, seq: 0 } },
        { sort: { _id: 1 } },
      );
      if (page === null) return;
      await audience.findOne({ _id: page._id });
      const writes = Math.ceil(PAGE / OUTCOMES);
      for (let seq = 1; seq <= writes; seq += 1) {
        const columns = {
          states: '>'.repeat(PAGE),
          at: Buffer.alloc(PAGE * 6),
          attempts: Buffer.alloc(PAGE),
          counts: { sent: seq },
        };
        const status = seq === writes ? 'done' : 'claimed';
        await ledger.updateOne(
          { _id: page._id, token, seq: { $lt: seq } },
          { $set: { ...columns, seq, status } },
        );
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  const ms = performance.now() - from;
  await Promise.all([audience.drop(), ledger.drop()]);
  await client.close();
  return ms;
}
