/** Recounting the report of a closed run while others recount it too, and die in the middle. */
import { ObjectId } from 'mongodb';
import { expect, it, onTestFinished } from 'vitest';
import { emptyCounts } from '../../src/core/ledger-page.ts';
import { recountReport } from '../../src/delivery/closing.ts';
import type { CampaignDoc, LedgerPageDoc } from '../../src/store/documents.ts';
import { insertRun, newRun, readRun } from '../../src/store/runs.ts';
import type { Store } from '../../src/store/store.ts';
import { testStore } from '../engine/fixtures.ts';
import { testDatabase } from '../support/mongo.ts';

const { uri } = await testDatabase();

/** A closed run over one page of ten, three of whom nobody knows about. */
async function closedRun() {
  const store = await testStore(uri);
  onTestFinished(() => store.close());
  const campaign = {
    _id: new ObjectId(),
    name: 'News',
    schedule: { sendAt: null },
  } as unknown as CampaignDoc;
  const run = newRun(campaign, { runId: `${campaign._id}:once`, occurrence: 'once' }, new Date());
  const books = { total: 10, sent: 7, failed: 0, skipped: 0, unknown: 3, duplicates: 0, rejected: 0 };
  const report = { ...books, startedAt: new Date(), finishedAt: new Date() };
  await insertRun(store, { ...run, status: 'finished', pages: 1, total: 10, report });
  const learn = async (sent: number): Promise<void> => {
    const counts = { ...emptyCounts(), sent, unknown: 10 - sent };
    const page = {
      runId: run._id,
      n: 0,
      status: 'done',
      orderNo: 0,
      counts,
      deaths: 0,
      schemaVersion: 1,
    } as const;
    await store.ledgerPages.replaceOne({ _id: `${run._id}:0` }, page satisfies Omit<LedgerPageDoc, '_id'>, {
      upsert: true,
    });
  };
  await learn(7);
  return { store, runId: run._id, learn };
}

it('a recount that began earlier does not undo a later one, even where its worker dies right after', async () => {
  const { store, runId, learn } = await closedRun();
  await learn(8);
  const runs = new Proxy(store.runs, {
    get: (target, name) => {
      if (name !== 'updateOne') return Reflect.get(target, name, target);
      return async (...args: Parameters<typeof target.updateOne>) => {
        // It has summed the page; now another truth comes, and whoever brought it recounts faster.
        await learn(9);
        await recountReport(store, runId);
        await target.updateOne(...args);
        throw new Error('killed');
      };
    },
  });
  await expect(recountReport({ ...store, runs } as Store, runId)).rejects.toThrow('killed');
  expect((await readRun(store, runId))?.report).toMatchObject({ sent: 9, unknown: 1 });
});
