/** Deploys: workers are replaced one after another by SIGTERM while a campaign runs. Nothing unknown, nothing twice. */
import { afterEach, expect, test } from 'vitest';
import { startFleet } from '../cluster/fleet.ts';
import { people, QUICK_TAKEOVER, SHORT, startRig, stopAll } from '../engine/fixtures.ts';
import { PATIENCE } from '../engine/provider.ts';
import { testDatabase } from '../support/mongo.ts';
import type { Worker } from '../support/processes.ts';

const { db, uri } = await testDatabase();
afterEach(stopAll);
const TOTAL = 900;

test('a rolling restart loses nothing, repeats nothing and burns no attempt', async () => {
  const api = await startRig(uri, { worker: false });
  const ROUNDS = 4;
  // Nobody dies here: a claim that runs out would be one of a worker that got no processor for a while.
  const lasting = { claimTtlMs: 60_000, claimMarginMs: 2_000 };
  const scheduler = { ...SHORT, ...lasting, pageSize: 25, handleSignals: true };
  const fleet = await startFleet(2 + ROUNDS, { uri, latencyMs: 60, scheduler });
  const started = async (worker: Worker | undefined): Promise<void> => {
    worker?.send({ kind: 'start' });
    await worker?.next('start-done');
  };
  await Promise.all(fleet.workers.slice(0, 2).map(started));
  const { id } = await api.create({ audience: people(TOTAL), concurrency: 3 });
  for (let round = 1; round <= ROUNDS; round += 1) {
    await expect.poll(() => fleet.handOvers().length, PATIENCE).toBeGreaterThan((TOTAL / 10) * round);
    await started(fleet.workers[round + 1]);
    expect(await fleet.workers[round - 1]?.kill('SIGTERM')).toEqual({ code: 0, signal: null });
  }
  await api.until(id, 'completed');
  expect(await api.scheduler.campaigns.report(id)).toMatchObject({ sent: TOTAL, unknown: 0, failed: 0 });
  expect((await api.scheduler.campaigns.audit(id))?.problems).toEqual([]);
  expect(new Set(fleet.handOvers().map(({ attempt }) => attempt))).toEqual(new Set([1]));
  expect(new Set(fleet.handOvers().map(({ pid }) => pid)).size).toBeGreaterThan(2);
  fleet.expectClean();
  await fleet.stop();
});

test('a second signal does not wait for a send that hangs', async () => {
  const api = await startRig(uri, { worker: false });
  const fleet = await startFleet(1, {
    uri,
    gated: true,
    scheduler: { ...SHORT, ...QUICK_TAKEOVER, sendTimeoutMs: 120_000, handleSignals: true },
  });
  await fleet.all('start');
  const { id } = await api.create({ audience: people(5) });
  await expect.poll(() => fleet.handOvers().length, PATIENCE).toBe(5);
  const [worker] = fleet.workers;
  process.kill(worker?.pid ?? 0, 'SIGTERM');
  await expect.poll(() => db.collection('workers').countDocuments({ state: 'stopping' }), PATIENCE).toBe(1);
  expect(await worker?.kill('SIGTERM')).toEqual({ code: 1, signal: null });
  // What hung is unknown: nobody can say what became of it.
  const rest = await startFleet(1, { uri, scheduler: { ...SHORT, ...QUICK_TAKEOVER } });
  await rest.all('start');
  await api.until(id, 'completed');
  expect(await api.scheduler.campaigns.report(id)).toMatchObject({ sent: 0, unknown: 5 });
  // It had been told to stop: nobody takes what it was doing for the cause of its end.
  expect(await db.collection('ledger_pages').countDocuments({ deaths: { $gt: 0 } })).toBe(0);
  await rest.stop();
});
