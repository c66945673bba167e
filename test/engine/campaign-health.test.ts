/** The health of campaigns in real situations, one by one and together. */
import { describe, expect, it } from 'vitest';
import { DeliveryError } from '../../src/messengers/messenger.ts';
import type { CampaignDoc } from '../../src/store/documents.ts';
import { watchedConnection } from '../support/commands.ts';
import { testDatabase } from '../support/mongo.ts';
import { startWorker } from '../support/processes.ts';
import {
  campaignsOf,
  inHours,
  people,
  type Rig,
  runsOf,
  startRig,
  stopRig,
  tidyUpAfterEach,
} from './fixtures.ts';
import { newProvider, PATIENCE } from './provider.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const wordOf = async (rig: Rig, id: string) => (await rig.scheduler.health(id)).health;

it('one that is sending, interrupted, resumed, complete', async () => {
  const rig = await startRig(uri, { health: { staleAfterMs: 60_000 } });
  const gate = rig.provider.hold();
  const { id } = await rig.create({ audience: people(30), concurrency: 2 });
  await rig.provider.calls.count(2);
  // A heartbeat may have been written before anybody was sent to.
  const health = () => rig.scheduler.health(id);
  await expect.poll(health, PATIENCE).toMatchObject({
    health: 'RUNNING',
    message: expect.stringContaining('It is sending'),
    campaign: { id, status: 'processing' },
    reason: { code: 'sending' },
    heartbeat: { recipient: 'p1', progress: '0/30', percent: 0, pid: process.pid, ageMs: expect.any(Number) },
    worker: { id: rig.scheduler.workerId, alive: true, processAlive: true },
    checkpoint: { done: 0, total: 30, canResume: true },
    crash: null,
    alerts: [],
  });
  await rig.scheduler.campaigns.pause(id);
  expect(await wordOf(rig, id)).toBe('INTERRUPTED');
  await rig.scheduler.campaigns.resume(id);
  gate.open();
  await rig.until(id, 'completed');
  expect(await rig.scheduler.health(id)).toMatchObject({
    health: 'COMPLETE',
    heartbeat: { progress: '30/30', percent: 100, status: 'finished' },
    checkpoint: { done: 30, total: 30, canResume: false },
  });
});

it.each<[unknown, string]>([
  [null, 'Expected `campaignId` to be the id of a campaign, or an object with named values for a list, got'],
  [123, 'got `123` (number)'],
  [['a'], 'got an array of 1'],
  [{ limits: 5 }, 'Unknown key `limits`. Did you mean `limit`?'],
  [{ limit: null }, 'Expected `limit`'],
])('asked for nonsense it refuses: %j', async (asked, message) => {
  const rig = await startRig(uri, { worker: false });
  await expect(rig.scheduler.health(asked as string)).rejects.toMatchObject({
    code: 'invalid_options',
    problems: [{ message: expect.stringContaining(message) }],
  });
});

it('one that waits for its time, is cancelled, has failures, has no worker for its messenger', async () => {
  const rig = await startRig(uri, { health: { failureMinimum: 5, failureRate: 0.1, staleAfterMs: 60_000 } });
  const { id: later } = await rig.create({ sendAt: inHours(1) });
  expect(await wordOf(rig, later)).toBe('HEALTHY');
  await rig.scheduler.campaigns.cancel(later);
  expect(await wordOf(rig, later)).toBe('TERMINATED');

  rig.provider.plan(({ recipient }) => {
    if (Number(recipient.id.slice(1)) < 5) throw new DeliveryError('permanent', 'no such user');
    return new Promise(() => undefined);
  });
  const { id } = await rig.create({ audience: people(7), concurrency: 7 });
  await expect.poll(async () => wordOf(rig, id), PATIENCE).toBe('WARNING');
  expect((await rig.scheduler.health(id)).message).toMatch(/^5 of 5 recipients failed/);
  await campaignsOf(db).updateMany({ status: 'processing' }, { $set: { schemaVersion: 99 } });
  expect(await wordOf(rig, id)).toBe('UNKNOWN');
  await campaignsOf(db).updateMany({ schemaVersion: 99 }, { $set: { schemaVersion: 1 } });
  await stopRig(rig, 100);
  await Promise.all([
    campaignsOf(db).deleteMany({}),
    runsOf(db).deleteMany({}),
    db.collection('ledger_pages').deleteMany({}),
  ]);
});

it('one without a worker: a warning, then stale; with workers that were stopped in the middle: interrupted', async () => {
  const api = await startRig(uri, { worker: false, health: { staleAfterMs: 6_000 } });
  const { id } = await api.create({ audience: people(30), concurrency: 1 });
  expect(await wordOf(api, id)).toBe('WARNING');
  await expect.poll(async () => wordOf(api, id), PATIENCE).toBe('STALE');
  expect((await api.scheduler.health(id)).reason.code).toBe('no_worker');
  const provider = newProvider();
  const gate = provider.hold();
  const worker = await startRig(uri, { provider });
  await provider.calls.next();
  await expect.poll(async () => (await api.scheduler.health(id)).heartbeat, PATIENCE).not.toBeNull();
  const stopping = stopRig(worker);
  gate.open();
  await stopping;
  expect(await api.scheduler.health(id)).toMatchObject({ health: 'INTERRUPTED', worker: { alive: false } });
});

it('one whose worker was killed has crashed, until another goes on', async () => {
  const api = await startRig(uri, { worker: false });
  const killed = startWorker(new URL('../faults/crash-worker.ts', import.meta.url), {
    args: [JSON.stringify({ uri })],
  });
  await killed.next('ready', 60_000);
  const { id } = await api.create({ audience: people(20), concurrency: 2 });
  await killed.next('send');
  expect(await wordOf(api, id)).toBe('RUNNING');
  await killed.kill();
  expect(await api.scheduler.health(id)).toMatchObject({
    health: 'CRASHED',
    message: expect.stringMatching(/^The worker that sent it ended without a word/),
  });
  const next = await startRig(uri);
  const gate = next.provider.hold();
  await next.provider.calls.next();
  expect(await wordOf(api, id)).toBe('RUNNING');
  gate.open();
  await next.until(id, 'completed');
});

describe('all that are not final', () => {
  it('in few questions, however many they are; paged; a document of another program is among them', async () => {
    const watched = await watchedConnection(uri);
    const api = await startRig(watched.connection, {
      worker: false,
      health: { staleAfterMs: 3_600_000 },
      watchdog: { everyMs: 600_000 },
    });
    const ids: string[] = [];
    for (let n = 0; n < 12; n += 1) {
      ids.push((await api.create({ audience: people(5), sendAt: inHours(n % 2 === 0 ? 1 : -1) })).id);
    }
    await api.scheduler.campaigns.cancel(String(ids[0]));
    await api.scheduler.campaigns.pause(String(ids[2]));
    await campaignsOf(db).insertOne({ name: 'foreign', status: 'processing' } as unknown as CampaignDoc);
    const before = watched.answered.all.length;
    const { campaigns, next } = await api.scheduler.health();
    expect(watched.answered.all.length - before).toBeLessThanOrEqual(8);
    expect(next).toBeUndefined();
    expect(campaigns.map(({ health }) => health)).toEqual([
      'WARNING', // overdue, no worker
      'INTERRUPTED',
      'WARNING',
      'HEALTHY',
      'WARNING',
      'HEALTHY',
      'WARNING',
      'HEALTHY',
      'WARNING',
      'HEALTHY',
      'WARNING',
      'UNKNOWN',
    ]);
    const first = await api.scheduler.health({ limit: 5 });
    const rest = await api.scheduler.health({ limit: 100, after: first.next });
    expect([...first.campaigns, ...rest.campaigns].map(({ campaign }) => campaign.id)).toEqual(
      campaigns.map(({ campaign }) => campaign.id),
    );
    await expect(api.scheduler.health({ limit: 0, after: 'x' })).rejects.toMatchObject({
      problems: [{ path: 'limit' }, { path: 'after' }],
    });
    await expect(api.scheduler.health('0'.repeat(24))).rejects.toMatchObject({ code: 'not_found' });
  });

  it('with open runs: as many questions for eight as for one', async () => {
    const watched = await watchedConnection(uri);
    const api = await startRig(watched.connection, { worker: false, watchdog: { everyMs: 600_000 } });
    const rig = await startRig(uri);
    const gate = rig.provider.hold();
    const window = { from: '00:00', to: '23:59', timezone: 'recipient', fallbackTimezone: 'UTC' } as const;
    const questions = async (count: number): Promise<number> => {
      await expect.poll(() => runsOf(db).countDocuments({ status: 'sending' }), PATIENCE).toBe(count);
      const before = watched.answered.all.length;
      const { campaigns } = await api.scheduler.health();
      expect(campaigns).toHaveLength(count);
      return watched.answered.all.length - before;
    };
    await rig.create({ audience: people(20), window });
    const forOne = await questions(1);
    for (let n = 1; n < 8; n += 1) await rig.create({ audience: people(20), window });
    expect(await questions(8)).toBeLessThanOrEqual(forOne + 3);
    gate.open();
    await expect.poll(() => campaignsOf(db).countDocuments({ status: 'completed' }), PATIENCE).toBe(8);
  });
});
