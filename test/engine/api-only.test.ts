/** A process with `worker: false` serves the API and nothing else: it opens, claims and sends nothing. */
import { expect, it } from 'vitest';
import { testDatabase } from '../support/mongo.ts';
import { people, startRig, tidyUpAfterEach } from './fixtures.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

it('orders given through it are carried out by workers only', async () => {
  const api = await startRig(uri, { worker: false });
  const worker = await startRig(uri);
  const gate = worker.provider.hold();
  const { id } = await api.create({ audience: people(200), concurrency: 2 });
  await worker.provider.calls.next();
  await api.scheduler.campaigns.pause(id);
  await api.scheduler.campaigns.resume(id);
  const second = await api.create({ audience: people(3, 'q') });
  gate.open();
  await worker.until(id, 'completed');
  await worker.until(second.id, 'completed');
  expect(worker.provider.left).toHaveLength(203);
  expect(api.provider.calls.all).toEqual([]);
});
