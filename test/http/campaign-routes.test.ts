/** The routes of campaigns and schedules, over real connections, with a scheduler on a real MongoDB behind them. */
import express from 'express';
import { describe, expect, it } from 'vitest';
import { CampaignSchedulerError } from '../../src/errors.ts';
import {
  type CampaignRouterOptions,
  createCampaignRouter,
  type RoutedScheduler,
} from '../../src/http/router.ts';
import { inHours, people, type Rig, startRig, tidyUpAfterEach } from '../engine/fixtures.ts';
import { testDatabase } from '../support/mongo.ts';
import { served } from './served.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const NOBODY = '0'.repeat(24);
type Body = Record<string, unknown> & {
  readonly error?: { readonly problems?: { readonly path: string }[] };
};

async function serve(scheduler: RoutedScheduler, options: Partial<CampaignRouterOptions> = {}) {
  const actions: string[] = [];
  const app = express();
  const authorize: CampaignRouterOptions['authorize'] = (request, action) => {
    actions.push(action);
    return options.authorize === undefined || options.authorize(request, action);
  };
  app.use('/api', createCampaignRouter(scheduler, { ...options, authorize }));
  const origin = await served(app);
  const ask = async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => {
    const init: RequestInit = {
      method,
      headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    };
    const response = await fetch(`${origin}/api${path}`, init);
    return { status: response.status, headers: response.headers, body: (await response.json()) as Body };
  };
  return {
    actions,
    get: (path: string) => ask('GET', path),
    post: (path: string, body?: unknown, headers?: Record<string, string>) =>
      ask('POST', path, body, headers),
  };
}

const api = (): Promise<Rig> => startRig(uri, { worker: false });

describe('a request that cannot be read', () => {
  it.each([
    ['/campaigns/%E0%A4%A', 400, 'invalid_path'],
    ['/campaigns?limt=5', 400, 'invalid_options'],
    [`/campaigns/${NOBODY}/occurrences?limits=5`, 400, 'invalid_options'],
  ])('%s is refused', async (path, status, code) => {
    const rig = await api();
    const { get } = await serve(rig.scheduler);
    expect(await get(path)).toMatchObject({ status, body: { error: { code } } });
  });
});

describe('GET /campaigns', () => {
  it('pages by key, and filters', async () => {
    const rig = await api();
    const ids: string[] = [];
    for (let n = 0; n < 5; n += 1) {
      ids.push((await rig.create({ name: `c${n % 2}`, sendAt: inHours(1), metadata: { secret: 'm' } })).id);
    }
    await rig.scheduler.campaigns.pause(ids[1] ?? '');
    const { get, actions } = await serve(rig.scheduler);
    const first = await get('/campaigns?limit=3');
    expect(first.status).toBe(200);
    expect(first.headers.get('cache-control')).toBe('no-store');
    const idsOf = (body: Body) => (body.campaigns as { id: string }[]).map(({ id }) => id);
    expect(idsOf(first.body)).toEqual(ids.slice(0, 3));
    expect(first.body.next).toBe(ids[2]);
    const rest = await get(`/campaigns?limit=2&after=${first.body.next}`);
    expect(idsOf(rest.body)).toEqual(ids.slice(3));
    expect(rest.body).not.toHaveProperty('next');
    expect(idsOf((await get('/campaigns?status=paused')).body)).toEqual([ids[1]]);
    expect(idsOf((await get('/campaigns?name=c1')).body)).toEqual([ids[1], ids[3]]);
    expect(JSON.stringify(first.body)).not.toMatch(/hello|example\.org|secret/);
    expect(new Set(actions)).toEqual(new Set(['read']));
  });

  it.each([
    ['limit=0', 'limit', 'Expected `limit` to be an integer from 1 to 1000, got `0` (number)'],
    ['limit=1001', 'limit', 'got `1001` (number)'],
    ['limit=many', 'limit', 'got `many` (string)'],
    ['limit=1&limit=2', 'limit', 'Expected `limit`'],
    ['status=lost', 'status', 'got `lost` (string)'],
    ['status=paused&status=draft', 'status', 'Expected `status`'],
    ['after=x', 'after', 'Expected `after` to be the id of a campaign'],
    ['name[$ne]=x&name=y', 'name[$ne]', 'Unknown key'],
  ])('refuses %s with the field', async (query, path, message) => {
    const { get } = await serve((await api()).scheduler);
    const { status, body } = await get(`/campaigns?${query}`);
    expect(status).toBe(400);
    expect(body).toMatchObject({ success: false, error: { code: 'invalid_options', problems: [{ path }] } });
    expect(JSON.stringify(body)).toContain(message);
  });
});

describe('one campaign', () => {
  it('its overview, why, and occurrences', async () => {
    const rig = await startRig(uri);
    const { id } = await rig.create({ audience: people(25) });
    await rig.until(id, 'completed');
    const { get } = await serve(rig.scheduler);
    const overview = await get(`/campaigns/${id}`);
    expect(overview.body).toMatchObject({
      success: true,
      campaign: {
        id,
        status: 'completed',
        reason: { code: 'completed', moving: false },
        run: { occurrence: 'once', status: 'finished' },
        progress: { total: 25, sent: 25, pending: 0 },
        rate: null,
        estimatedEnd: null,
      },
    });
    expect(JSON.stringify(overview.body)).not.toMatch(/hello|example\.org/);
    expect((await get(`/campaigns/${id.toUpperCase()}/why`)).body).toMatchObject({
      success: true,
      why: { code: 'completed', campaign: { id } },
    });
    expect((await get(`/campaigns/${id}/occurrences`)).body).toMatchObject({
      success: true,
      past: [{ occurrence: 'once', fate: 'completed', report: { sent: 25 } }],
      next: [],
    });
  });

  it('while it sends: rate and estimated end', async () => {
    const rig = await startRig(uri);
    const gate = rig.provider.hold();
    const { id } = await rig.create({ audience: people(100), concurrency: 1 });
    await rig.provider.calls.next();
    await db
      .collection('campaign_runs')
      .updateOne({}, { $set: { openedAt: new Date(Date.now() - 100_000) } });
    await db.collection('campaign_runs').updateOne({}, { $unset: { progress: '' } });
    const { get } = await serve(rig.scheduler);
    const { body } = await get(`/campaigns/${id}`);
    expect(body.campaign).toMatchObject({
      progress: { total: 100, sent: 0 },
      rate: { perSecond: 0 },
      estimatedEnd: null, // nothing was sent yet, and it has no limit to go by
    });
    gate.open();
    await rig.until(id, 'completed');
  });

  it('the occurrences of a recurring one: next by the rule, skipped with the reason', async () => {
    const rig = await api();
    const start = new Date('2030-01-01T09:00:00Z');
    const { id } = await rig.create({ recurrence: { every: { days: 1 }, start } });
    const { ObjectId } = await import('mongodb');
    const skipped = { reason: 'missed', first: inHours(-3), last: inHours(-2), count: 2, atLeast: false };
    await db.collection('journal').insertOne({
      at: new Date(),
      campaignId: new ObjectId(id),
      kind: 'occurrence-skipped',
      detail: skipped,
      workerId: 'w',
      schemaVersion: 1,
    });
    const { get } = await serve(rig.scheduler);
    const { body } = await get(`/campaigns/${id}/occurrences?limit=2`);
    expect(body).toMatchObject({
      past: [{ fate: 'skipped', reason: 'missed', count: 2 }],
      next: [
        { occurrence: '2030-01-01T09:00:00.000Z', at: '2030-01-01T09:00:00.000Z', fate: 'scheduled' },
        { occurrence: '2030-01-02T09:00:00.000Z', fate: 'scheduled' },
      ],
    });
    await rig.scheduler.campaigns.pause(id);
    expect((await get(`/campaigns/${id}/occurrences?limit=1`)).body).toMatchObject({
      next: [{ fate: 'paused' }],
    });
    expect((await get(`/campaigns/${id}/occurrences?limit=101`)).body).toMatchObject({
      error: {
        problems: [{ message: 'Expected `limit` to be an integer from 1 to 100, got `101` (number)' }],
      },
    });
  });

  it.each(['', '/why', '/occurrences'])('GET /campaigns/:id%s: 404 and 400', async (path) => {
    const { get } = await serve((await api()).scheduler);
    expect(await get(`/campaigns/${NOBODY}${path}`)).toMatchObject({
      status: 404,
      body: { success: false, error: { code: 'not_found' } },
    });
    expect(await get(`/campaigns/7${path}`)).toMatchObject({
      status: 400,
      body: { error: { code: 'invalid_options', problems: [{ path: 'id' }] } },
    });
  });
});

describe('orders', () => {
  it('pause, resume and cancel, with who and why', async () => {
    const rig = await api();
    const { id } = await rig.create({ sendAt: inHours(1) });
    const { get, post, actions } = await serve(rig.scheduler, { identify: () => 'ann' });
    expect((await post(`/campaigns/${id}/pause`, { reason: 'wrong subject' })).body).toMatchObject({
      success: true,
      campaign: { id, status: 'paused', statusReason: { by: 'ann', detail: 'wrong subject' } },
    });
    expect((await get(`/campaigns/${id}/why`)).body).toMatchObject({
      why: { code: 'paused', by: 'ann', detail: 'wrong subject' },
    });
    const again = await post(`/campaigns/${id}/pause`);
    expect(again).toMatchObject({ status: 409, body: { error: { code: 'refused' } } });
    expect((await post(`/campaigns/${id}/resume`, { reason: 'fixed' })).body).toMatchObject({
      campaign: { status: 'scheduled' },
    });
    const journal = await rig.scheduler.campaigns.journal(id);
    expect(journal.find(({ kind }) => kind === 'resume')?.detail).toMatchObject({
      by: 'ann',
      reason: 'fixed',
    });
    expect((await post(`/campaigns/${id}/cancel`)).body).toMatchObject({ campaign: { status: 'cancelled' } });
    expect(actions).toEqual(['pause', 'read', 'pause', 'resume', 'cancel']);
  });

  it('run-now starts it', async () => {
    const rig = await api();
    const { id } = await rig.create({ sendAt: inHours(1) });
    const { post, actions } = await serve(rig.scheduler);
    const { body } = await post(`/campaigns/${id}/run-now`, { reason: 'test' });
    expect(body).toMatchObject({ success: true, campaign: { id, status: 'scheduled' } });
    const { nextRunAt = null } = (await rig.scheduler.campaigns.find(id)) ?? {};
    expect(nextRunAt?.getTime()).toBeLessThan(inHours(0.5).getTime());
    expect(actions).toEqual(['run-now']);
  });

  it.each(['pause', 'resume', 'cancel', 'run-now'])('%s: what is refused changes nothing', async (action) => {
    const rig = await api();
    const { id } = await rig.create({ sendAt: inHours(1) });
    const path = `/campaigns/${id}/${action}`;
    const open = await serve(rig.scheduler);
    const evil = { origin: 'https://evil.example' };
    expect(await open.post(path, undefined, evil)).toMatchObject({
      status: 403,
      body: { error: { code: 'cross_site' } },
    });
    expect(open.actions).toEqual([]);
    const form = { 'content-type': 'application/x-www-form-urlencoded' };
    expect((await open.post(path, {}, form)).status).toBe(415);
    for (const [body, field] of [
      [{ reason: 7 }, 'reason'],
      [{ reason: 'x'.repeat(501) }, 'reason'],
      [{ why: 'x' }, 'why'],
      [[], '(body)'],
    ] as const) {
      expect(await open.post(path, body)).toMatchObject({
        status: 400,
        body: { error: { problems: [{ path: field }] } },
      });
    }
    expect((await open.post(`/campaigns/7/${action}`)).status).toBe(400);
    expect((await rig.scheduler.campaigns.find(id))?.status).toBe('scheduled');
  });

  it('orders about nobody are 404', async () => {
    const { post } = await serve((await api()).scheduler);
    for (const action of ['pause', 'resume', 'cancel']) {
      expect((await post(`/campaigns/${NOBODY}/${action}`)).status).toBe(404);
    }
  });
});

it('authorize decides about every route', async () => {
  const rig = await api();
  const { id } = await rig.create({ sendAt: inHours(1) });
  const { get, post, actions } = await serve(rig.scheduler, { authorize: () => false });
  const answers = [
    await get('/campaigns'),
    await get(`/campaigns/${id}`),
    await get(`/campaigns/${id}/why`),
    await get(`/campaigns/${id}/occurrences`),
    await post(`/campaigns/${id}/pause`),
    await post(`/campaigns/${id}/resume`),
    await post(`/campaigns/${id}/cancel`),
    await post(`/campaigns/${id}/run-now`),
    await post('/schedules/preview', {}),
  ];
  expect(answers.map(({ status }) => status)).toEqual(Array(9).fill(403));
  expect(actions).toEqual([...Array(4).fill('read'), ...['pause', 'resume', 'cancel', 'run-now', 'preview']]);
});

describe('POST /schedules/preview', () => {
  it('says the rule in words and lists the next instants, right across a change of the clock', async () => {
    const { post } = await serve((await api()).scheduler);
    const recurrence = {
      daily: { at: '02:30' },
      timezone: 'Europe/Berlin',
      start: '2030-03-01T00:00:00+01:00',
    };
    const { status, body } = await post('/schedules/preview', {
      recurrence,
      count: 3,
      from: '2030-03-29T12:00:00Z',
    });
    expect(status).toBe(200);
    expect(body.description).toContain('every day at 02:30, Europe/Berlin');
    expect(body.occurrences).toEqual([
      '2030-03-30T01:30:00.000Z',
      '2030-03-31T01:30:00.000Z', // 02:30 is skipped: 03:30 in summer time
      '2030-04-01T00:30:00.000Z',
    ]);
  });

  it.each<[unknown, string[]]>([
    [{}, ['recurrence']],
    [{ recurrence: { cron: '* * * *' } }, ['recurrence.cron']],
    [{ recurrence: { cron: '0 0 30 2 *' } }, ['recurrence.cron']],
    [
      { recurrence: { every: { hours: 0 }, timezone: 'Mars' } },
      ['recurrence.every.hours', 'recurrence.timezone'],
    ],
    [{ recurrence: { every: { hours: 1 } }, count: 101, from: 'soon' }, ['count', 'from']],
    [{ recurrence: { every: { hours: 1 } }, cuont: 1 }, ['cuont']],
  ])('%j is refused with the fields', async (input, paths) => {
    const { post } = await serve((await api()).scheduler);
    const { status, body } = await post('/schedules/preview', input);
    expect(status).toBe(400);
    expect(body.error?.problems?.map(({ path }) => path)).toEqual(paths);
  });

  it('is refused to pages of other sites', async () => {
    const { post, actions } = await serve((await api()).scheduler);
    expect((await post('/schedules/preview', {}, { 'sec-fetch-site': 'cross-site' })).status).toBe(403);
    expect(actions).toEqual([]);
  });
});

it('a scheduler that was stopped is 503', async () => {
  const scheduler = {
    why: () => Promise.reject(new CampaignSchedulerError('stopped', 'This scheduler has been stopped.')),
  } as unknown as RoutedScheduler;
  const { get } = await serve(scheduler);
  expect((await get(`/campaigns/${NOBODY}/why`)).status).toBe(503);
});
