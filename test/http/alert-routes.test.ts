/** Alerts over HTTP: a real scheduler behind the router, asked over real connections. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createCampaignRouter } from '../../src/http/router.ts';
import type { AlertDoc } from '../../src/store/documents.ts';
import { startRig, tidyUpAfterEach } from '../engine/fixtures.ts';
import { testDatabase } from '../support/mongo.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);
const alerts = db.collection<AlertDoc>('alerts');
const asked: string[] = [];
const app = express();
const server = app.listen(0, '127.0.0.1');
let origin = '';
beforeAll(async () => {
  if (!server.listening) await once(server, 'listening');
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

async function ask(path: string, init: RequestInit = {}) {
  const response = await fetch(origin + path, init);
  return { status: response.status, headers: response.headers, body: (await response.json()) as never };
}

const stored = (n: number): AlertDoc => ({
  _id: `worker:offline:${n}`,
  kind: 'worker_offline',
  level: n === 0 ? 'critical' : 'warning',
  message: `worker ${n}`,
  state: n === 1 ? 'cleared' : 'raised',
  raisedAt: new Date(1_900_000_000_000 + n),
  lastSeenAt: new Date(),
  clearedAt: n === 1 ? new Date() : null,
  count: 1,
  rev: 1,
  token: 't',
  schemaVersion: 1,
});

test('listing page by page, filtering, and acknowledging', async () => {
  const { scheduler } = await startRig(uri, { worker: false });
  const authorize = (request: express.Request, action: string): boolean => {
    asked.push(action);
    return request.get('x-user') !== 'nobody';
  };
  app.use(createCampaignRouter(scheduler, { authorize, identify: (request) => request.get('x-user') }));
  await alerts.insertMany([0, 1, 2].map(stored));

  const first = await ask('/alerts?limit=2');
  expect(first).toMatchObject({
    status: 200,
    body: { success: true, alerts: [{ message: 'worker 2' }, { message: 'worker 1' }] },
  });
  expect(first.headers.get('cache-control')).toBe('no-store');
  const { next } = first.body as { next: string };
  const rest = await ask(`/alerts?limit=2&after=${encodeURIComponent(next)}`);
  expect(rest.body).toEqual({
    success: true,
    alerts: [
      {
        key: 'worker:offline:0',
        kind: 'worker_offline',
        level: 'critical',
        message: 'worker 0',
        state: 'raised',
        raisedAt: '2030-03-17T17:46:40.000Z',
        lastSeenAt: expect.any(String),
        clearedAt: null,
        count: 1,
      },
    ],
  });
  expect(await ask('/alerts?state=cleared')).toMatchObject({ body: { alerts: [{ message: 'worker 1' }] } });
  expect(await ask('/alerts?level=critical')).toMatchObject({ body: { alerts: [{ message: 'worker 0' }] } });

  const acknowledge = (key: string, user: string) =>
    ask(`/alerts/${encodeURIComponent(key)}/acknowledge`, { method: 'POST', headers: { 'x-user': user } });
  expect(await acknowledge('worker:offline:0', 'ann')).toMatchObject({
    status: 200,
    body: { success: true, alert: { key: 'worker:offline:0', acknowledged: { by: 'ann' } } },
  });
  expect(await acknowledge('worker:offline:1', 'ann')).toMatchObject({
    status: 409,
    body: { error: { code: 'refused' } },
  });
  expect(await acknowledge('other', 'ann')).toMatchObject({
    status: 404,
    body: { error: { code: 'not_found' } },
  });
  expect(await acknowledge('worker:offline:2', 'nobody')).toMatchObject({ status: 403 });
  expect(new Set(asked)).toEqual(new Set(['read-alerts', 'acknowledge-alert']));

  const refused = await ask('/alerts?state=open&limit=0&level=high&campaignId=7&after=x');
  expect(refused.status).toBe(400);
  const { error } = refused.body as { error: { problems: { path: string }[] } };
  expect(error.problems.map(({ path }) => path).sort()).toEqual([
    'after',
    'campaignId',
    'level',
    'limit',
    'state',
  ]);
  expect(await ask('/alerts?states=raised')).toMatchObject({ status: 400 });
  const cross = { method: 'POST', headers: { origin: 'https://evil.example' } };
  expect(await ask('/alerts/a/acknowledge', cross)).toMatchObject({ status: 403 });
});
