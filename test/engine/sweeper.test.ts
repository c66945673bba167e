/** Pages laid for a run that was cancelled while it was getting its audience belong to nobody, and do not stay. */
import { afterEach, expect, inject, onTestFinished, test } from 'vitest';
import { sweepUnbegun } from '../../src/services/sweeper.ts';
import { insertLedgerPages } from '../../src/store/ledger-pages.ts';
import { openStore } from '../../src/store/store.ts';
import { testDatabase } from '../support/mongo.ts';
import { startProxy } from '../support/proxy.ts';
import { people, startRig, stopAll } from './fixtures.ts';
import { PATIENCE } from './provider.ts';

const { db, uri, name } = await testDatabase();
afterEach(stopAll);
const pages = () => db.collection('ledger_pages').countDocuments();

test('laid too late, after the run was cancelled: taken away at once; by a worker that then died: swept', async () => {
  const proxy = await startProxy(inject('mongoUri'));
  onTestFinished(() => proxy.stop());
  const audiences = { list: () => people(600) };
  const slow = await startRig(proxy.uriFor(name), { audiences });
  // Looks while the other waits for its answer; it has no such source.
  const other = await startRig(uri);
  const laying = proxy.hold((command) => command.insert === 'ledger_pages');
  const { id } = await slow.create({ audience: { source: 'list' } });
  await laying.reached();
  await other.scheduler.campaigns.cancel(id);
  const run = () => db.collection('campaign_runs').findOne({ occurrence: 'once' });
  await expect.poll(async () => (await run())?.status, PATIENCE).toBe('cancelled');
  const cleared = proxy.hold((command) => command.delete === 'ledger_pages');
  laying.release();
  await cleared.reached();
  expect(await pages()).toBeGreaterThan(0);
  cleared.release();
  await expect.poll(pages, PATIENCE).toBe(0);
  await stopAll();

  const store = await openStore({ mongo: uri, collectionPrefix: '', journalDays: 90 });
  onTestFinished(() => store.close());
  const runId = String((await run())?._id);
  await insertLedgerPages(store, runId, 3);
  await db.collection('ledger_pages').updateOne({ runId, n: 1 }, { $set: { states: 's' } }); // somebody has held it
  await sweepUnbegun(store, 3_600_000);
  expect(await pages()).toBe(3); // whoever laid them may still be about it
  await sweepUnbegun(store, 0);
  expect(await db.collection('ledger_pages').distinct('n')).toEqual([1]);
  expect(await run()).not.toHaveProperty('unbegunAt');
});
