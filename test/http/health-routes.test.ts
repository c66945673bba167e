/** The routes of health, over real connections, with schedulers on a real MongoDB behind them that goes away and comes back. */
import express from 'express';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  type CampaignRouterOptions,
  createCampaignRouter,
  type RoutedScheduler,
} from '../../src/http/router.ts';
import { DeliveryError } from '../../src/messengers/messenger.ts';
import { people, runsOf, startRig, stopRig, tidyUpAfterEach } from '../engine/fixtures.ts';
import { PATIENCE } from '../engine/provider.ts';
import { testClock } from '../engine/test-clock.ts';
import { watchedConnection } from '../support/commands.ts';
import { testDatabase } from '../support/mongo.ts';
import { startMongods } from '../support/mongods.ts';
import { served } from './served.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

async function serve(scheduler: RoutedScheduler, authorize: CampaignRouterOptions['authorize'] = () => true) {
  const app = express();
  app.use(
    createCampaignRouter(scheduler, { authorize, logger: { debug() {}, info() {}, warn() {}, error() {} } }),
  );
  const origin = await served(app);
  return async (path: string) => {
    const response = await fetch(origin + path);
    // biome-ignore lint/suspicious/noExplicitAny: whatever was answered
    return { status: response.status, headers: response.headers, body: (await response.json()) as any };
  };
}

describe('GET /health', () => {
  it('of a worker: each part by proof of its work, also with sends in flight', async () => {
    const rig = await startRig(uri);
    const get = await serve(rig.scheduler);
    const gate = rig.provider.hold();
    const { id } = await rig.create({ audience: people(20), concurrency: 4 });
    await rig.provider.calls.count(4);
    const { status, body, headers } = await get('/health');
    expect(status).toBe(200);
    expect(headers.get('cache-control')).toBe('no-store');
    expect(Object.keys(body)).toEqual(['status', 'timestamp', 'services']);
    expect(body).toMatchObject({
      status: 'healthy',
      timestamp: expect.stringMatching(/^\d{4}-/),
      services: {
        database: { status: 'ok', latencyMs: expect.any(Number) },
        queue: {
          status: 'ok',
          worker: true,
          inFlight: 4,
          alarmsMsAgo: expect.any(Number),
          workMsAgo: expect.any(Number),
          flushMsAgo: expect.any(Number),
          heartbeatMsAgo: expect.any(Number),
          eventLoopDelayMs: expect.any(Number),
        },
        messengers: { post: { status: 'ok' } },
      },
    });
    gate.open();
    await rig.until(id, 'completed');
  });

  it('asked a hundred times in a moment it asks MongoDB once, and nothing of the ledger', async () => {
    const watched = await watchedConnection(uri);
    const pings: string[] = [];
    watched.connection.getClient().on('commandStarted', ({ commandName, command }) => {
      if (commandName === 'ping') pings.push(JSON.stringify(command));
    });
    const rig = await startRig(watched.connection, {
      ...{ worker: true, pollMs: 60_000, recoverEveryMs: 600_000 },
      ...{ claimTtlMs: 600_000, watchdog: { everyMs: 600_000 } },
    });
    await rig.scheduler.recover();
    const before = watched.answered.all.filter(({ collection }) => collection === 'ledger_pages').length;
    const pinged = pings.length;
    await Promise.all(Array.from({ length: 100 }, () => rig.scheduler.serviceHealth()));
    expect(pings.length - pinged).toBe(1);
    const after = watched.answered.all.filter(({ collection }) => collection === 'ledger_pages').length;
    expect(after).toBe(before);
    await stopRig(rig);
  });

  it('a messenger that rests is degraded, and that is no reason to restart', async () => {
    const rig = await startRig(uri);
    const get = await serve(rig.scheduler);
    rig.provider.plan(() => {
      throw new DeliveryError('provider', 'connection refused');
    });
    const { id } = await rig.create({ audience: people(3) });
    await rig.provider.calls.next();
    const post = { status: 'sick', reason: expect.stringMatching(/rests|tried again/) };
    await expect
      .poll(() => get('/health'), PATIENCE)
      .toMatchObject({ status: 200, body: { status: 'degraded', services: { messengers: { post } } } });
    await rig.scheduler.campaigns.cancel(id);
    await rig.scheduler.breakers.open('post', { by: 'ann', reason: 'maintenance' });
    await expect
      .poll(async () => (await get('/health')).body.services.messengers.post.reason, PATIENCE)
      .toMatch(/^Its breaker is open: /);
    await rig.scheduler.breakers.close('post');
    await expect
      .poll(async () => (await get('/health')).body.services.messengers.post.reason ?? '', PATIENCE)
      .not.toMatch(/breaker/);
  });

  it('of an API process: whether any worker lives', async () => {
    const api = await startRig(uri, { worker: false, workerOfflineAfterMs: 60_000 });
    const get = await serve(api.scheduler);
    expect(await get('/health')).toMatchObject({
      status: 200,
      body: { status: 'degraded', services: { queue: { worker: false, liveWorker: false } } },
    });
    await startRig(uri);
    await expect.poll(async () => (await get('/health')).body.status, PATIENCE).toBe('healthy');
  });

  it('MongoDB stops and comes back', async () => {
    const mongods = await startMongods({ replicaSet: false });
    onTestFinished(() => mongods.stop());
    const clock = testClock();
    const options = { clock, workerOfflineAfterMs: 60_000 };
    const rig = await startRig(mongods.uriFor('health'), options);
    const api = await startRig(mongods.uriFor('health'), { ...options, worker: false });
    const asked = [await serve(rig.scheduler), await serve(api.scheduler)];
    for (const get of asked) expect((await get('/health')).status).toBe(200);
    const [mongod] = mongods.members;
    await mongod?.stop();
    // It may be a failover: nobody is to be restarted for that.
    const seen = new Set<number>();
    const degraded = async (get: (typeof asked)[number]): Promise<void> => {
      const look = async () => {
        const { status, body } = await get('/health');
        seen.add(status);
        return body;
      };
      await expect.poll(look, PATIENCE).toMatchObject({
        status: 'degraded',
        services: { database: { reason: expect.stringContaining('MongoDB does not answer') } },
      });
    };
    await Promise.all(asked.map(degraded));
    expect([...seen]).toEqual([200]);
    for (const get of asked) expect((await get('/version')).body.mongodb).toMatch(/^\d+\.\d+/);
    clock.advance(16_000);
    for (const get of asked) {
      await expect.poll(async () => (await get('/health')).status, PATIENCE).toBe(503);
      const { body } = await get('/health');
      expect(body).toMatchObject({ status: 'unhealthy', services: { database: { status: 'sick' } } });
      expect(body.services.database.reason).toMatch(/MongoDB does not answer/);
    }
    await mongod?.start();
    for (const get of asked) await expect.poll(async () => (await get('/health')).status, PATIENCE).toBe(200);
    await stopRig(rig);
    await stopRig(api);
  });

  it('is refused where the host says so, and 503 once the scheduler has stopped', async () => {
    const rig = await startRig(uri, { worker: false });
    const actions: string[] = [];
    const get = await serve(rig.scheduler, (_request, action) => {
      actions.push(action);
      return action === 'read';
    });
    for (const path of ['/health', '/version']) expect((await get(path)).status).toBe(403);
    expect((await get('/workers')).status).toBe(200);
    expect(actions).toEqual(['health', 'health', 'read']);
    const open = await serve(rig.scheduler);
    await stopRig(rig);
    expect(await open('/health')).toMatchObject({ status: 503, body: { error: { code: 'stopped' } } });
  });
});

it('the health and the failures of campaigns', async () => {
  const rig = await startRig(uri);
  rig.provider.plan(({ recipient }) => {
    throw new DeliveryError('permanent', `user ${recipient.id.length} unknown`);
  });
  const { id } = await rig.create({ audience: people(5) });
  await rig.until(id, 'completed');
  const waiting = await rig.create({ sendAt: '2035-01-01T00:00:00Z' });
  const get = await serve(rig.scheduler);
  expect(await get(`/campaigns/${id}/health`)).toMatchObject({
    status: 200,
    body: { success: true, health: { health: 'COMPLETE', checkpoint: { failed: 5 }, campaign: { id } } },
  });
  expect((await get('/campaigns-health')).body).toMatchObject({
    success: true,
    campaigns: [{ health: 'HEALTHY', campaign: { id: waiting.id } }],
  });
  expect((await get(`/campaigns/${id}/failures?samples=1`)).body).toMatchObject({
    success: true,
    failed: 5,
    groups: [{ reason: 'user <n> unknown', count: 5, samples: [{ recipient: 'p0' }] }],
    others: 0,
  });
  for (const [path, status] of [
    ['/campaigns/nonsense/health', 400],
    [`/campaigns/${'0'.repeat(24)}/health`, 404],
    ['/campaigns-health?limit=x', 400],
    ['/campaigns-health?after=x', 400],
    [`/campaigns/${id}/failures?limit=9999`, 400],
    [`/campaigns/${id}/failures?occurrence=a&occurrence=b`, 400],
    [`/campaigns/${id}/failures?ocurrence=once`, 400],
  ] as const) {
    expect((await get(path)).status, path).toBe(status);
  }
  // Who may only read is told of no recipient.
  await runsOf(db).updateMany({}, { $set: { 'heartbeat.recipient': 'p4' } });
  const reader = await serve(rig.scheduler, (_request, action) => action === 'read');
  const { heartbeat } = (await reader(`/campaigns/${id}/health`)).body.health;
  expect(heartbeat).toMatchObject({ progress: '5/5' });
  expect(heartbeat).not.toHaveProperty('recipient');
  expect((await reader(`/campaigns/${id}/failures`)).status).toBe(403);
  expect((await get(`/campaigns/${id}/health`)).body.health.heartbeat.recipient).toBe('p4');
  const closed = await serve(rig.scheduler, () => false);
  for (const path of [`/campaigns/${id}/health`, '/campaigns-health', `/campaigns/${id}/failures`]) {
    expect((await closed(path)).status).toBe(403);
  }
});

it('GET /version', async () => {
  const rig = await startRig(uri, { worker: false });
  const get = await serve(rig.scheduler);
  expect((await get('/version')).body).toEqual({
    success: true,
    name: 'campaign-scheduler',
    version: expect.stringMatching(/^\d+\.\d+\.\d+/),
    node: process.versions.node,
    agenda: expect.stringMatching(/^\d+\.\d+\.\d+/),
    mongodb: expect.stringMatching(/^\d+\.\d+\.\d+/),
  });
});

it('GET /workers', async () => {
  const first = await startRig(uri);
  const second = await startRig(uri);
  await stopRig(first);
  // Of another machine, and long silent.
  await db
    .collection<{ _id: string }>('workers')
    .updateOne({ _id: first.scheduler.workerId }, [
      { $set: { _id: '$_id', host: 'elsewhere', state: 'running', heartbeatAt: new Date(0) } },
    ]);
  const get = await serve(second.scheduler);
  const { body } = await get('/workers');
  expect(body.workers).toMatchObject([
    {
      id: second.scheduler.workerId,
      pid: process.pid,
      state: 'running',
      processAlive: true,
      messengers: ['post'],
    },
    { id: first.scheduler.workerId, host: 'elsewhere', state: 'offline', processAlive: null },
  ]);
  expect(await get('/workers?limit=0')).toMatchObject({
    status: 400,
    body: { error: { code: 'invalid_options' } },
  });
  expect((await get('/workers?limit=1')).body.workers).toHaveLength(1);
});
