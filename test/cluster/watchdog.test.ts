/** The watchdog over several processes: the one that does it is stopped in the middle of its work, and wakes up. */
import { expect, it } from 'vitest';
import type { AlertDoc, JournalDoc, LeaseDoc, WorkerDoc } from '../../src/store/documents.ts';
import { people, SHORT, startRig, tidyUpAfterEach } from '../engine/fixtures.ts';
import { PATIENCE } from '../engine/provider.ts';
import { testDatabase } from '../support/mongo.ts';
import { startFleet } from './fleet.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

it('a leader that is stopped loses its work to another, and does no harm when it wakes up', async () => {
  const scheduler = {
    ...SHORT,
    // Whoever is stopped is dead, nobody else, and nothing else is wrong, however slow the machine is.
    claimTtlMs: 6_000,
    workerOfflineAfterMs: 8_000,
    sendTimeoutMs: 120_000,
    watchdog: { everyMs: 200, stuckAfterMs: 300_000 },
  };
  const concurrency = 4;
  const fleet = await startFleet(3, { uri, gated: true, scheduler });
  await fleet.all('start');
  const api = await startRig(uri, { worker: false, ...scheduler });
  const { id } = await api.create({ audience: people(240), concurrency });
  await expect.poll(() => fleet.handOvers().length, PATIENCE).toBe(3 * concurrency);
  const leases = db.collection<LeaseDoc>('leases');
  const leader = async (): Promise<string | undefined> => (await leases.findOne({ _id: 'watchdog' }))?.holder;
  await expect.poll(leader, PATIENCE).toBeDefined();
  const workerId = (await leader()) as string;
  const workers = db.collection<WorkerDoc>('workers');
  const pid = (await workers.findOne({ _id: workerId }))?.pid;
  const stopped = fleet.workers.find((worker) => worker.pid === pid);
  stopped?.freeze();

  const alerts = db.collection<AlertDoc>('alerts');
  const key = `worker:offline:${workerId}`;
  await expect.poll(async () => (await alerts.findOne({ _id: key }))?.state, PATIENCE).toBe('raised');
  expect(await leader()).not.toBe(workerId);
  const held = () => db.collection('ledger_pages').countDocuments({ 'claim.workerId': workerId });
  await expect.poll(held, PATIENCE).toBe(0);
  stopped?.thaw();
  await expect.poll(async () => (await alerts.findOne({ _id: key }))?.state, PATIENCE).toBe('cleared');
  expect((await workers.findOne({ _id: workerId }))?.state).toBe('running');
  await fleet.all('open');
  await api.until(id, 'completed');

  const told = await alerts.find({ kind: { $ne: 'mongo_slow' } }).toArray(); // that may be true on a busy machine
  expect(told).toMatchObject([{ _id: key, count: 1 }]);
  // Pages were taken from the one that was stopped, and from nobody else.
  const taken = await db.collection<JournalDoc>('journal').find({ kind: 'page-taken-over' }).toArray();
  expect(new Set(taken.map(({ detail }) => detail?.fromWorkerId))).toEqual(new Set([workerId]));
  const report = await api.scheduler.campaigns.report(id);
  expect(report).toMatchObject({ total: 240, failed: 0 });
  expect((report?.sent ?? 0) + (report?.unknown ?? 0)).toBe(240);
  expect(report?.unknown).toBeLessThanOrEqual(2 * concurrency); // those that woke up told the truth
  fleet.expectClean();
  await fleet.stop();
});
