/** What the questions that are asked all the time cost beside many documents that have nothing to do with them. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { newId, openCampaigns } from '../../src/store/campaigns.ts';
import type { CampaignDoc } from '../../src/store/documents.ts';
import type { Store } from '../../src/store/store.ts';
import { campaignsOf, testStore } from '../engine/fixtures.ts';
import { testDatabase } from '../support/mongo.ts';

const { db, uri } = await testDatabase();
let store: Store;
beforeAll(async () => {
  store = await testStore(uri);
  const campaign = (index: number) => {
    const open = index % 2_500 === 0 ? [{ runId: `${index}:once`, occurrence: 'once' }] : [];
    const status = index % 2 === 0 ? 'completed' : 'scheduled';
    return { _id: newId(), name: `c${index}`, status, rev: 1, openRuns: open } as unknown as CampaignDoc;
  };
  await campaignsOf(db).insertMany(Array.from({ length: 10_000 }, (_, index) => campaign(index)));
});
afterAll(() => store.close());

it('the look at open campaigns examines these only', async () => {
  await db.command({ profile: 2 });
  expect(await openCampaigns(store)).toHaveLength(4);
  await db.command({ profile: 0 });
  const [op] = await db
    .collection('system.profile', { readConcern: { level: 'local' } })
    .find({ 'command.find': 'campaigns' })
    .toArray();
  expect(op?.planSummary).toMatch(/^IXSCAN/);
  expect(op?.docsExamined).toBe(4);
  expect(op?.keysExamined).toBeLessThanOrEqual(20);
});
