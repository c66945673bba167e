/** What is read of many runs at once is what is read of each alone, whatever an abandoned freezing attempt left behind. */
import { expect, it, onTestFinished } from 'vitest';
import { insertLedgerPages } from '../../src/store/ledger-pages.ts';
import { openZones, readPageFacts } from '../../src/store/standing.ts';
import { testStore } from '../engine/fixtures.ts';
import { testDatabase } from '../support/mongo.ts';

const { db, uri } = await testDatabase();

it("pages beyond those of a run are nobody's", async () => {
  const store = await testStore(uri);
  onTestFinished(() => store.close());
  await insertLedgerPages(store, 'small:once', 4, (n) => (n < 2 ? 'Europe/Rome' : 'Asia/Tokyo'));
  await insertLedgerPages(store, 'large:once', 9);
  await db.collection('ledger_pages').updateOne({ runId: 'small:once', n: 0 }, { $set: { status: 'done' } });
  const runs = [
    { runId: 'small:once', pages: 2, total: 20, orderNo: 0 },
    { runId: 'large:once', pages: 9, total: 90, orderNo: 0 },
  ];
  const [together, zones] = [await readPageFacts(store, runs), await openZones(store, runs)];
  for (const run of runs) {
    expect(together.get(run.runId)).toEqual((await readPageFacts(store, [run])).get(run.runId));
    expect(zones.get(run.runId)).toEqual((await openZones(store, [run])).get(run.runId));
  }
  expect([together.get('small:once')?.pending, zones.get('small:once')]).toEqual([1, ['Europe/Rome']]);
});
