/**
 * The watchdog round by round, by a clock that is set: what a process that has just become the watchdog may say of what
 * others have raised, and what is seen of those that ended without a word.
 */
import { ObjectId } from 'mongodb';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { DEFAULTS } from '../../src/config.ts';
import { quarantinedNews } from '../../src/core/crash-loop.ts';
import { EventBus } from '../../src/events.ts';
import { createAlarms } from '../../src/queue/alarms.ts';
import { type Alerter, type AlertNews, createAlerter } from '../../src/services/alerter.ts';
import type { ClaimWatchOptions } from '../../src/services/claim-watch.ts';
import { createWatchdog } from '../../src/services/watchdog.ts';
import type { CampaignDoc, RunDoc, WorkerDoc } from '../../src/store/documents.ts';
import { openStore, type Store } from '../../src/store/store.ts';
import { why } from '../../src/why.ts';
import { watchedConnection } from '../support/commands.ts';
import { testDatabase } from '../support/mongo.ts';
import { COLLECTIONS } from './fixtures.ts';
import { PATIENCE } from './provider.ts';
import { testClock } from './test-clock.ts';
import { workerFields } from './worker-documents.ts';

const { uri, db } = await testDatabase();
const clock = testClock();
const limits = { ...DEFAULTS.watchdog, stuckAfterMs: 180_000 };
const ending: (() => Promise<unknown>)[] = [];
let store: Store;
beforeAll(async () => {
  store = await openStore({ mongo: uri, collectionPrefix: '', journalDays: 90 });
});
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end();
  await Promise.all(COLLECTIONS.map((name) => db.collection(name).deleteMany({})));
});
afterAll(() => store.close());

interface Process {
  /** One round; then the time goes on. */
  round(ms?: number): Promise<void>;
  readonly alerter: Alerter;
  readonly events: EventBus;
  /** What it told: `+key`, `-key`. */
  readonly told: string[];
  stop(): Promise<void>;
}

function startProcess(workerId: string, on = store): Process {
  const silent = () => undefined;
  const logger = { debug: silent, info: silent, warn: silent, error: silent };
  const events = new EventBus(logger);
  const told: string[] = [];
  events.on('alert:raised', ({ alert }) => told.push(`+${alert.key}`));
  events.on('alert:cleared', ({ alert }) => told.push(`-${alert.key}`));
  const serverNow = () => new Date();
  const shared = { store: on, events, logger, clock, serverNow };
  const alerter = createAlerter({ ...shared, messengers: {}, ...DEFAULTS.alerts, sinks: [], cooldownMs: 0 });
  const alarms = createAlarms({
    ...shared,
    db: on.db,
    collectionName: 'agendaJobs',
    workerId,
    processEveryMs: 1_000,
    lockLifetimeMs: 10_000,
    handlers: {} as never,
  });
  const duty = createWatchdog({
    ...shared,
    alarms,
    alerter,
    workerId,
    limits,
    workerOfflineAfterMs: 120_000,
    why: (id) => why({ store: on, alarms, serverNow, workerOfflineAfterMs: 120_000 }, id),
    nudge: silent,
    // It takes nothing in these tests: no page is stuck for long enough.
    takingOver: { sharing: { ownTokens: [] } } as unknown as ClaimWatchOptions,
  });
  duty.start();
  const stop = async (): Promise<void> => {
    await duty.stop();
    await alerter.stop();
  };
  ending.push(stop);
  const round = async (ms = 30_000): Promise<void> => {
    await duty.runOnce();
    clock.advance(ms);
  };
  return { round, alerter, events, told, stop };
}

async function worker(id: string, more: Partial<WorkerDoc> = {}): Promise<void> {
  await db
    .collection<WorkerDoc>('workers')
    .insertOne({ _id: id, heartbeatAt: new Date(), ...workerFields(more) });
}

async function campaign(more: Partial<CampaignDoc> = {}): Promise<{ id: string; runId: string }> {
  const _id = new ObjectId();
  const runId = `${_id.toHexString()}:once`;
  await db.collection<CampaignDoc>('campaigns').insertOne({
    _id,
    name: 'News',
    status: 'processing',
    rev: 1,
    schedule: { sendAt: null },
    nextRunAt: new Date(),
    openRuns: [{ runId, occurrence: 'once' }],
    audience: { audienceId: 'a' },
    messenger: 'post',
    content: {},
    limits: { concurrency: 1, retry: { maxAttempts: 1, firstDelayMs: 1, maxDelayMs: 1 }, onUnknown: 'hold' },
    priority: 0,
    createdAt: new Date(),
    updatedAt: new Date(),
    schemaVersion: 1,
    ...more,
  });
  return { id: _id.toHexString(), runId };
}

async function run(runId: string, more: Partial<RunDoc> = {}): Promise<void> {
  const campaignId = new ObjectId(runId.slice(0, 24));
  await db.collection<RunDoc>('campaign_runs').insertOne({
    ...{ _id: runId, campaignId, occurrence: 'once', status: 'sending', orderNo: 0, orders: [] },
    ...{ name: 'News', messenger: 'post', content: {}, audience: { audienceId: 'a' }, audienceId: 'a' },
    limits: { concurrency: 1, retry: { maxAttempts: 1, firstDelayMs: 1, maxDelayMs: 1 }, onUnknown: 'hold' },
    ...{ pages: 1, total: 10, freezeBase: 0, openedAt: new Date(Date.now() - 3_600_000), schemaVersion: 1 },
    ...more,
  });
}

const news = (key: string, kind: string, detail: Record<string, unknown> = {}): AlertNews => {
  return { key, kind, level: 'warning', message: key, detail };
};
const counts = { pending: 10, sending: 0, retrying: 0, sent: 0, failed: 0, skipped: 0, unknown: 0 };

test('whoever has just become the watchdog calls nothing over that it has not watched for long enough', async () => {
  await worker('live');
  const { id, runId } = await campaign();
  await run(runId);
  const late = new Date(Date.now() - 3_600_000);
  const due = await campaign({ status: 'scheduled', nextRunAt: late, openRuns: [] });
  const page = { runId, orderNo: 0, counts, deaths: 0, schemaVersion: 1, status: 'claimed' };
  const claim = (workerId: string) => ({
    token: workerId,
    seq: 1,
    workerId,
    ttlMs: 10_000,
    sendTimeoutMs: 1,
  });
  await db.collection('ledger_pages').insertMany([
    { ...page, _id: `${runId}:0` as never, n: 0, claim: claim('live') },
    { ...page, _id: `${runId}:1` as never, n: 1, claim: claim('ghost') },
  ]);
  const first = startProcess('first');
  const raised = [
    news(`run:stuck:${runId}`, 'run_stuck', { runId }),
    news(`campaign:overdue:${due.id}`, 'campaign_overdue'),
    news(`run:failure-rate:${runId}`, 'failure_rate', { runId }),
    news(`page:stuck:${runId}:0`, 'page_stuck', { runId, workerId: 'live' }),
    news('pages:orphaned', 'pages_orphaned'),
  ];
  for (const each of raised) await first.alerter.raise(each);
  await first.round();
  await first.stop();
  const second = startProcess('second');
  for (let n = 0; n < 3; n += 1) await second.round();
  expect([...first.told, ...second.told]).toEqual(raised.map(({ key }) => `+${key}`));

  // What moves is well again, at once.
  await db.collection<RunDoc>('campaign_runs').updateOne({ _id: runId }, { $set: { orderNo: 1 } });
  await db
    .collection('ledger_pages')
    .updateMany({ runId }, { $set: { 'claim.token': 'other', 'claim.workerId': 'live', orderNo: 1 } });
  await db
    .collection<CampaignDoc>('campaigns')
    .updateOne({ _id: new ObjectId(due.id) }, { $set: { status: 'cancelled' } });
  await second.round();
  const over = (key: string) => `-${key}`;
  expect(second.told.toSorted()).toEqual(
    raised.flatMap(({ key, kind }) => (kind === 'failure_rate' ? [] : [over(key)])).toSorted(),
  );
  // Nothing has failed for the length of the window.
  clock.advance(limits.failureWindowMs);
  await second.round();
  expect(second.told).toContain(over(`run:failure-rate:${runId}`));
  await db
    .collection<CampaignDoc>('campaigns')
    .updateOne({ _id: new ObjectId(id) }, { $set: { status: 'cancelled' } });
});

test('what a breaker holds is work as well; that no worker lives is not over because another process looks', async () => {
  await campaign({
    status: 'paused',
    statusReason: { code: 'breaker_open', messenger: 'post', at: new Date(), by: 'breaker' },
  });
  const first = startProcess('first');
  await first.round();
  await first.round();
  expect(first.told).toEqual(['+workers:none']);
  await first.stop();
  const second = startProcess('second');
  await second.round();
  await second.round();
  expect(second.told).toEqual([]);
  await worker('live');
  await second.round();
  expect(second.told).toEqual(['-workers:none']);
});

test('a worker that was ended by an error is told of, until another has taken its place', async () => {
  const at = new Date();
  const crash = { at, workerId: 'crashed', pid: 1, error: 'TypeError: x is not a function', stack: '' };
  await worker('crashed', { state: 'crashed', crash, heartbeatAt: new Date(at.getTime() - 9_000) });
  await worker('beside', { startedAt: new Date(at.getTime() - 1_000) });
  const { round, told } = startProcess('first');
  await round();
  expect(told).toEqual(['+worker:offline:crashed']);
  const alert = await db.collection('alerts').findOne({ _id: 'worker:offline:crashed' as never });
  expect(alert?.message).toMatch(/ended by an error \(TypeError: x is not a function\)/);
  await worker('successor', { startedAt: new Date(at.getTime() + 1_000) });
  await round();
  expect(told).toEqual(['+worker:offline:crashed', '-worker:offline:crashed']);
});

test('alerts of breakers that no worker ends any more', async () => {
  await worker('live', { messengers: [{ name: 'open', idempotent: false, reconciles: false }] });
  const common = { term: 3, openings: 1, evidence: {}, schemaVersion: 1 };
  const open = { ...common, state: 'open', openedAt: new Date(), detail: 'no', nextProbeAt: new Date() };
  const closed = { ...common, state: 'closed' };
  await db.collection('breakers').insertMany([
    { _id: 'open' as never, ...open },
    { _id: 'removed' as never, ...open },
    { _id: 'holds' as never, ...open },
    { _id: 'closed' as never, ...closed },
  ]);
  const statusReason = { code: 'breaker_open', messenger: 'holds', at: new Date(), by: 'breaker' };
  await campaign({ status: 'paused', messenger: 'holds', statusReason });
  const { round, told, alerter } = startProcess('first');
  const messengers = ['open', 'removed', 'holds', 'closed', 'deleted'];
  for (const messenger of messengers)
    await alerter.raise(news(`breaker:${messenger}`, 'breaker', { messenger }));
  told.length = 0;
  await round();
  expect(told).toEqual([]); // whoever closed it may be about to tell it
  await round();
  await round();
  expect(told.toSorted()).toEqual(['-breaker:closed', '-breaker:deleted', '-breaker:removed']);
});

test('recipients put aside by a worker that died before it told, a few runs in a round, until they are released', async () => {
  await worker('live');
  const runIds: string[] = [];
  for (let n = 0; n < 12; n += 1) {
    const { runId } = await campaign();
    const checkpoint = { done: 1, total: 10, sent: 0, failed: 0, errors: 1, canResume: true };
    await run(runId, { checkpoint });
    await db.collection('ledger_pages').insertOne({
      ...{ _id: `${runId}:0` as never, runId, n: 0, status: 'pending', orderNo: 0, deaths: 0 },
      ...{ counts: { ...counts, pending: 9, unknown: 1 }, schemaVersion: 1 },
      details: { 3: { code: 'quarantined' } },
    });
    runIds.push(runId);
  }
  const watched = await watchedConnection(uri);
  const on = await openStore({ mongo: watched.connection, collectionPrefix: '', journalDays: 90 });
  const { round, told, events, stop } = startProcess('first', on);
  const sums = () =>
    watched.answered.all.filter(
      ({ name, collection }) => name === 'aggregate' && collection === 'ledger_pages',
    ).length;
  const looks = async (): Promise<number> => {
    const from = sums();
    await round();
    return sums() - from;
  };
  expect(await looks()).toBe(5);
  expect(told).toHaveLength(5);
  await round();
  await round();
  const raised = runIds.map((runId) => `+quarantined:${runId}`);
  expect(told.toSorted()).toEqual(raised.toSorted());
  const alert = await db.collection('alerts').findOne({ _id: `quarantined:${runIds[0]}` as never });
  expect(alert?.detail).toEqual({ runId: runIds[0] });
  expect(await looks()).toBe(5);
  expect(told).toHaveLength(12);
  await db.collection('ledger_pages').updateMany({}, { $set: { details: {} } });
  for (let n = 0; n < 3; n += 1) await round();
  expect(told).toHaveLength(24);

  // A run that ends before anybody looked: the worker that closes it tells.
  const { id, runId } = await campaign({ status: 'completed', openRuns: [] });
  await run(runId, { status: 'finished' });
  await db.collection('ledger_pages').insertOne({
    ...{ _id: `${runId}:0` as never, runId, n: 0, status: 'done', orderNo: 0, deaths: 0, schemaVersion: 1 },
    ...{ counts: { ...counts, pending: 0, sent: 9, unknown: 1 }, details: { 1: { code: 'quarantined' } } },
  });
  const report = { total: 10, sent: 9, failed: 0, skipped: 0, unknown: 1 };
  events.emit('run:completed', {
    campaign: { id, name: 'News' },
    run: { id: runId, occurrence: 'once' },
    report,
  } as never);
  await expect.poll(() => told, PATIENCE).toContain(`+quarantined:${runId}`);
  await round();
  expect(told).toHaveLength(25);
  await stop();
});

test('books that contradict themselves in many runs: none is over before it was looked at again', async () => {
  await worker('live');
  const { round, told, alerter } = startProcess('first');
  const keys: string[] = [];
  const page = { n: 0, status: 'done', orderNo: 0, deaths: 0, schemaVersion: 1, states: 's' };
  const good = { ...page, counts: { ...counts, pending: 0, sent: 1 } };
  const others = Array.from({ length: 150 }, (_, n) => ({ ...good, _id: `x${n}` as never, runId: 'x' }));
  await db.collection('ledger_pages').insertMany(others);
  for (let n = 0; n < 60; n += 1) {
    const runId = `${new ObjectId().toHexString()}:once`;
    const _id = `${runId}:0`;
    const wrong = { ...page, counts: { ...good.counts, sent: 2 } };
    await db.collection('ledger_pages').insertOne({ ...wrong, _id: _id as never, runId });
    keys.push(`run:drift:${runId}`);
    await alerter.raise(news(`run:drift:${runId}`, 'ledger_drift', { runId, pageIds: [_id] }));
  }
  for (let n = 0; n < 2; n += 1) await round();
  expect(told.filter((line) => line.startsWith('-'))).toEqual([]);
  await db.collection('ledger_pages').updateMany({}, { $set: { 'counts.sent': 1 } });
  for (let n = 0; n < 12; n += 1) await round();
  expect(told.filter((line) => line.startsWith('-')).toSorted()).toEqual(
    keys.map((key) => `-${key}`).toSorted(),
  );
});

test('of a recurring campaign each run has an alert of its own', () => {
  const about = { campaignId: 'c', name: 'News' };
  const keys = ['c:1', 'c:2'].map((runId) => quarantinedNews({ ...about, runId }).key);
  expect(new Set(keys).size).toBe(2);
});
