/** Options of the scheduler: defaults, every problem at once, no secrets in messages. */
import mongoose from 'mongoose';
import { describe, expect, test } from 'vitest';
import { DEFAULTS, resolveOptions, type SchedulerOptions } from '../src/config.ts';
import { ValidationError } from '../src/errors.ts';
import { messengerSink } from '../src/services/alert-sinks.ts';

const MONGO = 'mongodb://127.0.0.1/app';
const send = async () => ({ status: 'sent' as const });

function problemsOf(options: unknown): Record<string, string> {
  try {
    resolveOptions(options as SchedulerOptions);
  } catch (error) {
    expect(error).toBeInstanceOf(ValidationError);
    expect(error).toMatchObject({ code: 'invalid_options' });
    return Object.fromEntries(
      (error as ValidationError).problems.map(({ path, message }) => [path, message]),
    );
  }
  return {};
}

describe('what is filled in', () => {
  test('every default', () => {
    const resolved = resolveOptions({ mongo: MONGO });
    expect(resolved).toMatchObject({ ...DEFAULTS, mongo: MONGO });
    expect(resolved.random).toBe(Math.random);
    expect(Object.keys(resolved.messengers)).toEqual([]);
  });

  test('undefined counts as not given', () => {
    expect(
      resolveOptions({ mongo: MONGO, pageSize: undefined, worker: undefined, messengers: undefined }),
    ).toMatchObject({
      pageSize: 250,
      worker: true,
    });
  });

  test('a short claim has a margin of a fifth', () => {
    expect(resolveOptions({ mongo: MONGO, claimTtlMs: 1_000 }).claimMarginMs).toBe(200);
    expect(resolveOptions({ mongo: MONGO, claimTtlMs: 4_000 }).claimMarginMs).toBe(2_000);
    expect(resolveOptions({ mongo: MONGO, claimTtlMs: 1_000, claimMarginMs: 500 }).claimMarginMs).toBe(500);
  });

  test('nothing is stale before it had three heartbeats', () => {
    const { health } = resolveOptions({ mongo: MONGO, heartbeatMs: 300_000, workerOfflineAfterMs: 900_000 });
    expect(health).toEqual({ staleAfterMs: 900_000, failureRate: 0.2, failureMinimum: 20 });
  });

  test('the result is frozen, what the host owns is not', () => {
    const email = { send };
    const connection = mongoose.createConnection();
    const resolved = resolveOptions({ mongo: connection, messengers: { email } });
    expect(Object.isFrozen(resolved)).toBe(true);
    expect(Object.isFrozen(resolved.messengers)).toBe(true);
    expect(resolved.messengers.email).toBe(email);
    expect(Object.isFrozen(email)).toBe(false);
    expect(resolved.mongo).toBe(connection);
    expect(Object.isFrozen(connection)).toBe(false);
  });

  test('inherited names are not names of messengers', () => {
    const { messengers, audiences } = resolveOptions({ mongo: MONGO, messengers: { email: { send } } });
    expect(messengers.constructor).toBeUndefined();
    expect('toString' in audiences).toBe(false);
  });

  test('instances of classes stay themselves', () => {
    class Sms {
      #sent = 0;
      async send() {
        this.#sent += 1;
        return { status: 'sent' as const, providerId: String(this.#sent) };
      }
    }
    const sms = new Sms();
    expect(resolveOptions({ mongo: MONGO, messengers: { sms } }).messengers.sms).toBe(sms);
  });
});

describe('the breaker', () => {
  test('off, by default, or in part', () => {
    expect(resolveOptions({ mongo: MONGO, breaker: false }).breaker).toBe(false);
    expect(resolveOptions({ mongo: MONGO, breaker: undefined }).breaker).toEqual(DEFAULTS.breaker);
    expect(resolveOptions({ mongo: MONGO, breaker: { openMs: 100 } }).breaker).toEqual({
      ...DEFAULTS.breaker,
      openMs: 100,
    });
    expect(Object.isFrozen(resolveOptions({ mongo: MONGO, breaker: {} }).breaker)).toBe(true);
  });

  test('wrong values are named with their path', () => {
    const breaker = { failureRate: 0, minimumVolume: 1.5, trialSize: 0, openMS: 3, windowMs: 10 };
    const problems = problemsOf({ mongo: MONGO, breaker });
    expect(Object.keys(problems).sort()).toEqual([
      'breaker.failureRate',
      'breaker.minimumVolume',
      'breaker.openMS',
      'breaker.trialSize',
      'breaker.windowMs',
    ]);
    expect(problems['breaker.failureRate']).toBe(
      'Expected `breaker.failureRate` to be a number above 0 to 1, got `0` (number)',
    );
    expect(problems['breaker.openMS']).toMatch(/Did you mean `openMs`/);
  });

  test('it cannot be open longer at first than at most; nor be anything else', () => {
    expect(problemsOf({ mongo: MONGO, breaker: { openMs: 2_000, maxOpenMs: 1_000 } })).toEqual({
      'breaker.maxOpenMs': 'Expected `breaker.maxOpenMs` to be at least `openMs`, 2000, got `1000` (number)',
    });
    expect(problemsOf({ mongo: MONGO, breaker: true })).toEqual({
      breaker: 'Expected `breaker` to be an object with its settings, or false, got `true` (boolean)',
    });
  });
});

describe('alerts and the watchdog', () => {
  test('a part that is not given is filled in', () => {
    const sink = () => undefined;
    const resolved = resolveOptions({
      mongo: MONGO,
      alerts: { sinks: [sink] },
      watchdog: { failedAbove: 5 },
    });
    expect(resolved.alerts).toEqual({ ...DEFAULTS.alerts, sinks: [sink] });
    expect(resolved.watchdog).toEqual({ ...DEFAULTS.watchdog, failedAbove: 5 });
    expect(Object.isFrozen(resolved.alerts) && Object.isFrozen(resolved.watchdog)).toBe(true);
  });

  test('where sends may take long, so may what stands still', () => {
    const { watchdog } = resolveOptions({ mongo: MONGO, sendTimeoutMs: 600_000 });
    expect(watchdog.stuckAfterMs).toBe(1_200_002);
  });

  test('wrong ones are named with their path', () => {
    const problems = problemsOf({
      mongo: MONGO,
      alerts: { sinks: ['x', () => undefined], cooldownMs: -1, minimumLevel: 'error', perMinutes: 3 },
      watchdog: { everyMs: 10, failureRate: 2, stuckAfter: 1 },
    });
    expect(Object.keys(problems).sort()).toEqual([
      'alerts.cooldownMs',
      'alerts.minimumLevel',
      'alerts.perMinutes',
      'alerts.sinks[0]',
      'watchdog.everyMs',
      'watchdog.failureRate',
      'watchdog.stuckAfter',
    ]);
    expect(problems['alerts.perMinutes']).toMatch(/Did you mean `perMinute`/);
    expect(problems['watchdog.stuckAfter']).toMatch(/Did you mean `stuckAfterMs`/);
  });

  test.each([
    [
      { watchdog: { stuckAfterMs: 30_000 } },
      'watchdog.stuckAfterMs',
      /more than `sendTimeoutMs`.*at least 30001, got `30000`/,
    ],
    [{ watchdog: { stuckAfterMs: 50_000 }, heartbeatMs: 20_000 }, 'watchdog.stuckAfterMs', /at least 60000/],
    [{ health: { staleAfterMs: 20_000 } }, 'health.staleAfterMs', /at least 3 × `heartbeatMs`, 30000/],
    [{ health: { failureRate: 2 } }, 'health.failureRate', /a number from 0 to 1, got `2`/],
    [{ health: { staleAfter: 1 } }, 'health.staleAfter', /Did you mean `staleAfterMs`/],
    [{ crashHandlers: 'yes' }, 'crashHandlers', /true or false/],
    [{ watchdog: { statusEveryMs: 20_000 } }, 'watchdog.statusEveryMs', /at least `watchdog.everyMs`, 30000/],
  ])('%j', (given, path, message) => {
    expect(problemsOf({ mongo: MONGO, ...given })[path]).toMatch(message);
  });

  test('a sink that sends with a messenger needs that messenger', () => {
    const sinks = [messengerSink({ messenger: 'mail', to: 'ops@example.org' })];
    const problems = problemsOf({ mongo: MONGO, messengers: { email: { send } }, alerts: { sinks } });
    expect(problems['alerts.sinks[0]']).toMatch(/one of `messengers`/);
    expect(problemsOf({ mongo: MONGO, messengers: { mail: { send } }, alerts: { sinks } })).toEqual({});
  });
});

describe('what is refused', () => {
  test('all problems at once, in one message', () => {
    const problems = problemsOf({
      mongo: MONGO,
      pageSize: 0,
      worker: 'yes',
      claimTtlMs: 99,
      journalDays: 1.5,
      pagesize: 3,
      audiences: { customers: [] },
      messengers: { email: {}, 'not a name': { send } },
    });
    expect(problems).toEqual({
      pageSize: 'Expected `pageSize` to be an integer from 10 to 1000, got `0` (number)',
      worker: 'Expected `worker` to be true or false, got `yes` (string)',
      claimTtlMs: 'Expected `claimTtlMs` to be an integer from 1000 to 600000, got `99` (number)',
      journalDays: 'Expected `journalDays` to be an integer from 1 to 3650, got `1.5` (number)',
      pagesize: 'Unknown key `pagesize`. Did you mean `pageSize`?',
      'audiences.customers':
        'Expected `audiences.customers` to be a function that returns rows, got an empty array',
      'messengers.email':
        'Expected `messengers.email` to be a messenger with a `send` function, got an object',
      'messengers["not a name"]':
        'Expected the name `messengers["not a name"]` to end in 1 to 64 of A-Z a-z 0-9 _ -',
    });
  });

  test.each([
    ['nothing', undefined],
    ['null', null],
    ['a URI', MONGO],
    ['a list', []],
  ])('%s instead of options', (_name, options) => {
    expect(problemsOf(options)).toEqual({ '(input)': 'Expected options to be an object with named values' });
  });

  test.each<[string, object, string, string]>([
    [
      'margin',
      { claimTtlMs: 3_000, claimMarginMs: 1_501 },
      'claimTtlMs',
      'at least 2 × `claimMarginMs`, 3002, got `3000`',
    ],
    [
      'heartbeat',
      { heartbeatMs: 60_000 },
      'workerOfflineAfterMs',
      'at least 3 × `heartbeatMs`, 180000, got `120000`',
    ],
    [
      'lock',
      { processEveryMs: 4_000 },
      'lockLifetimeMs',
      'at least 3 × `processEveryMs`, 12000, got `10000`',
    ],
  ])('a rule between two options: %s', (_name, options, path, message) => {
    const problems = problemsOf({ mongo: MONGO, ...options });
    expect(Object.keys(problems)).toEqual([path]);
    expect(problems[path]).toContain(message);
  });

  test('a rule is not added where one of the two is wrong by itself', () => {
    expect(Object.keys(problemsOf({ mongo: MONGO, heartbeatMs: -1 }))).toEqual(['heartbeatMs']);
  });

  test.each<[string, object, string]>([
    ['verify', { send, verify: true }, 'messengers.m.verify` to be a function'],
    ['concurrency', { send, concurrency: 0 }, 'messengers.m.concurrency` to be an integer of at least 1'],
    ['idempotent', { send, idempotent: { windowMs: '1h' } }, 'messengers.m.idempotent` to be true, false or'],
  ])('a messenger whose %s is wrong', (_name, messenger, message) => {
    expect(problemsOf({ mongo: MONGO, messengers: { m: messenger } })['messengers.m']).toContain(message);
  });

  test.each<[string, object]>([
    ['logger', { logger: { info() {} } }],
    ['clock', { clock: { now: () => new Date() } }],
    ['random', { random: 4 }],
    ['collectionPrefix', { collectionPrefix: 'system.x' }],
    ['collectionPrefix', { collectionPrefix: '$x' }],
  ])('a wrong %s', (path, options) => {
    expect(Object.keys(problemsOf({ mongo: MONGO, ...options }))).toEqual([path]);
  });
});

describe('where MongoDB is', () => {
  test.each<[string, unknown, string]>([
    ['another scheme', 'postgres://root:hunter2@db/app', 'got a string with scheme `postgres`'],
    ['no scheme', 'root:hunter2@db', 'got a string without a scheme'],
    ['an object', { password: 'hunter2' }, 'got an object'],
    ['mongoose itself', mongoose, 'Did you mean `mongoose.connection`?'],
    ['nothing', undefined, 'got nothing'],
  ])('%s is refused without showing it', (_name, mongo, message) => {
    const problem = problemsOf({ mongo }).mongo;
    expect(problem).toContain(message);
    expect(problem).not.toContain('hunter2');
  });

  test('a URI in the wrong place is not shown either', () => {
    const problems = problemsOf({
      mongo: MONGO,
      collectionPrefix: 'mongodb://root:hunter2@db/app',
      worker: 'a://hunter2@b',
    });
    expect(Object.keys(problems)).toEqual(['worker', 'collectionPrefix']);
    expect(JSON.stringify(problems)).not.toContain('hunter2');
  });

  test.each(['mongodb://h', 'mongodb+srv://u:p@h/x', MONGO])('%s is taken', (mongo) => {
    expect(resolveOptions({ mongo }).mongo).toBe(mongo);
  });
});
