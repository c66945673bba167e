/** Pause, resume, reschedule and cancel: what each does to a campaign at work, and what it leaves alone. */
import { describe, expect, it } from 'vitest';
import { insertLedgerPages } from '../../src/store/ledger-pages.ts';
import { door } from '../queue/signals.ts';
import { testDatabase } from '../support/mongo.ts';
import {
  campaignsOf,
  inHours,
  pagesOf,
  people,
  runsOf,
  startRig,
  testStore,
  tidyUpAfterEach,
} from './fixtures.ts';
import { newProvider, PATIENCE } from './provider.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const untilNothingIsHeld = () =>
  expect.poll(() => pagesOf(db).countDocuments({ status: 'claimed' }), PATIENCE).toBe(0);
const untilBooksClosed = () =>
  expect.poll(() => campaignsOf(db).countDocuments({ 'openRuns.0': { $exists: true } }), PATIENCE).toBe(0);

describe('pause', () => {
  it('starts nothing more, records what is in flight; resume sends the rest', async () => {
    const { scheduler, provider, create, until } = await startRig(uri);
    const gate = provider.hold();
    const { id } = await create({ audience: people(120), concurrency: 3 });
    await provider.calls.count(3);
    const paused = await scheduler.campaigns.pause(id, { by: 'ann', reason: 'typo' });
    expect(paused).toMatchObject({
      status: 'paused',
      statusReason: { code: 'paused', by: 'ann', detail: 'typo' },
    });
    gate.open();
    await untilNothingIsHeld();
    const begun = provider.calls.all.length;
    // What was counted a moment ago may be told once more.
    await expect
      .poll(() => scheduler.campaigns.progress(id), PATIENCE)
      .toMatchObject({ sent: begun, sending: 0, pending: 120 - begun });
    const resumed = await scheduler.campaigns.resume(id);
    expect(resumed.status).toBe('processing');
    expect(resumed.statusReason).toBeUndefined();
    await until(id, 'completed');
    expect(provider.left).toHaveLength(120);
    provider.expectNobodyTwice();
  });

  it('before the time: it is not started while paused, and starts late when resumed', async () => {
    const { scheduler, provider, create, until, signals } = await startRig(uri);
    const started = signals('campaign:started');
    const { id } = await create({ sendAt: inHours(1) });
    await scheduler.campaigns.pause(id);
    await scheduler.campaigns.reschedule(id, inHours(-1));
    expect((await scheduler.campaigns.find(id))?.status).toBe('paused');
    await expect.poll(() => db.collection('agendaJobs').countDocuments(), PATIENCE).toBe(1); // at its old time
    expect(await scheduler.campaigns.resume(id)).toMatchObject({ status: 'scheduled' });
    expect((await started.next()).lateMs).toBeGreaterThan(3_500_000);
    await until(id, 'completed');
    expect(provider.left).toHaveLength(30);
  });

  it('twice, or of what is over, is refused with the status and what would be possible', async () => {
    const { scheduler, create, until } = await startRig(uri);
    const { id } = await create({ sendAt: inHours(1) });
    await scheduler.campaigns.pause(id);
    await expect(scheduler.campaigns.pause(id)).rejects.toMatchObject({
      code: 'refused',
      details: { action: 'pause', status: 'paused', id },
      message: expect.stringContaining('it is paused; possible when scheduled, processing'),
    });
    await scheduler.campaigns.reschedule(id, inHours(-1));
    await scheduler.campaigns.resume(id);
    await until(id, 'completed');
    await expect(scheduler.campaigns.pause(id)).rejects.toMatchObject({ code: 'refused' });
    await expect(scheduler.campaigns.pause('000000000000000000000000')).rejects.toMatchObject({
      code: 'not_found',
    });
    await expect(scheduler.campaigns.pause('nonsense')).rejects.toMatchObject({ code: 'not_found' });
  });
});

describe('reschedule', () => {
  it('to an earlier time starts then; a started campaign refuses', async () => {
    const { scheduler, provider, create, until } = await startRig(uri);
    const gate = provider.hold();
    const { id } = await create({ sendAt: inHours(5) });
    await scheduler.campaigns.reschedule(id, new Date());
    await provider.calls.next();
    await expect(scheduler.campaigns.reschedule(id, inHours(1))).rejects.toMatchObject({ code: 'refused' });
    await scheduler.campaigns.pause(id);
    await expect(scheduler.campaigns.reschedule(id, inHours(1))).rejects.toThrow('it has started');
    await scheduler.campaigns.resume(id);
    gate.open();
    await until(id, 'completed');
  });

  it('to a later time: the alarm rings early, looks, and is set again', async () => {
    const { scheduler, create } = await startRig(uri, { worker: false });
    const { id } = await create({ sendAt: new Date(Date.now() + 1_500) });
    const later = inHours(2);
    await scheduler.campaigns.reschedule(id, later);
    const worker = await startRig(uri);
    const alarm = { 'data.campaignId': id, nextRunAt: later, lockedAt: null };
    await expect.poll(() => db.collection('agendaJobs').countDocuments(alarm), PATIENCE).toBe(1);
    expect(worker.provider.calls.all).toEqual([]);
    expect(await scheduler.campaigns.find(id)).toMatchObject({ status: 'scheduled', sendAt: later });
  });

  it('a draft waits for its schedule', async () => {
    const { scheduler, provider, create, until } = await startRig(uri);
    const { id } = await create({ draft: true });
    expect((await scheduler.campaigns.find(id))?.status).toBe('draft');
    await expect(scheduler.campaigns.resume(id)).rejects.toMatchObject({ code: 'refused' });
    await scheduler.campaigns.schedule(id);
    await until(id, 'completed');
    expect(provider.left).toHaveLength(30);
  });
});

describe('cancel', () => {
  it('skips whoever was not handed over, records who was, and ends the run', async () => {
    const { scheduler, provider, create, signals } = await startRig(uri);
    const cancelled = signals('campaign:cancelled');
    const gate = provider.hold();
    const { id } = await create({ audience: people(100), concurrency: 4 });
    await provider.calls.count(4);
    expect((await scheduler.campaigns.cancel(id, { by: 'ann' })).status).toBe('cancelled');
    await cancelled.next();
    gate.open();
    await untilBooksClosed();
    const sent = provider.left.length;
    expect(await scheduler.campaigns.report(id)).toMatchObject({ total: 100, sent, skipped: 100 - sent });
    expect((await runsOf(db).findOne())?.status).toBe('cancelled');
    const [last] = (await scheduler.campaigns.listDeliveries(id, { state: 'skipped' })).deliveries;
    expect(last?.code).toBe('cancelled');
    await expect.poll(() => db.collection('agendaJobs').countDocuments(), PATIENCE).toBe(0);
    await expect(scheduler.campaigns.cancel(id)).rejects.toMatchObject({ code: 'refused' });
    await expect(scheduler.campaigns.resume(id)).rejects.toMatchObject({ code: 'refused' });
  });

  it.each([
    ['fails and would be tried again', () => Promise.reject(new Error('full'))],
    [
      'finds the provider sick',
      () => Promise.reject(Object.assign(new Error('no'), { code: 'ECONNREFUSED' })),
    ],
    [
      'breaks on the way, under resend',
      () => Promise.reject(Object.assign(new Error('no'), { code: 'EPIPE' })),
    ],
  ])('while a send %s: the run ends all the same', async (_what, plan) => {
    const { scheduler, provider, create } = await startRig(uri);
    provider.plan(plan);
    const gate = provider.hold();
    const { id } = await create({ audience: people(20), concurrency: 2, onUnknown: 'resend' });
    await provider.calls.count(2);
    await scheduler.campaigns.cancel(id);
    await expect
      .poll(() => pagesOf(db).countDocuments({ 'counts.skipped': { $gt: 0 } }), PATIENCE)
      .toBeGreaterThan(0);
    gate.open();
    await untilBooksClosed();
    const report = await scheduler.campaigns.report(id);
    expect((report?.skipped ?? 0) + (report?.unknown ?? 0)).toBe(20);
    expect(provider.calls.all).toHaveLength(2);
  });

  it('of a paused campaign skips the rest', async () => {
    const { scheduler, provider, create } = await startRig(uri);
    const gate = provider.hold();
    const { id } = await create({ audience: people(40), concurrency: 1 });
    await provider.calls.count(1);
    await scheduler.campaigns.pause(id);
    gate.open();
    await untilNothingIsHeld();
    await scheduler.campaigns.cancel(id);
    await untilBooksClosed();
    expect(await scheduler.campaigns.report(id)).toMatchObject({ sent: provider.left.length, total: 40 });
  });

  it('before the time leaves neither run nor alarm', async () => {
    const { scheduler, create } = await startRig(uri);
    const { id } = await create({ sendAt: inHours(1) });
    await scheduler.campaigns.cancel(id);
    await scheduler.campaigns.list({ status: 'cancelled' });
    expect(await runsOf(db).countDocuments()).toBe(0);
    expect(await scheduler.campaigns.progress(id)).toBeNull();
  });

  it('while its audience is being read: the run ends, and what was prepared does not hold it up', async () => {
    const reading = door();
    const source = async function* () {
      await reading.opened;
      yield* people(30);
    };
    const provider = newProvider();
    const { scheduler, create, until } = await startRig(uri, { provider, audiences: { slow: source } });
    const { id } = await create({ audience: { source: 'slow' } });
    await until(id, 'processing');
    await expect.poll(() => runsOf(db).countDocuments({ status: 'freezing' }), PATIENCE).toBe(1);
    const store = await testStore(uri);
    await insertLedgerPages(store, `${id}:once`, 3); // as an adoption that did not come to its end
    await store.close();
    await scheduler.campaigns.cancel(id);
    await untilBooksClosed();
    reading.open();
    expect((await runsOf(db).findOne())?.status).toBe('cancelled');
    expect(provider.calls.all).toEqual([]);
  });
});
