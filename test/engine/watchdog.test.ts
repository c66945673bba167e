/**
 * The watchdog: each trouble is brought about for real, is told once, is put right where that can be done, and is cleared.
 * What is only slow, or waits for something, is left alone.
 */
import { ObjectId } from 'mongodb';
import { afterEach, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import type { SchedulerOptions } from '../../src/config.ts';
import { DeliveryError } from '../../src/messengers/messenger.ts';
import type { AlertDoc, AudienceDoc, LeaseDoc, WorkerDoc } from '../../src/store/documents.ts';
import { door } from '../queue/signals.ts';
import { watchedConnection } from '../support/commands.ts';
import { testDatabase } from '../support/mongo.ts';
import { startProxy } from '../support/proxy.ts';
import {
  campaignsOf,
  pagesOf,
  people,
  QUICK_TAKEOVER,
  type Rig,
  runsOf,
  SHORT,
  startRig,
  stopRig,
  tidyUpAfterEach,
} from './fixtures.ts';
import { newProvider, PATIENCE } from './provider.ts';
import { workerFields } from './worker-documents.ts';

const { db, uri, name } = await testDatabase();
tidyUpAfterEach(db);
const alerts = db.collection<AlertDoc>('alerts');
const workers = db.collection<WorkerDoc>('workers');

const EVERY_MS = 150;
/** Long enough that a busy machine, which may stand still for seconds, is not taken for the trouble. */
const STUCK_MS = 4_000;
const BUSY_MONGO = { slowMongoMs: 60_000 } as const;
const QUICK = {
  sendTimeoutMs: 3_000,
  workerOfflineAfterMs: 60_000,
  lockLifetimeMs: 2_000,
  watchdog: { everyMs: EVERY_MS, stuckAfterMs: STUCK_MS, ...BUSY_MONGO },
  alerts: { cooldownMs: 0 },
} as const satisfies Partial<SchedulerOptions>;
/** Who is silent is soon offline. */
const IMPATIENT = { ...QUICK, workerOfflineAfterMs: 6_000 };
/** Sends may take their time. */
const PATIENT = { watchdog: { everyMs: EVERY_MS, ...BUSY_MONGO }, alerts: { cooldownMs: 0 } } as const;

/** What all these processes told, in order: `+key`, `-key`. */
function listen(...rigs: Rig[]) {
  const told: string[] = [];
  const add = ({ scheduler }: Rig): void => {
    scheduler.on('alert:raised', ({ alert }) => told.push(`+${alert.key}`));
    scheduler.on('alert:cleared', ({ alert }) => told.push(`-${alert.key}`));
  };
  for (const rig of rigs) add(rig);
  return {
    told,
    add,
    until: (line: string) => expect.poll(() => told, PATIENCE).toContain(line),
    /** Everything else that was told. */
    others: (...keys: string[]) => told.filter((line) => !keys.includes(line.slice(1))),
  };
}

/** The watchdog has looked so often since. */
async function looks(count: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  const read = async () =>
    (await db.collection<LeaseDoc>('leases').findOne({ _id: 'watchdog' as never }))?.expiresAt;
  for (let n = 0; n < count; n += 1) {
    const before = await read();
    await expect.poll(async () => (await read())?.getTime(), PATIENCE).not.toBe(before?.getTime());
  }
}

const playing: (() => Promise<void>)[] = [];
afterEach(() => Promise.all(playing.splice(0).map((end) => end())));

/** A worker that says that it lives and does nothing. */
async function playWorker(id: string, more: Partial<WorkerDoc> = {}): Promise<() => Promise<void>> {
  const beat = async (): Promise<void> => {
    await workers.updateOne(
      { _id: id },
      {
        $set: workerFields({
          messengers: [{ name: 'post', idempotent: false, reconciles: false }],
          pagesHeld: 1,
          ...more,
        }),
        $currentDate: { heartbeatAt: true },
      },
      { upsert: true },
    );
    await pagesOf(db).updateMany({ 'claim.workerId': id }, { $inc: { 'claim.seq': 1 } });
  };
  let ended = false;
  const live = async (): Promise<void> => {
    while (!ended) {
      await beat();
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };
  await beat();
  const living = live();
  const end = (): Promise<void> => {
    ended = true;
    return living;
  };
  playing.push(end);
  return end;
}

/** The only page of this campaign is held by `workerId`. */
async function playClaim(id: string, workerId: string, ttlMs = 60_000): Promise<void> {
  const claim = { token: `played-${workerId}`, seq: 0, workerId, ttlMs, sendTimeoutMs: 500 };
  const page = () =>
    pagesOf(db).updateOne(
      { runId: `${id}:once`, status: { $ne: 'done' } },
      { $set: { status: 'claimed', claim } },
    );
  await expect.poll(async () => (await page()).matchedCount, PATIENCE).toBe(1);
}

test('no worker for the work that is there, and pages that nobody takes over', async () => {
  const api = await startRig(uri, { worker: false, ...QUICK });
  const heard = listen(api);
  const { id } = await api.create({ sendAt: new Date(Date.now() - 10_000), audience: people(10) });
  await heard.until('+workers:none');
  const opener = await startRig(uri, { messengers: {}, ...QUICK });
  const fromOpener = listen(opener);
  await fromOpener.until('-workers:none');
  await expect.poll(() => pagesOf(db).countDocuments({}), PATIENCE).toBe(1);
  await stopRig(opener);
  await playClaim(id, 'ghost', 1_000);
  await heard.until('+pages:orphaned');
  expect(heard.told.filter((line) => line === '+workers:none')).toHaveLength(2);
  const worker = await startRig(uri, { ...QUICK, ...QUICK_TAKEOVER });
  const fromWorker = listen(worker);
  await worker.until(id, 'completed');
  await fromWorker.until('-pages:orphaned');
  await fromWorker.until('-workers:none');
});

test('a worker that cannot be heard is marked offline, and runs again when it can', async () => {
  const proxy = await startProxy(uri);
  const leader = await startRig(uri, IMPATIENT);
  await looks(1);
  const lonely = await startRig(
    `${proxy.uriFor(name)}&serverSelectionTimeoutMS=5000`.replace('?&', '?'),
    QUICK,
  );
  const { workerId } = lonely.scheduler;
  const heard = listen(leader, lonely);
  const offline = leader.signals('worker:offline');
  proxy.refuse();
  proxy.cut();
  await heard.until(`+worker:offline:${workerId}`);
  expect(await offline.next()).toMatchObject({ workerId, pid: process.pid });
  expect((await workers.findOne({ _id: workerId }))?.state).toBe('offline');
  proxy.accept();
  await heard.until(`-worker:offline:${workerId}`);
  expect((await workers.findOne({ _id: workerId }))?.state).toBe('running');
  expect(heard.told).toEqual([`+worker:offline:${workerId}`, `-worker:offline:${workerId}`]);
  await stopRig(lonely);
  await proxy.stop();
});

test('what an offline worker held is released: pages, alarms and sources', async () => {
  const opener = await startRig(uri, { messengers: {}, audiences: { list: () => [] }, ...IMPATIENT });
  const api = await startRig(uri, { worker: false, ...IMPATIENT });
  const { id } = await api.create({ audience: people(10) });
  const later = await api.create({ sendAt: new Date(Date.now() + 3_600_000) });
  await expect.poll(() => pagesOf(db).countDocuments({}), PATIENCE).toBe(1);
  await stopRig(opener);
  const end = await playWorker('dead');
  await playClaim(id, 'dead', 600_000);
  const locked = { lockedAt: new Date(Date.now() + 3_600_000), lockToken: 't', lastModifiedBy: 'dead' };
  await db.collection('agendaJobs').updateOne({ 'data.campaignId': later.id }, { $set: locked });
  const audiences = db.collection<AudienceDoc>('audiences');
  await audiences.insertOne({
    _id: 'x:once:1',
    owner: { kind: 'run', runId: 'x:once', attempt: 1 },
    state: 'freezing',
    lease: { token: 't', seq: 1, workerId: 'dead', ttlMs: 600_000 },
    pages: 0,
    total: 0,
    duplicates: 0,
    rejected: { count: 0, first: [] },
    touchedAt: new Date(),
    schemaVersion: 1,
  });
  const worker = await startRig(uri, IMPATIENT);
  const takenOver = worker.signals('page:taken-over');
  await looks(2);
  expect((await pagesOf(db).findOne({}))?.claim?.workerId).toBe('dead');
  await end();
  await worker.until(id, 'completed');
  expect(takenOver.all).toMatchObject([{ fromWorkerId: 'dead' }]);
  await expect
    .poll(
      () => db.collection('agendaJobs').countDocuments({ lastModifiedBy: 'dead', lockedAt: { $ne: null } }),
      PATIENCE,
    )
    .toBe(0);
  await expect
    .poll(async () => (await audiences.findOne({ _id: 'x:once:1' }))?.state, PATIENCE)
    .toBe('failed');
  await audiences.deleteOne({ _id: 'x:once:1' });
});

test('a clock that is an hour off', async () => {
  const leader = await startRig(uri, QUICK);
  const clock = { ...systemClock, now: () => new Date(Date.now() + 3_600_000) };
  const skewed = await startRig(uri, { clock, ...QUICK });
  const key = `worker:clock:${skewed.scheduler.workerId}`;
  const heard = listen(leader, skewed);
  await heard.until(`+${key}`);
  expect((await alerts.findOne({ _id: key }))?.message).toMatch(/3600 s ahead of/);
  await stopRig(skewed);
  await heard.until(`-${key}`);
  expect(heard.told).toEqual([`+${key}`, `-${key}`]);
});

test('a slow MongoDB', async () => {
  const proxy = await startProxy(uri);
  const rig = await startRig(proxy.uriFor(name), {
    ...QUICK,
    watchdog: { ...QUICK.watchdog, slowMongoMs: 100 },
  });
  const heard = listen(rig);
  await looks(1);
  // On a busy machine it may be slow for a moment before and after as well.
  const last = () => heard.told.at(-1);
  proxy.delay(150);
  await expect.poll(last, PATIENCE).toBe('+mongo:slow');
  proxy.delay(0);
  await expect.poll(last, PATIENCE).toBe('-mongo:slow');
  expect(heard.others('mongo:slow')).toEqual([]);
  await stopRig(rig);
  await proxy.stop();
});

test('many failures, and a high rate of them', async () => {
  const rig = await startRig(uri, PATIENT);
  const heard = listen(rig);
  const gate = door();
  let broken = true;
  rig.provider.plan(async ({ recipient }) => {
    const n = Number(recipient.id.slice(1));
    if (n < 25 && broken) throw new DeliveryError('permanent', 'no such mailbox');
    if (n >= 40) await gate.opened;
  });
  const { id } = await rig.create({ audience: people(60), concurrency: 60 });
  const [failed, rate] = [`run:failed:${id}:once`, `run:failure-rate:${id}:once`];
  await heard.until(`+${failed}`);
  await heard.until(`+${rate}`);
  expect(await alerts.findOne({ _id: failed })).toMatchObject({
    campaignId: id,
    message: expect.stringMatching(/^News: \d+ of 60 recipients have failed/),
  });
  gate.open();
  await rig.until(id, 'completed');
  await heard.until(`-${rate}`);
  await looks(2);
  expect(heard.told).not.toContain(`-${failed}`); // it is over, and nobody has seen it yet
  broken = false;
  await rig.scheduler.campaigns.retryFailed(id);
  await heard.until(`-${failed}`);
  await rig.until(id, 'completed');
  expect(heard.told.toSorted()).toEqual([`+${failed}`, `+${rate}`, `-${failed}`, `-${rate}`].toSorted());
});

test('failures of a run that was over between two rounds, until somebody has seen them', async () => {
  const rig = await startRig(uri, { ...PATIENT, watchdog: { everyMs: 400, ...BUSY_MONGO } });
  const heard = listen(rig);
  rig.provider.plan(() => Promise.reject(new DeliveryError('permanent', 'no such mailbox')));
  const { id } = await rig.create({ audience: people(11) });
  const key = `run:failed:${id}:once`;
  await heard.until(`+${key}`);
  await rig.until(id, 'completed');
  await rig.scheduler.alerts.acknowledge(key, { by: 'ann' });
  await heard.until(`-${key}`);
  expect(heard.told).toEqual([`+${key}`, `-${key}`]);
});

test('books that contradict themselves: of a page, and of a report', async () => {
  const rig = await startRig(uri, PATIENT);
  const heard = listen(rig);
  const { id } = await rig.create({ audience: people(30) });
  await rig.until(id, 'completed');
  const key = `run:drift:${id}:once`;
  await pagesOf(db).updateOne({ _id: `${id}:once:1` }, { $set: { 'counts.sent': 9 } });
  await heard.until(`+${key}`);
  expect((await alerts.findOne({ _id: key }))?.detail).toMatchObject({ pageIds: [`${id}:once:1`] });
  await pagesOf(db).updateOne({ _id: `${id}:once:1` }, { $set: { 'counts.sent': 10 } });
  await heard.until(`-${key}`);
  await runsOf(db).updateOne({ _id: `${id}:once` }, { $set: { 'report.sent': 29 } });
  await expect.poll(() => heard.told.filter((line) => line === `+${key}`).length, PATIENCE).toBe(2);
  await runsOf(db).updateOne({ _id: `${id}:once` }, { $set: { 'report.sent': 30 } });
  await expect.poll(() => heard.told.filter((line) => line === `-${key}`).length, PATIENCE).toBe(2);
});

test('a page that was put aside, by a worker that died before it told, until it is released', async () => {
  const rig = await startRig(uri, { ...PATIENT, messengers: {} });
  const { told, add, until, others } = listen(rig);
  const author = await startRig(uri, { worker: false });
  const { id } = await author.create({ audience: people(10) });
  await expect.poll(() => pagesOf(db).countDocuments(), PATIENCE).toBe(1);
  await pagesOf(db).updateOne({}, { $set: { status: 'parked', deaths: 3 } });
  const key = `parked:${id}:once:0`;
  await until(`+${key}`);
  await looks(2);
  await author.scheduler.campaigns.releaseParked(id);
  add(await startRig(uri, { ...PATIENT }));
  await until(`-${key}`);
  await author.until(id, 'completed');
  expect(others(key)).toEqual([]);
  expect(told).toEqual([`+${key}`, `-${key}`]);
});

test('a run that no worker can send, then a page of which nothing becomes', async () => {
  const opener = await startRig(uri, { messengers: {}, ...QUICK });
  const api = await startRig(uri, { worker: false, ...QUICK });
  const heard = listen(opener);
  const { id } = await api.create({ audience: people(10) });
  const [run, page] = [`run:stuck:${id}:once`, `page:stuck:${id}:once:0`];
  await heard.until(`+${run}`);
  expect((await alerts.findOne({ _id: run }))?.detail).toMatchObject({ code: 'no_worker_for_messenger' });
  // A worker that has it takes the page, renews its hold, and does nothing.
  await playWorker('hung');
  await playClaim(id, 'hung', 1_000);
  await heard.until(`-${run}`);
  const worker = await startRig(uri, QUICK);
  heard.add(worker);
  await heard.until(`+${page}`);
  await worker.until(id, 'completed');
  await heard.until(`-${page}`);
  expect(worker.provider.left).toHaveLength(10);
  expect(heard.told).toEqual([`+${run}`, `-${run}`, `+${page}`, `-${page}`]);
});

test('what a living holder may still hand over is sent again only when it no longer can', async () => {
  const opener = await startRig(uri, { messengers: {}, ...QUICK });
  const api = await startRig(uri, { worker: false, ...QUICK });
  const { id } = await api.create({ audience: people(10), onUnknown: 'resend' });
  await expect.poll(() => pagesOf(db).countDocuments({}), PATIENCE).toBe(1);
  await stopRig(opener);
  await playWorker('hung');
  await playClaim(id, 'hung', 1_000);
  const counts = { pending: 9, sending: 1, retrying: 0, sent: 0, failed: 0, skipped: 0, unknown: 0 };
  const attempts = Uint8Array.from({ length: 10 }, (_, index) => (index === 0 ? 1 : 0));
  const inFlight = { states: '>.........', at: new Uint8Array(60), attempts, counts };
  await pagesOf(db).updateOne({}, { $set: inFlight });
  const watched = await watchedConnection(uri);
  const worker = await startRig(watched.connection, QUICK);
  const taken = worker.signals('page:taken-over');
  await taken.next();
  const { claimMarginMs } = SHORT;
  const takeover = watched.answered.all.find(
    ({ command }) => command.query?.['claim.token'] === 'played-hung',
  );
  expect(takeover?.command.update.$set).toMatchObject({
    unsettled: [{ token: 'played-hung', recipients: [0], waitMs: 1_000 + 500 + claimMarginMs }],
    // It lives: there was no death that the page, or who was in flight, may be to blame for.
    deaths: 0,
  });
  expect(JSON.stringify(takeover?.command.update)).not.toMatch(/"deaths":[1-9]/);
  await worker.until(id, 'completed');
  expect(worker.provider.calls.all.at(-1)).toMatchObject({ recipient: { id: 'p0' }, attempt: 2 });
  expect(worker.provider.left).toHaveLength(10);
});

test('a source that gives no more rows is read anew; one that is only slow is left alone', async () => {
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  let hung = 0;
  const audiences = {
    hangs: async function* () {
      hung += 1;
      yield* people(3);
      await new Promise(() => undefined);
    },
    slow: async function* () {
      for (const row of people(12)) {
        await pause(500);
        yield row;
      }
    },
  };
  const rig = await startRig(uri, { audiences, claimTtlMs: 4_500, ...QUICK });
  const heard = listen(rig);
  const slow = await rig.create({ audience: { source: 'slow' } });
  const hangs = await rig.create({ audience: { source: 'hangs' } });
  const key = `freeze:stuck:${hangs.id}:once`;
  // The fourth attempt of another, which gives no first row either, has eight times as long.
  const freezings = db.collection<AudienceDoc>('audiences');
  await freezings.insertOne({
    ...{ _id: 'x:once:4', owner: { kind: 'run', runId: 'x:once', attempt: 4 }, state: 'freezing', pages: 0 },
    lease: { token: 't', seq: 1, workerId: rig.scheduler.workerId, ttlMs: 600_000 },
    ...{ total: 0, duplicates: 0, rejected: { count: 0, first: [] }, rowsRead: 0, schemaVersion: 1 },
    touchedAt: new Date(),
  });
  await heard.until(`+${key}`);
  expect((await freezings.findOne({ _id: 'x:once:4' }))?.state).toBe('freezing');
  await freezings.deleteOne({ _id: 'x:once:4' });
  await heard.until(`-${key}`);
  const first = await db.collection<AudienceDoc>('audiences').findOne({ _id: `${hangs.id}:once:1` });
  expect(first).toMatchObject({ state: 'failed', rowsRead: 3 });
  await rig.scheduler.campaigns.cancel(hangs.id);
  await rig.until(slow.id, 'completed');
  expect(rig.provider.left).toHaveLength(12);
  expect(hung).toBe(1);
  expect(heard.told).toEqual([`+${key}`, `-${key}`]);
});

test('an alarm that a worker took with it, and a campaign whose alarm is switched off', async () => {
  const rig = await startRig(uri, QUICK);
  const heard = listen(rig);
  const jobs = db.collection('agendaJobs');
  const taken = await rig.create({ sendAt: new Date(Date.now() + 3_600_000) });
  const locked = { lockedAt: new Date(Date.now() + 3_600_000), lockToken: 't', lastModifiedBy: 'ghost' };
  await jobs.updateOne({ 'data.campaignId': taken.id }, { $set: locked });
  const off = await rig.create({ sendAt: new Date(Date.now() + 3_600_000), audience: people(10, 'q') });
  await jobs.updateOne({ 'data.campaignId': off.id }, { $set: { disabled: true } });
  await campaignsOf(db).updateOne(
    { _id: new ObjectId(off.id) },
    { $set: { nextRunAt: new Date(Date.now() - 60_000) } },
  );
  const [alarm, overdue] = [`alarm:stuck:${taken.id}`, `campaign:overdue:${off.id}`];
  await heard.until(`+${alarm}`);
  await heard.until(`-${alarm}`);
  await heard.until(`+${overdue}`);
  await jobs.updateOne({ 'data.campaignId': off.id }, { $set: { disabled: null } });
  await heard.until(`-${overdue}`);
  await rig.until(off.id, 'completed');
  const held = { lastModifiedBy: 'ghost', lockedAt: { $ne: null } };
  await expect.poll(() => jobs.countDocuments(held), PATIENCE).toBe(0);
  expect(heard.others(alarm, overdue)).toEqual([]);
});

test('what is slow but moves, and what waits for its rate, is left alone', async () => {
  const rig = await startRig(uri, { claimTtlMs: 20_000, ...QUICK });
  const heard = listen(rig);
  const taken = rig.signals('page:taken-over');
  rig.provider.plan(
    ({ campaign }) =>
      campaign.name === 'slow' && new Promise((resolve) => setTimeout(() => resolve(undefined), 600)),
  );
  const slow = await rig.create({ name: 'slow', audience: people(9), concurrency: 1 });
  // Its page is held all the time: the next token is never as far away as a claim lasts.
  const limited = await rig.create({ name: 'limited', audience: people(3, 'r'), rate: { perMinute: 10 } });
  await rig.until(slow.id, 'completed');
  await rig.until(limited.id, 'completed');
  expect(heard.told).toEqual([]);
  expect(taken.all).toEqual([]);
  rig.provider.expectNobodyTwice();
});

test('a page that is held while the campaign waits for its rate is not taken, however long nothing becomes of it', async () => {
  const rig = await startRig(uri, QUICK);
  const heard = listen(rig);
  const { id } = await rig.create({ audience: people(10), rate: { perHour: 1 } });
  // Sent or, on a busy machine, not used within its second: the only token of this hour is gone.
  await expect.poll(() => db.collection('rates').countDocuments(), PATIENCE).toBe(1);
  await expect.poll(() => pagesOf(db).countDocuments({ status: 'pending' }), PATIENCE).toBe(1);
  const end = await playWorker('patient');
  await playClaim(id, 'patient', 1_000);
  await looks(Math.ceil((2 * STUCK_MS) / EVERY_MS));
  expect((await pagesOf(db).findOne({}))?.claim?.workerId).toBe('patient');
  expect(heard.told).toEqual([]);
  await end();
  await pagesOf(db).updateOne({}, { $set: { status: 'pending' }, $unset: { claim: '' } });
  await rig.scheduler.campaigns.cancel(id);
  await rig.until(id, 'cancelled');
});

test('two watchdogs at once tell and do everything once', async () => {
  const rigs = await Promise.all([startRig(uri, IMPATIENT), startRig(uri, IMPATIENT)]);
  const leases = db.collection<LeaseDoc>('leases');
  // As if the leader had been stopped and woke up, again and again.
  const timer = setInterval(
    () => void leases.updateOne({ _id: 'watchdog' }, { $set: { expiresAt: new Date(0) } }),
    20,
  );
  const heard = listen(...rigs);
  const offline = rigs.map((rig) => rig.signals('worker:offline'));
  const end = await playWorker('dead');
  await end();
  const [first] = rigs as [Rig, Rig];
  for (const { provider } of rigs) provider.plan(() => Promise.reject(new DeliveryError('permanent', 'no')));
  const { id } = await first.create({ audience: people(12) });
  await heard.until('+worker:offline:dead');
  await heard.until(`+run:failed:${id}:once`);
  await workers.deleteOne({ _id: 'dead' });
  await heard.until('-worker:offline:dead');
  await first.scheduler.alerts.acknowledge(`run:failed:${id}:once`, { by: 'ann' });
  await heard.until(`-run:failed:${id}:once`);
  clearInterval(timer);
  expect(offline.flatMap(({ all }) => all)).toHaveLength(1);
  expect(heard.told).toHaveLength(new Set(heard.told).size);
  expect(heard.others('worker:offline:dead', `run:failed:${id}:once`, `run:failure-rate:${id}:once`)).toEqual(
    [],
  );
});

test('a check that throws stops no other, and is told once', async () => {
  const provider = newProvider();
  const gate = provider.hold();
  const rig = await startRig(uri, { provider, ...PATIENT });
  const heard = listen(rig);
  const { id } = await rig.create({ audience: people(20) });
  await provider.calls.next();
  const run = await runsOf(db).findOneAndUpdate({ _id: `${id}:once` }, { $unset: { openedAt: '' } });
  const lines = (text: string) => rig.log.filter(({ message }) => message.includes(text));
  await expect.poll(() => lines('a check of the watchdog failed'), PATIENCE).toHaveLength(1);
  await playWorker('skewed', { clockSkewMs: 60_000 });
  await heard.until('+worker:clock:skewed');
  await looks(3);
  expect(lines('a check of the watchdog failed')).toMatchObject([{ fields: { check: 'failures' } }]);
  await runsOf(db).updateOne({ _id: `${id}:once` }, { $set: { openedAt: run?.openedAt as Date } });
  await expect.poll(() => lines('works again'), PATIENCE).toHaveLength(1);
  gate.open();
  await rig.until(id, 'completed');
});

test('a round is a dozen questions, and one where another process watches', async () => {
  const watched = await watchedConnection(uri);
  const rig = await startRig(watched.connection, {
    worker: false,
    heartbeatMs: 30_000,
    workerOfflineAfterMs: 90_000,
    watchdog: { everyMs: EVERY_MS, ...BUSY_MONGO },
  });
  await campaignsOf(db).insertMany(
    Array.from(
      { length: 50 },
      (_, n) =>
        ({ name: `c${n}`, status: 'scheduled', nextRunAt: new Date(Date.now() + 3_600_000) }) as never,
    ),
  );
  await looks(1);
  const { all } = watched.answered;
  const renewals = (from: number) =>
    all.slice(from).filter(({ name, collection }) => name === 'findAndModify' && collection === 'leases');
  const from = all.length;
  await expect.poll(() => renewals(from).length, PATIENCE).toBeGreaterThanOrEqual(5);
  const rounds = renewals(from).length;
  expect(all.length - from).toBeLessThanOrEqual(13 * (rounds + 1));
  await playWorker('other');
  await expect
    .poll(() => all.slice(-2).map(({ collection }) => collection), PATIENCE)
    .toEqual(['workers', 'workers']);
  const later = all.length;
  await expect.poll(() => all.length, PATIENCE).toBeGreaterThanOrEqual(later + 4);
  expect(new Set(all.slice(later).map(({ collection }) => collection))).toEqual(new Set(['workers']));
  await stopRig(rig);
});

test('the state of the whole stands in the log', async () => {
  const provider = newProvider();
  const gate = provider.hold();
  const rig = await startRig(uri, { provider, watchdog: { everyMs: EVERY_MS, statusEveryMs: EVERY_MS } });
  const { id } = await rig.create({ audience: people(30), concurrency: 3 });
  const status = () => rig.log.filter(({ message }) => message === 'status').map(({ fields }) => fields);
  await expect
    .poll(() => status().at(-1), PATIENCE)
    .toEqual({ workers: 1, campaigns: 1, pending: 27, processing: 3, failed: 0 });
  gate.open();
  await rig.until(id, 'completed');
});
