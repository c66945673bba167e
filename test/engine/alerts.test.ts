/** Alerts against a real MongoDB: told once by many, through sinks that hang or throw, in thousands, and without a database. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createAlerts } from '../../src/alerts.ts';
import { DEFAULTS } from '../../src/config.ts';
import { EventBus } from '../../src/events.ts';
import type { Message } from '../../src/messengers/messenger.ts';
import { smtpMessenger } from '../../src/messengers/smtp.ts';
import { type AlertSink, messengerSink, webhookSink } from '../../src/services/alert-sinks.ts';
import {
  type Alerter,
  type AlerterOptions,
  type AlertNews,
  createAlerter,
} from '../../src/services/alerter.ts';
import type { Alert } from '../../src/store/alerts.ts';
import type { AlertDoc } from '../../src/store/documents.ts';
import { openStore, type Store } from '../../src/store/store.ts';
import { testDatabase } from '../support/mongo.ts';
import { startProxy } from '../support/proxy.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';
import { PATIENCE } from './provider.ts';
import { type TestClock, testClock } from './test-clock.ts';

const { uri, db, name } = await testDatabase();
const stored = db.collection<AlertDoc>('alerts');
const ending: (() => Promise<unknown>)[] = [];
let store: Store;
beforeAll(async () => {
  store = await openStore({ mongo: uri, collectionPrefix: '', journalDays: 90 });
});
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end();
  await stored.deleteMany({});
});
afterAll(() => store.close());

interface Worker {
  readonly alerter: Alerter;
  readonly clock: TestClock;
  /** `raised key`, `cleared key` */
  readonly events: string[];
  readonly log: { level: string; message: string }[];
}

function startWorker(sinks: AlertSink[] = [], more: Partial<AlerterOptions> = {}): Worker {
  const clock = testClock();
  const log: Worker['log'] = [];
  const at = (level: string) => (_fields: object, message: string) => void log.push({ level, message });
  const logger = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
  const bus = new EventBus(logger);
  const events: string[] = [];
  bus.on('alert:raised', ({ alert }) => events.push(`raised ${alert.key}`));
  bus.on('alert:cleared', ({ alert }) => events.push(`cleared ${alert.key}`));
  const alerter = createAlerter({
    store,
    events: bus,
    logger,
    clock,
    serverNow: () => clock.now(),
    messengers: {},
    ...DEFAULTS.alerts,
    sinks,
    ...more,
  });
  ending.push(() => alerter.stop());
  return { alerter, clock, events, log };
}

const news = (key: string, more: Partial<AlertNews> = {}): AlertNews => ({
  key,
  kind: 'trial',
  level: 'warning',
  message: `trouble with ${key}`,
  ...more,
});
const settle = async (alerter: Alerter, kinds: string[], given: AlertNews[]): Promise<void> =>
  alerter.settle(kinds, given, await alerter.raised(kinds));
const read = async (key: string): Promise<AlertDoc> => (await stored.findOne({ _id: key })) as AlertDoc;
const keysOf = (alerts: readonly Alert[]): string[] => alerts.map(({ state, key }) => `${state} ${key}`);

describe('raising and clearing', () => {
  test('each is stored, logged by its level and told once', async () => {
    const told: Alert[] = [];
    const { alerter, events, log } = startWorker([(alert) => void told.push(alert)]);
    const campaignId = '0123456789abcdef01234567';
    await alerter.raise(news('a', { level: 'critical', campaignId, detail: { $pages: 1, text: '$kind' } }));
    await alerter.raise(news('a', { level: 'critical' }));
    await alerter.raise(news('b', { level: 'info' }));
    await alerter.clear('a');
    await alerter.clear('a');
    await alerter.clear('never');
    expect(events).toEqual(['raised a', 'raised b', 'cleared a']);
    expect(log.map(({ level }) => level)).toEqual(['error', 'info', 'info']);
    await expect.poll(() => keysOf(told), PATIENCE).toEqual(events);
    expect(await read('a')).toMatchObject({
      state: 'cleared',
      kind: 'trial',
      level: 'critical',
      message: 'trouble with a',
      campaignId,
      detail: { $pages: 1, text: '$kind' },
      count: 1,
      schemaVersion: 1,
    });
    expect((await read('b')).clearedAt).toBeNull();
  });

  test('of many workers that see the same at once, one tells it', async () => {
    const workers = Array.from({ length: 6 }, () => startWorker());
    for (const what of ['raise', 'clear'] as const) {
      const all = ['a', 'b', 'c'].flatMap((key) =>
        workers.map(({ alerter }) => (what === 'raise' ? alerter.raise(news(key)) : alerter.clear(key))),
      );
      await Promise.all(all);
    }
    const events = workers.flatMap((worker) => worker.events).sort();
    expect(events).toEqual(['cleared a', 'cleared b', 'cleared c', 'raised a', 'raised b', 'raised c']);
    expect(await read('a')).toMatchObject({ count: 1, state: 'cleared' });
  });

  test('what comes back within the cool-down is stored, and told if it stays', async () => {
    const { alerter, clock, events } = startWorker([], { cooldownMs: 60_000 });
    const flap = async (): Promise<void> => {
      await alerter.raise(news('a'));
      await alerter.clear('a');
    };
    await flap();
    await flap();
    expect(events).toEqual(['raised a', 'cleared a']);
    await alerter.raise(news('a'));
    expect(await read('a')).toMatchObject({ state: 'raised', count: 3 });
    clock.advance(61_000);
    await alerter.raise(news('a'));
    await alerter.raise(news('a'));
    await alerter.clear('a');
    expect(events).toEqual(['raised a', 'cleared a', 'raised a', 'cleared a']);
  });

  test('what comes back and is raised only once is told as well when the cool-down ends', async () => {
    const { alerter, clock, events } = startWorker([], { cooldownMs: 60_000 });
    await alerter.raise(news('a', { detail: { pages: 1 } }));
    await alerter.clear('a');
    await alerter.raise(news('a', { detail: { pages: 2 } }));
    await settle(alerter, ['other'], []);
    expect(events).toEqual(['raised a', 'cleared a']);
    clock.advance(61_000);
    await settle(alerter, ['other'], []);
    await settle(alerter, ['other'], []);
    expect(events).toEqual(['raised a', 'cleared a', 'raised a']);
    expect(await read('a')).toMatchObject({ state: 'raised', detail: { pages: 2 }, count: 2 });
  });

  test('what goes on costs a write a minute', async () => {
    const { alerter, clock } = startWorker();
    await alerter.raise(news('a'));
    const { rev, lastSeenAt } = await read('a');
    for (let n = 0; n < 5; n += 1) await alerter.raise(news('a', { message: 'still' }));
    expect((await read('a')).rev).toBe(rev);
    clock.advance(61_000);
    await alerter.raise(news('a', { message: 'still' }));
    const seen = await read('a');
    expect(seen).toMatchObject({ rev: rev + 1, message: 'still', count: 1 });
    expect(seen.lastSeenAt.getTime()).toBeGreaterThanOrEqual(lastSeenAt.getTime());
  });

  test('settling clears what is not seen any more, of these kinds only', async () => {
    const { alerter, events } = startWorker();
    await alerter.raise(news('other', { kind: 'other' }));
    await settle(alerter, ['trial', 'second'], [news('a'), news('b', { kind: 'second' })]);
    await settle(alerter, ['trial'], [news('c')]);
    expect(events.sort()).toEqual(['cleared a', 'raised a', 'raised b', 'raised c', 'raised other']);
  });

  test('one that was stopped between reading and settling changes nothing that others have said since', async () => {
    const [slow, other] = [startWorker(), startWorker([], { cooldownMs: 0 })];
    for (const key of ['a', 'b']) await slow.alerter.raise(news(key));
    const raised = await slow.alerter.raised(['trial']);
    await other.alerter.raise(news('a', { level: 'critical' }));
    await other.alerter.clear('b');
    await slow.alerter.settle(['trial'], [news('b', { level: 'critical' })], raised);
    expect(await read('a')).toMatchObject({ state: 'raised', level: 'critical' });
    expect(await read('b')).toMatchObject({ state: 'cleared', level: 'warning' });
    expect([...slow.events, ...other.events].sort()).toEqual([
      'cleared b',
      'raised a',
      'raised a',
      'raised b',
    ]);
  });

  test('a document of a newer version is left alone', async () => {
    const { alerter, events } = startWorker();
    await alerter.raise(news('a'));
    await stored.updateOne({ _id: 'a' }, { $set: { schemaVersion: 99 } });
    const before = await read('a');
    await alerter.clear('a');
    expect(await read('a')).toEqual(before);
    expect(events).toEqual(['raised a']);
  });
});

describe('sinks', () => {
  const ALERT: Alert = {
    ...{ key: 'a', kind: 'trial', level: 'warning', message: 'trouble', state: 'raised', count: 1 },
    ...{ raisedAt: new Date(0), lastSeenAt: new Date(0), clearedAt: null },
  };

  test('one that hangs and one that throws harm nobody, and the stop waits a moment only', async () => {
    const told: Alert[] = [];
    let signal: AbortSignal | undefined;
    const hangs: AlertSink = (_alert, context) => {
      signal = context.signal;
      return new Promise(() => undefined);
    };
    const throws: AlertSink = () => {
      throw new Error('no');
    };
    const { alerter, events, log } = startWorker([hangs, throws, (alert) => void told.push(alert)]);
    for (const key of ['a', 'b', 'c']) await alerter.raise(news(key));
    await expect.poll(() => keysOf(told), PATIENCE).toEqual(['raised a', 'raised b', 'raised c']);
    expect(events).toHaveLength(3);
    expect(log.filter(({ message }) => /could not be told/.test(message))).toHaveLength(1);
    await alerter.stop();
    expect(signal?.aborted).toBe(true);
  });

  test('one that fails at first is tried again', async () => {
    const told: string[] = [];
    let failures = 1;
    const sink: AlertSink = ({ key }) => {
      if (failures-- > 0) throw new Error('not yet');
      told.push(key);
    };
    const { alerter } = startWorker([sink]);
    await alerter.raise(news('a'));
    await alerter.raise(news('b'));
    await expect.poll(() => told, PATIENCE).toEqual(['a', 'b']);
  });

  test('they are told from a level on', async () => {
    const told: Alert[] = [];
    const { alerter, events } = startWorker([(alert) => void told.push(alert)], { minimumLevel: 'critical' });
    await alerter.raise(news('a'));
    await alerter.raise(news('b', { level: 'critical' }));
    expect(events).toHaveLength(2);
    await expect.poll(() => keysOf(told), PATIENCE).toEqual(['raised b']);
  });

  test('a webhook gets JSON; what goes wrong is logged without its address', async () => {
    const bodies: { alert: Alert }[] = [];
    const server = createServer((request, response) => {
      let text = '';
      request.on('data', (chunk) => {
        text += chunk;
      });
      request.on('end', () => {
        bodies.push(JSON.parse(text));
        response.statusCode = request.headers.authorization === 'Bearer s3cret' ? 204 : 401;
        response.end();
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    ending.push(async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook/s3cret`;
    const good = startWorker([webhookSink({ url, headers: { authorization: 'Bearer s3cret' } })]);
    await good.alerter.raise(news('a'));
    await expect.poll(() => bodies.length, PATIENCE).toBe(1);
    expect(bodies[0]?.alert).toMatchObject({ key: 'a', state: 'raised', level: 'warning' });

    const fields: unknown[] = [];
    const logger = { debug() {}, info() {}, error() {}, warn: (given: object) => void fields.push(given) };
    const bad = startWorker([webhookSink({ url }), webhookSink({ url: 'http://127.0.0.1:1/s3cret' })], {
      logger,
    });
    await bad.alerter.raise(news('b'));
    await expect
      .poll(() => JSON.stringify(fields), PATIENCE)
      .toMatch(/answered 401.*could not be reached|could not be reached.*answered 401/s);
    expect(JSON.stringify(fields)).not.toMatch(/s3cret|Bearer/);
  });

  test('a webhook that redirects is a failure: its headers go to no other host', async () => {
    const seen: string[] = [];
    const server = createServer((request, response) => {
      seen.push(`${request.method} ${request.url} ${request.headers['x-api-key']}`);
      response.writeHead(request.url === '/elsewhere' ? 200 : 302, { location: '/elsewhere' }).end();
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    ending.push(async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
    const sink = webhookSink({ url, headers: { 'x-api-key': 'k' } });
    const signal = new AbortController().signal;
    await expect(async () => sink(ALERT, { signal, messengers: {} })).rejects.toThrow('answered 302');
    expect(seen).toEqual(['POST /hook k']);
  });

  test('mail goes through a messenger of the scheduler; what an alert says is no template', async () => {
    const smtp = await startSmtpSink();
    ending.push(() => smtp.close());
    const messenger = smtpMessenger({ url: smtp.url, from: 'alerts@example.org' });
    ending.push(async () => messenger.close?.());
    const { alerter } = startWorker([messengerSink({ messenger: 'email', to: 'ops@example.org' })], {
      messengers: { email: messenger },
    });
    await alerter.raise(news('a', { message: 'it says {{ 7 | times: 6 }}\nand more' }));
    await alerter.clear('a');
    await expect.poll(() => smtp.messages.length, PATIENCE).toBe(2);
    const [first, second] = smtp.messages;
    expect(String(first?.raw)).toContain('[warning] it says {{ 7 | times: 6 }} and more');
    expect(String(second?.raw)).toContain('[cleared]');
  });

  test('a messenger that refuses is a failure of the sink', async () => {
    const calls: Message[] = [];
    const messenger = {
      send: async (message: Message) => {
        calls.push(message);
        return { status: 'failed' as const, permanent: true, reason: 'no such mailbox' };
      },
    };
    const { alerter, log } = startWorker([messengerSink({ messenger: 'sms', to: ['1', '2'] })], {
      messengers: { sms: messenger },
    });
    await alerter.raise(news('a'));
    await expect
      .poll(() => log.some(({ message }) => /could not be told/.test(message)), PATIENCE)
      .toBe(true);
    expect(calls.slice(0, 2).map(({ recipient }) => recipient.to)).toEqual(['1', '2']);
    expect(calls[0]?.idempotencyKey).toMatch(/^[\w-]{32}$/);
  });

  test('of several addresses only those are tried again that were not reached', async () => {
    const tries = new Map<string, number>();
    const messenger = {
      send: async ({ recipient: { to } }: Message) => {
        tries.set(to, (tries.get(to) ?? 0) + 1);
        if (to === 'bad' && tries.get(to) === 1) throw new Error('not yet');
        return { status: 'sent' as const };
      },
    };
    const sink = messengerSink({ messenger: 'sms', to: ['bad', 'good', 'better'] });
    const context = { signal: new AbortController().signal, messengers: { sms: messenger } };
    await expect(async () => sink(ALERT, context)).rejects.toThrow('not yet');
    await sink(ALERT, context);
    expect(Object.fromEntries(tries)).toEqual({ bad: 2, good: 1, better: 1 });
    await sink({ ...ALERT, state: 'cleared' }, context);
    expect(tries.get('good')).toBe(2);
  });

  test.each([
    () => webhookSink({ url: 'ftp://example.org' }),
    () => webhookSink(undefined as never),
    () => webhookSink({ url: 'http://example.org', headers: { a: 1 } as never }),
    () => messengerSink({ messenger: '', to: 'a' }),
    () => messengerSink({ messenger: 'email', to: [] }),
  ])('wrong options are refused: %s', (make) => {
    expect(make).toThrowError(expect.objectContaining({ code: 'invalid_options' }));
  });
});

test('thousands at once: the list and the tellings are bounded, and say so', async () => {
  const told: Alert[] = [];
  const { alerter, clock, log } = startWorker([(alert) => void told.push(alert)], { perMinute: 10 });
  const old = {
    kind: 'trial',
    level: 'info',
    message: 'x',
    state: 'raised',
    count: 1,
    rev: 1,
    token: 't',
  } as const;
  const date = new Date();
  await stored.insertMany(
    Array.from({ length: 950 }, (_, n) => ({
      ...old,
      _id: `old${n}`,
      raisedAt: date,
      lastSeenAt: date,
      clearedAt: null,
      schemaVersion: 1,
    })),
  );
  await Promise.all(Array.from({ length: 2_100 }, (_, n) => alerter.raise(news(`n${n}`))));
  await expect
    .poll(() => stored.countDocuments({ _id: 'alerts:too-many', state: 'raised' }), PATIENCE)
    .toBe(1);
  const raised = await stored.countDocuments({ state: 'raised' });
  expect(raised).toBeGreaterThanOrEqual(1_000);
  expect(raised).toBeLessThan(1_010); // those that were being written at the same time
  expect(log.length).toBeLessThan(100);
  expect(log.some(({ message }) => /some are dropped/.test(message))).toBe(true);
  await expect.poll(() => told.length, PATIENCE).toBe(10);
  clock.advance(60_000);
  await stored.deleteMany({ _id: /^old\d{2,}$/ as never }); // the others are enough to clear
  await settle(alerter, ['trial'], []);
  await expect.poll(() => told.length, PATIENCE).toBeGreaterThanOrEqual(11);
  expect(told[10]).toMatchObject({ key: 'alerts:more', message: expect.stringMatching(/^and 4\d more/) });
  await settle(alerter, [], []);
  expect(await stored.countDocuments({ state: 'raised' })).toBe(0);
});

test('while MongoDB is away the last word on each key is kept, and nothing rejects', async () => {
  const proxy = await startProxy(uri);
  ending.push(() => proxy.stop());
  const address = proxy.uriFor(name);
  const away = await openStore({
    mongo: `${address}${address.includes('?') ? '&' : '?'}serverSelectionTimeoutMS=3000`,
    collectionPrefix: '',
    journalDays: 90,
  });
  ending.push(() => away.close());
  const { alerter, events, log } = startWorker([], { store: away });
  await alerter.raise(news('a'));
  proxy.refuse();
  proxy.cut();
  await Promise.all([alerter.clear('a'), alerter.raise(news('b')), alerter.raise(news('c'))]);
  await alerter.clear('c');
  expect(events).toEqual(['raised a']);
  expect(log.filter(({ message }) => /cannot be stored/.test(message))).toHaveLength(1);
  proxy.accept();
  await expect.poll(() => events.toSorted(), PATIENCE).toEqual(['cleared a', 'raised a', 'raised b']);
  expect(log.some(({ message }) => /stored again/.test(message))).toBe(true);
});

describe('the list', () => {
  const alerts = () => createAlerts(store, () => undefined);

  test('the latest first, filtered, page by page', async () => {
    const { alerter } = startWorker();
    const campaignId = '0123456789abcdef01234567';
    for (let n = 0; n < 7; n += 1) {
      const level = n % 2 === 0 ? 'critical' : 'info';
      await alerter.raise(news(`k${n}`, { level, ...(n < 3 ? { campaignId } : {}) }));
    }
    await stored.updateMany({ _id: { $in: ['k2', 'k3', 'k4'] } }, { $set: { raisedAt: new Date(0) } });
    await alerter.clear('k6');
    const seen: string[] = [];
    let after: string | undefined;
    do {
      const { alerts: some, next } = await alerts().list({ limit: 2, after });
      seen.push(...some.map(({ key }) => key));
      after = next;
    } while (after !== undefined);
    expect(seen).toEqual(['k6', 'k5', 'k1', 'k0', 'k4', 'k3', 'k2']);
    const keys = async (options: Parameters<ReturnType<typeof alerts>['list']>[0]) =>
      (await alerts().list(options)).alerts.map(({ key }) => key);
    expect(await keys({ state: 'cleared' })).toEqual(['k6']);
    expect(await keys({ level: 'info' })).toEqual(['k5', 'k1', 'k3']);
    expect(await keys({ campaignId })).toEqual(['k1', 'k0', 'k2']);
  });

  test('every wrong option at once', async () => {
    const wrong = { state: 'open', level: 'bad', campaignId: 'x', limit: 0, after: 'x' } as never;
    const error = await alerts()
      .list(wrong)
      .catch((refused: unknown) => refused);
    expect(error).toMatchObject({ code: 'invalid_options' });
    const { problems } = error as { problems: { path: string }[] };
    expect(problems.map(({ path }) => path).sort()).toEqual([
      'after',
      'campaignId',
      'level',
      'limit',
      'state',
    ]);
  });

  test('acknowledging: the first one stays until it is raised anew', async () => {
    const { alerter, clock } = startWorker([], { cooldownMs: 1_000 });
    await alerter.raise(news('a'));
    expect(await alerts().acknowledge('a', { by: 'ann' })).toMatchObject({ acknowledged: { by: 'ann' } });
    expect(await alerts().acknowledge('a', { by: 'bob' })).toMatchObject({ acknowledged: { by: 'ann' } });
    await alerter.clear('a');
    await expect(alerts().acknowledge('a', { by: 'ann' })).rejects.toMatchObject({ code: 'refused' });
    await expect(alerts().acknowledge('no', { by: 'ann' })).rejects.toMatchObject({ code: 'not_found' });
    await expect(alerts().acknowledge('a', {} as never)).rejects.toMatchObject({ code: 'invalid_options' });
    clock.advance(2_000);
    await alerter.raise(news('a'));
    expect((await alerts().list()).alerts[0]?.acknowledged).toBeUndefined();
  });
});
