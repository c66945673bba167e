/** The router in a real Express application, asked over real connections. */
import { request as httpRequest } from 'node:http';
import express, { type Express } from 'express';
import { describe, expect, test } from 'vitest';
import { CampaignSchedulerError } from '../../src/errors.ts';
import {
  type CampaignRouterOptions,
  createCampaignRouter,
  type RoutedScheduler,
} from '../../src/http/router.ts';
import type { Logger } from '../../src/logger.ts';
import type { RecoveryReport } from '../../src/services/recovery-pass.ts';
import { served } from './served.ts';

const REPORT: RecoveryReport = {
  recoveredCount: 1,
  skippedCount: 2,
  recovered: [{ id: 'a', name: 'A', status: 'resume' }],
  skipped: [
    { id: 'b', name: 'B', reason: 'alarm_healthy' },
    { id: 'c', name: 'C', reason: 'paused' },
  ],
};

interface Setup {
  recover?: () => Promise<RecoveryReport>;
  authorize?: CampaignRouterOptions['authorize'];
  prepare?: (app: Express) => void;
}

async function start({ recover = async () => REPORT, authorize = () => true, prepare }: Setup = {}) {
  const calls = { recover: 0, authorize: [] as string[], errors: [] as object[] };
  const none = () => {};
  const logger: Logger = {
    debug: none,
    info: none,
    warn: none,
    error: (fields) => calls.errors.push(fields),
  };
  const scheduler = {
    recover: () => {
      calls.recover += 1;
      return recover();
    },
  };
  const app = express();
  prepare?.(app);
  app.use(
    '/api',
    createCampaignRouter(scheduler as RoutedScheduler, {
      logger,
      authorize: (request, action) => {
        calls.authorize.push(action);
        return authorize(request, action);
      },
    }),
  );
  app.use((request, response) => {
    response.status(404).json({ host: `${request.method} ${request.originalUrl}` });
  });
  const origin = await served(app);
  const port = Number(new URL(origin).port);
  const post = async (init: RequestInit = {}, path = '/api/campaigns/recover') => {
    const response = await fetch(`${origin}${path}`, { method: 'POST', ...init });
    return { status: response.status, body: (await response.json()) as unknown };
  };
  return { calls, origin, port, post };
}

/** With headers that fetch does not let a program set. */
function postRaw(port: number, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({
      port,
      host: '127.0.0.1',
      method: 'POST',
      path: '/api/campaigns/recover',
      headers,
    });
    request.on('response', (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    request.on('error', reject);
    request.end();
  });
}

describe('POST /campaigns/recover', () => {
  test('answers with what recovery did', async () => {
    const { post, calls } = await start();
    expect(await post()).toEqual({
      status: 200,
      body: {
        success: true,
        recovered: 1,
        skipped: 2,
        details: { recovered: REPORT.recovered, skipped: REPORT.skipped },
      },
    });
    expect(calls).toMatchObject({ recover: 1, authorize: ['recover'], errors: [] });
  });

  test('lists at most 1,000 of each and counts all', async () => {
    const recovered = Array.from({ length: 1_500 }, (_, index) => ({
      id: `${index}`,
      name: 'x',
      status: 'resume' as const,
    }));
    const { post } = await start({ recover: async () => ({ ...REPORT, recoveredCount: 25_000, recovered }) });
    const { body } = await post();
    expect(body).toMatchObject({ recovered: 25_000 });
    expect((body as { details: { recovered: unknown[] } }).details.recovered).toHaveLength(1_000);
  });

  test('tells no more of an entry than it promises', async () => {
    const entry = { id: 'a', name: 'A', status: 'resume' as const, content: 'private' };
    const { post } = await start({ recover: async () => ({ ...REPORT, recovered: [entry] }) });
    expect(JSON.stringify((await post()).body)).not.toContain('private');
  });

  test('takes an empty body and a JSON body', async () => {
    const { post } = await start();
    const headers = { 'content-type': 'application/json; charset=utf-8' };
    expect((await post({ headers, body: '{}' })).status).toBe(200);
    expect((await post({ body: '' })).status).toBe(200);
  });

  test('works where the host has read the body already', async () => {
    const { post } = await start({ prepare: (app) => app.use(express.json()) });
    expect((await post({ headers: { 'content-type': 'application/json' }, body: '{"a":1}' })).status).toBe(
      200,
    );
  });
});

describe('authorize', () => {
  test.each([undefined, {}, { authorize: true }])('is required: %j', (options) => {
    const scheduler = { recover: async () => REPORT } as RoutedScheduler;
    const create = () => createCampaignRouter(scheduler, options as CampaignRouterOptions);
    expect(create).toThrowError(expect.objectContaining({ code: 'invalid_options' }));
    expect(create).toThrowError(/authorize/);
  });

  test.each<[string, () => unknown]>([
    ['false', () => false],
    ['a promise of false', async () => false],
    ['nothing', () => undefined],
    ['something else than true', () => 'yes'],
  ])('%s is refused', async (_name, answer) => {
    const { post, calls } = await start({ authorize: answer as () => boolean });
    expect(await post()).toEqual({
      status: 403,
      body: {
        success: false,
        error: { code: 'forbidden', message: 'This request is not allowed to do this' },
      },
    });
    expect(calls.recover).toBe(0);
  });

  test.each<[string, () => boolean | Promise<boolean>]>([
    [
      'throws',
      () => {
        throw new Error('no session store: redis://root:hunter2@r');
      },
    ],
    [
      'rejects',
      async () => {
        throw new Error('no session store: redis://root:hunter2@r');
      },
    ],
  ])('one that %s is an error of the server, told to the log only', async (_name, authorize) => {
    const { post, calls } = await start({ authorize });
    const { status, body } = await post();
    expect(status).toBe(500);
    expect(body).toEqual({
      success: false,
      error: { code: 'internal_error', message: 'Something went wrong; the log of the server says what' },
    });
    expect(calls.recover).toBe(0);
    expect(calls.errors).toHaveLength(1);
  });

  test('a promise of true lets it through', async () => {
    const { post } = await start({ authorize: async () => true });
    expect((await post()).status).toBe(200);
  });

  test('it is asked before the body is read', async () => {
    const { post } = await start({ authorize: () => false });
    expect((await post({ headers: { 'content-type': 'application/json' }, body: '{' })).status).toBe(403);
  });
});

describe('requests that another site made a browser send', () => {
  test.each([
    [{ 'sec-fetch-site': 'cross-site' }, 403],
    [{ 'sec-fetch-site': 'same-site' }, 403],
    [{ 'sec-fetch-site': 'same-origin' }, 200],
    [{ 'sec-fetch-site': 'none' }, 200],
    [{ 'sec-fetch-site': 'cross-site', origin: 'http://127.0.0.1' }, 403],
    [{ origin: 'https://evil.example' }, 403],
    [{ origin: 'null' }, 403],
    [{ origin: 'http://127.0.0.1:1' }, 403],
    [{ host: 'app.example', origin: 'https://app.example' }, 200],
    [{ host: 'APP.example:443', origin: 'https://app.example' }, 200],
    [{ host: 'app.example', origin: 'https://app.example.evil' }, 403],
    [{ host: 'app.example', 'x-forwarded-host': 'evil.example', origin: 'https://evil.example' }, 403],
    [{}, 200],
  ])('%j: %i', async (headers, status) => {
    const { port, calls } = await start();
    expect(await postRaw(port, headers)).toBe(status);
    expect(calls.recover).toBe(status === 200 ? 1 : 0);
    if (status === 403) expect(calls.authorize).toEqual([]);
  });

  test('the host a trusted proxy names counts', async () => {
    const { port } = await start({ prepare: (app) => app.set('trust proxy', true) });
    const headers = { host: 'inside:8080', 'x-forwarded-host': 'app.example', origin: 'https://app.example' };
    expect(await postRaw(port, headers)).toBe(200);
  });
});

describe('bodies that are refused', () => {
  test.each<[string, RequestInit, number, string]>([
    ['a form', { body: new URLSearchParams({ a: '1' }) }, 415, 'unsupported_media_type'],
    ['plain text', { body: '{}' }, 415, 'unsupported_media_type'],
    ['no type', { body: new Blob(['{}']) }, 415, 'unsupported_media_type'],
    ['broken JSON', { headers: { 'content-type': 'application/json' }, body: '{' }, 400, 'invalid_json'],
    ['not an object', { headers: { 'content-type': 'application/json' }, body: '7' }, 400, 'invalid_options'],
    ['nothing', { headers: { 'content-type': 'application/json' }, body: 'null' }, 400, 'invalid_options'],
    [
      'too large',
      { headers: { 'content-type': 'application/json' }, body: JSON.stringify('x'.repeat(102_400)) },
      413,
      'too_large',
    ],
    [
      'a strange charset',
      { headers: { 'content-type': 'application/json; charset=x' }, body: '{}' },
      415,
      'charset_unsupported',
    ],
  ])('%s', async (_name, init, status, code) => {
    const { post, calls } = await start();
    expect(await post(init)).toMatchObject({ status, body: { success: false, error: { code } } });
    expect(calls).toMatchObject({ recover: 0, errors: [] });
  });
});

describe('errors of the scheduler', () => {
  test.each<[Error, number, string]>([
    [new CampaignSchedulerError('stopped', 'The scheduler has been stopped'), 503, 'stopped'],
    [new CampaignSchedulerError('refused', 'No'), 409, 'refused'],
    [new CampaignSchedulerError('mongo_unreachable', 'No answer'), 503, 'mongo_unreachable'],
    [new CampaignSchedulerError('lock_lost', 'Lost'), 500, 'lock_lost'],
    [new Error('mongodb://root:hunter2@db'), 500, 'internal_error'],
    [Object.assign(new Error('hunter2'), { status: 404, statusCode: 404 }), 500, 'internal_error'],
  ])('%s', async (error, status, code) => {
    const { post, calls } = await start({
      recover: async () => {
        throw error;
      },
    });
    const answer = await post();
    expect(answer).toMatchObject({ status, body: { success: false, error: { code } } });
    expect(JSON.stringify(answer.body)).not.toMatch(/hunter2|stack|\.ts/);
    expect(calls.errors).toHaveLength(status === 500 ? 1 : 0);
  });
});

describe('what is not the router’s', () => {
  test.each([
    ['GET', '/api/campaigns/recover/more'],
    ['GET', '/api/schedules/preview'],
    ['DELETE', '/api/campaigns/0123456789abcdef01234567'],
    ['POST', '/api/campaigns/other'],
    ['DELETE', '/api'],
    ['POST', '/other'],
  ])('%s %s falls through to the host, unguarded', async (method, path) => {
    const { post, calls } = await start({ authorize: () => false });
    const headers = { origin: 'https://evil.example' };
    expect(await post({ method, headers }, path)).toEqual({
      status: 404,
      body: { host: `${method} ${path}` },
    });
    expect(calls.authorize).toEqual([]);
  });
});
