/** The routes of the breakers, and what routes of campaigns say of one that its breaker holds. */
import express from 'express';
import { expect, it } from 'vitest';
import { createCampaignRouter } from '../../src/http/router.ts';
import { campaignsOf, inHours, startRig, tidyUpAfterEach } from '../engine/fixtures.ts';
import { testDatabase } from '../support/mongo.ts';
import { served } from './served.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

async function start(allowed: (action: string) => boolean = () => true) {
  const rig = await startRig(uri, { worker: false });
  const actions: string[] = [];
  const app = express();
  const authorize = (_request: unknown, action: string): boolean => {
    actions.push(action);
    return allowed(action);
  };
  app.use('/api', createCampaignRouter(rig.scheduler, { authorize, identify: () => 'anna' }));
  const origin = await served(app);
  const ask = async (method: string, path: string, body?: unknown) => {
    const headers = { 'content-type': 'application/json' };
    const json = body === undefined ? {} : { headers, body: JSON.stringify(body) };
    const response = await fetch(`${origin}/api${path}`, { method, ...json });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  };
  return { rig, actions, ask };
}

const CLOSED = {
  circuit_state: 'closed',
  pause_info: null,
  failures: 0,
  opened_at: null,
  next_probe_at: null,
  campaigns_paused: 0,
};

it('how messengers stand; opening, closing and resetting by hand', async () => {
  const { actions, ask } = await start();
  expect(await ask('GET', '/queue-management/status')).toEqual({
    status: 200,
    body: { success: true, data: { post: CLOSED } },
  });
  const open = {
    ...CLOSED,
    circuit_state: 'open',
    pause_info: { reason: 'they move house', opened_by: 'anna', until_closed_by_hand: true },
    opened_at: expect.stringMatching(/Z$/),
  };
  expect(await ask('POST', '/queue-management/post/open', { reason: 'they move house' })).toEqual({
    status: 200,
    body: { success: true, data: open },
  });
  expect((await ask('GET', '/queue-management/status')).body).toEqual({
    success: true,
    data: { post: open },
  });
  for (const order of ['close', 'reset']) {
    const { body } = await ask('POST', `/queue-management/post/${order}`);
    expect(body).toEqual({ success: true, data: CLOSED });
  }
  expect(actions).toEqual(['read', 'open-breaker', 'read', 'close-breaker', 'reset-breaker']);
});

it.each([
  ['/queue-management/pst/open', undefined, 400, 'unknown_messenger'],
  ['/queue-management/post/open', { why: 'x' }, 400, 'invalid_options'],
  ['/queue-management/post/close', { reason: 7 }, 400, 'invalid_options'],
])('%s with %j is refused', async (path, body, status, code) => {
  const { ask } = await start();
  expect(await ask('POST', path, body)).toMatchObject({ status, body: { success: false, error: { code } } });
});

it('whoever may only read changes nothing', async () => {
  const { rig, ask } = await start((action) => action === 'read');
  for (const order of ['open', 'close', 'reset']) {
    expect(await ask('POST', `/queue-management/post/${order}`)).toMatchObject({ status: 403 });
  }
  expect((await rig.scheduler.breakers.status()).post?.state).toBe('closed');
});

it('a campaign that its breaker holds says so, and one that a person paused says that', async () => {
  const { rig, ask } = await start();
  const { id } = await rig.create({ sendAt: inHours(1) });
  await ask('POST', `/campaigns/${id}/pause`, { reason: 'wrong subject' });
  const shown = async () => ((await ask('GET', '/campaigns')).body.campaigns as object[])[0];
  expect(await shown()).toMatchObject({
    status_message: 'Paused by anna: wrong subject',
    status_error: null,
  });
  const statusReason = {
    code: 'breaker_open',
    messenger: 'post',
    detail: 'refused',
    by: 'breaker',
    at: new Date(),
  };
  await campaignsOf(db).updateOne({}, { $set: { statusReason } });
  const held = {
    status_message: expect.stringMatching(/^Paused because the messenger `post` does not work/),
    status_error: 'refused',
  };
  expect(await shown()).toMatchObject(held);
  expect((await ask('GET', `/campaigns/${id}`)).body.campaign).toMatchObject(held);
  expect(await ask('POST', `/campaigns/${id}/resume`)).toMatchObject({ status: 409 });
  await campaignsOf(db).updateOne({}, { $set: { 'statusReason.openedBy': 'bert' } });
  expect(await shown()).toMatchObject({
    status_message:
      'Paused because bert opened the breaker of the messenger `post`; it goes on when somebody closes it',
  });
  await rig.scheduler.campaigns.cancel(id);
  expect(await shown()).not.toHaveProperty('status_message');
});
