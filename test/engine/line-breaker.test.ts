/**
 * What one worker does about the breaker of one messenger when something goes wrong in the middle: a real store whose
 * answers a test takes away, and a clock that it moves. Each `look` is one round of the duty.
 */
import { afterAll, beforeEach, expect, it } from 'vitest';
import { DEFAULTS } from '../../src/config.ts';
import { type Breaker, NEW_BREAKER, opened } from '../../src/core/breaker.ts';
import { breakerOf } from '../../src/core/breaker-document.ts';
import type { SendOutcome } from '../../src/core/outcome.ts';
import { MessengerLine } from '../../src/delivery/messenger-line.ts';
import type { MessengerSurvey } from '../../src/delivery/messenger-survey.ts';
import { RateGates } from '../../src/delivery/rate-gates.ts';
import { EventBus } from '../../src/events.ts';
import type { Logger } from '../../src/logger.ts';
import { createBreakers } from '../../src/services/breakers.ts';
import { LineBreaker, type LineBreakerOptions } from '../../src/services/line-breaker.ts';
import { readBreakers, turnBreaker } from '../../src/store/breakers.ts';
import { createJournal } from '../../src/store/journal.ts';
import { openStore, type Store } from '../../src/store/store.ts';
import { VirtualClock } from '../delivery/virtual-clock.ts';
import { door } from '../queue/signals.ts';
import { testDatabase } from '../support/mongo.ts';
import { PATIENCE } from './provider.ts';

const { db, uri } = await testDatabase();
const store = await openStore({ mongo: uri, collectionPrefix: '', journalDays: 1 });
afterAll(() => store.close());
beforeEach(async () => {
  for (const name of ['breakers', 'campaigns', 'journal']) await db.collection(name).deleteMany({});
});

const quiet: Logger = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const HELD: MessengerSurvey = { busy: true, moving: false, held: true, takesPages: true };
const SENT: SendOutcome = { kind: 'sent' };
const failed = (kind: 'provider' | 'transient' | 'unknown'): SendOutcome => ({ kind, reason: kind });

function startLine(name = 'post', use: Store = store, workers: readonly string[] = ['w']) {
  const clock = new VirtualClock();
  const asked: string[] = [];
  const messenger = {
    concurrency: 10,
    send: () => Promise.resolve({ status: 'sent' as const }),
    verify: () => Promise.resolve(void asked.push(name)),
  };
  const rate = new RateGates(store, clock).ofMessenger(name, undefined);
  const line = new MessengerLine(name, messenger, clock, rate, DEFAULTS.breaker);
  const options: LineBreakerOptions = {
    store: use,
    journal: createJournal(use, 'w', quiet, () => new Date()),
    events: new EventBus(quiet),
    logger: quiet,
    wake: () => Promise.resolve(),
    nudge: () => {},
    settings: DEFAULTS.breaker,
    clock,
    random: () => 0,
    alerter: { raise: () => Promise.resolve(), clear: () => Promise.resolve() },
    workerId: 'w',
    sendTimeoutMs: 30_000,
    workersHaving: () => Promise.resolve(workers),
  };
  const breaker = new LineBreaker(options, line);
  const look = async (standing = HELD): Promise<Breaker> => {
    const read = (await readBreakers(store, [name])).get(name);
    const now = read?.now ?? Date.now();
    const from = read === undefined ? NEW_BREAKER : (breakerOf(read.document, now) ?? NEW_BREAKER);
    await breaker.treat(from, now, clock.monotonic(), standing);
    await new Promise((resolve) => setImmediate(resolve)); // what the messenger answers
    return stored(name);
  };
  /** One send that began now. */
  const send = (outcome: SendOutcome, isEvident = true): void => {
    line.started();
    line.heard(outcome, clock.monotonic(), isEvident);
  };
  return { clock, line, look, send, asked, options };
}

async function stored(name = 'post'): Promise<Breaker> {
  const read = (await readBreakers(store, [name])).get(name);
  return (read && breakerOf(read.document, read.now)) ?? NEW_BREAKER;
}

/** Opened a minute ago: somebody may try. */
async function open(name = 'post') {
  const from = opened(NEW_BREAKER, 'refused', DEFAULTS.breaker, Date.now() - 60_000, 0);
  await turnBreaker(store, name, NEW_BREAKER, from);
  return from;
}

/** The same store, whose collection does this in place of that. */
function storeWith(collection: 'breakers' | 'campaigns', changes: Record<string, unknown>): Store {
  const real = store[collection] as object;
  const changed = new Proxy(real, {
    get: (target, key) => {
      const value: unknown = changes[String(key)] ?? Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  return { ...store, [collection]: changed };
}

it('taking the probe is done and its answer is lost: the trial begins all the same', async () => {
  await open();
  let losesAnswer = true;
  const use = storeWith('breakers', {
    replaceOne: async (...args: Parameters<Store['breakers']['replaceOne']>) => {
      const answer = await store.breakers.replaceOne(...args);
      if (losesAnswer) throw new Error('connection closed');
      return answer;
    },
  });
  const worker = startLine('post', use);
  await expect(worker.look()).rejects.toThrow('connection closed');
  losesAnswer = false;
  expect(await worker.look()).toMatchObject({ state: 'half_open', probe: { workerId: 'w' } });
  expect(worker.asked).toEqual(['post']);
  await worker.look();
  for (let n = 0; n < DEFAULTS.breaker.trialSize; n += 1) worker.send(SENT);
  expect(await worker.look()).toMatchObject({ state: 'closed' });
  expect(worker.asked).toHaveLength(1);
});

it('who takes no pages takes no probe, and leaves the one it has to others', async () => {
  await open();
  const worker = startLine();
  const stopping = { ...HELD, takesPages: false };
  expect(await worker.look(stopping)).toMatchObject({ state: 'open' });
  await worker.look();
  await worker.look();
  worker.line.started(); // the last one that it tries
  expect(await worker.look(stopping)).toMatchObject({ probe: { until: expect.any(Number) } });
  expect(worker.line.breaker.isShut).toBe(false);
  worker.line.heard(SENT, worker.clock.monotonic());
  const left = await worker.look(stopping);
  if (left.state !== 'half_open') throw new Error(left.state);
  expect(left.probe.until).toBeLessThanOrEqual(Date.now());
  expect(worker.line.breaker.isShut).toBe(true);
  const other = startLine();
  expect(await other.look()).toMatchObject({ state: 'half_open' });
  expect(other.asked).toHaveLength(1);
});

it('a prober that does not come to try anybody leaves the probe to others, where there are others', async () => {
  await open();
  for (const [workers, leaves] of [
    [['w'], false],
    [['w', 'v'], true],
  ] as const) {
    const worker = startLine('post', store, workers);
    await db.collection('breakers').updateOne({}, { $set: { 'probe.until': new Date() } });
    for (let n = 0; n < 2; n += 1) await worker.look();
    await worker.clock.advance(60_000);
    await worker.look({ ...HELD, busy: false }); // it has nobody to send to now
    expect(worker.line.breaker.mayTry).toBe(true);
    await worker.look();
    expect(worker.line.breaker.mayTry).toBe(!leaves);
    await worker.look();
    expect(worker.line.breaker.mayTry).toBe(!leaves);
  }
});

it('a trial of sends that this worker ended itself is no trial', async () => {
  await open();
  const worker = startLine();
  await worker.look();
  await worker.look();
  worker.send(failed('unknown'), false);
  await worker.clock.advance(3_000);
  expect(await worker.look()).toMatchObject({ state: 'half_open' });
  worker.send(SENT);
  await worker.clock.advance(3_000);
  expect(await worker.look()).toMatchObject({ state: 'closed' });
});

it('a failure among many successes costs no write; one that stands is told, and taken back', async () => {
  const worker = startLine();
  const evidence = async () => (await stored()).evidence.w;
  for (let n = 0; n < 50; n += 1) worker.send(SENT);
  worker.send(failed('transient'));
  worker.send(SENT);
  await worker.look();
  expect(await db.collection('breakers').countDocuments()).toBe(0);
  worker.send(failed('provider'));
  await worker.look();
  expect(await evidence()).toMatchObject({ consecutive: 1, inRow: 1 });
  worker.line.forgetFailures();
  worker.send(SENT);
  await worker.look();
  expect(await evidence()).toMatchObject({ consecutive: 0, inRow: 0 });
  // What somebody saw who has the messenger no more goes with the next word of anybody.
  await db
    .collection('breakers')
    .updateOne(
      {},
      { $set: { 'evidence.gone': { at: new Date(0), succeeded: 0, failed: 3, consecutive: 3, inRow: 3 } } },
    );
  worker.send(failed('provider'));
  await worker.look();
  expect(Object.keys((await stored()).evidence)).toEqual(['w']);
});

it('one every minute and a half: it opens at the fifth, of two workers that see some each', async () => {
  const [a, b] = [startLine('post', store, ['w', 'v']), startLine('post', store, ['w', 'v'])];
  Object.assign(b.options, { workerId: 'v' });
  for (let n = 1; n <= 5; n += 1) {
    for (const { clock } of [a, b]) await clock.advance(90_000);
    const worker = n % 2 === 0 ? b : a;
    worker.send(failed('unknown'));
    expect((await worker.look({ ...HELD, held: false })).state).toBe(n < 5 ? 'closed' : 'open');
    const fields = (await stored()).evidence;
    for (const [id, { at, rowSince = 0 }] of Object.entries(fields)) {
      const earlier = { [`evidence.${id}.at`]: new Date(at - 90_000) };
      const since = { [`evidence.${id}.rowSince`]: new Date(rowSince - 90_000) };
      await db.collection('breakers').updateOne({}, { $set: { ...earlier, ...since } });
    }
  }
});

it('many in a row that fail for reasons of their own: this worker rests, and lends its pages', async () => {
  const worker = startLine('post', store, ['w', 'v']);
  worker.line.othersHaveIt = true;
  for (let n = 1; n < DEFAULTS.breaker.minimumVolume; n += 1) worker.send(failed('transient'));
  expect([worker.line.sick, worker.line.lendsPages]).toEqual([false, false]);
  worker.send(failed('transient'));
  expect(worker.line.blockedForMs()).toBeGreaterThan(0);
  await worker.clock.advance(60_000);
  worker.send(failed('transient'));
  expect(worker.line.lendsPages).toBe(true);
  await worker.clock.advance(60_000);
  worker.send(SENT);
  expect(worker.line.sick).toBe(false);
});

it('a write that hangs for one messenger holds up no other', async () => {
  const gate = door();
  const isSlow = (filter: unknown): boolean => JSON.stringify(filter).includes('"slow"');
  const use = storeWith('campaigns', {
    find: (...args: Parameters<Store['campaigns']['find']>) => {
      if (!isSlow(args[0])) return store.campaigns.find(...args);
      const waiting = { limit: () => waiting, toArray: () => gate.opened.then(() => []) };
      return waiting;
    },
  });
  const [slow, quick] = [startLine('slow', use), startLine('quick', use)];
  const duty = createBreakers({
    ...quick.options,
    lines: [slow.line, quick.line],
    pollMs: 1_000,
    serverNow: () => new Date(),
    survey: () => new Map(['slow', 'quick'].map((name) => [name, { ...HELD, moving: true }])),
  });
  await open('slow');
  await duty.runOnce();
  for (let n = 0; n < 5; n += 1) {
    await quick.clock.advance(1);
    quick.send(failed('provider'));
  }
  const stateOfQuick = async (): Promise<string> => {
    await duty.runOnce(); // passes over a messenger whose round before is still under way
    return (await stored('quick')).state;
  };
  await expect.poll(stateOfQuick, PATIENCE).toBe('open');
  expect((await stored('slow')).state).toBe('open');
  gate.open();
  await duty.stop();
  expect((await stored('slow')).state).toBe('half_open');
});

it('one campaign that cannot be told of keeps neither the others nor the journal from it', async () => {
  const campaign = (name: string) => ({
    name,
    status: 'processing',
    rev: 1,
    messenger: 'post',
    openRuns: [{ runId: name, occurrence: 'once' }],
    schedule: { sendAt: null },
    schemaVersion: 1,
  });
  await db.collection('campaigns').insertMany(['a', 'b', 'c'].map(campaign));
  const worker = startLine();
  const told: string[] = [];
  worker.options.events.on('campaign:paused', ({ campaign: { name } }) => told.push(name));
  const { writeOnce } = worker.options.journal;
  let calls = 0;
  Object.assign(worker.options.journal, {
    writeOnce: (...args: Parameters<typeof writeOnce>) => {
      calls += 1;
      return calls === 2 ? Promise.reject(new Error('disk full')) : writeOnce(...args);
    },
  });
  for (let n = 0; n < 5; n += 1) {
    await worker.clock.advance(1);
    worker.send(failed('unknown'));
  }
  expect((await worker.look({ ...HELD, moving: true })).state).toBe('open');
  expect(told).toHaveLength(2);
  expect(await db.collection('journal').countDocuments({ kind: 'breaker-opened' })).toBe(1);
  expect(await db.collection('campaigns').countDocuments({ status: 'paused' })).toBe(3);
});
