/** Orders about outcomes: another round for who failed, and a person's word on who is unknown. */
import { describe, expect, it } from 'vitest';
import type { Resolution } from '../../src/core/orders.ts';
import { DeliveryError } from '../../src/messengers/messenger.ts';
import { door } from '../queue/signals.ts';
import { testDatabase } from '../support/mongo.ts';
import {
  campaignsOf,
  inHours,
  NO_BREAKER,
  people,
  type Rig,
  runsOf,
  startRig,
  tidyUpAfterEach,
} from './fixtures.ts';
import { PATIENCE } from './provider.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const untilBooksClosed = () =>
  expect.poll(() => campaignsOf(db).countDocuments({ 'openRuns.0': { $exists: true } }), PATIENCE).toBe(0);

/** Recipients `p0` to `p4` meet the fate, the others of 45 are sent. */
function plan({ provider }: Rig, fate: () => never): void {
  provider.plan(({ recipient }) => (/^p[0-4]$/.test(recipient.id) ? fate() : undefined));
}
const permanently = (): never => {
  throw new DeliveryError('permanent', 'no such mailbox', { code: '550' });
};
const silently = (): never => {
  throw new DeliveryError('unknown', 'silence');
};
const FIVE = ['p0', 'p1', 'p2', 'p3', 'p4'];
const idsOf = (deliveries: readonly { recipient: { id: string } }[]) =>
  deliveries.map(({ recipient }) => recipient.id);

async function finished(rig: Rig, fate: () => never) {
  plan(rig, fate);
  const { id } = await rig.create({ audience: people(45) });
  await rig.until(id, 'completed');
  rig.provider.plan(() => undefined);
  return id;
}

describe('retry failed', () => {
  it('sends to all who failed once more, with new keys and attempts, and closes the books again', async () => {
    const rig = await startRig(uri, NO_BREAKER);
    const { scheduler, provider, signals } = rig;
    const completed = signals('campaign:completed');
    const id = await finished(rig, permanently);
    expect((await completed.next()).report).toMatchObject({ sent: 40, failed: 5 });
    const gate = provider.hold();
    expect((await scheduler.campaigns.retryFailed(id, { by: 'ann' })).status).toBe('processing');
    await provider.calls.count(46);
    expect(await scheduler.campaigns.report(id)).toBeNull();
    gate.open();
    expect((await completed.next()).report).toMatchObject({ total: 45, sent: 45, failed: 0 });
    const again = provider.calls.all.slice(45);
    expect(idsOf(again).sort()).toEqual(FIVE);
    for (const { recipient, idempotencyKey, attempt } of again) {
      const first = provider.calls.all.find((call) => call.recipient.id === recipient.id);
      expect([attempt, idempotencyKey === first?.idempotencyKey]).toEqual([1, false]);
    }
    expect((await scheduler.campaigns.journal(id)).map(({ kind }) => kind)).toContain('retry-failed');
  });

  it('of some sends to these only', async () => {
    const rig = await startRig(uri, NO_BREAKER);
    const id = await finished(rig, permanently);
    await rig.scheduler.campaigns.retryFailed(id, { recipients: ['p1', 'p3', 'p7'] });
    await untilBooksClosed();
    expect(idsOf(rig.provider.calls.all.slice(45)).sort()).toEqual(['p1', 'p3']);
    expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ sent: 42, failed: 3 });
  });

  it('where nobody failed, or with somebody who fails again, ends all the same', async () => {
    const rig = await startRig(uri, NO_BREAKER);
    const id = await finished(rig, permanently);
    plan(rig, permanently);
    for (const attempt of [1, 2]) {
      await rig.scheduler.campaigns.retryFailed(id);
      await rig.provider.calls.count(45 + attempt * 5);
      await untilBooksClosed();
    }
    rig.provider.plan(() => undefined);
    await rig.scheduler.campaigns.retryFailed(id);
    await untilBooksClosed();
    await rig.scheduler.campaigns.retryFailed(id);
    await untilBooksClosed();
    expect(rig.provider.calls.all).toHaveLength(60);
    expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ sent: 45, failed: 0 });
  });
});

describe('resolve unknown', () => {
  const books = { sent: { sent: 45 }, failed: { sent: 40, failed: 5 }, resend: { sent: 45 } } as const;

  it.each<Resolution>(['sent', 'failed', 'resend'])('as %s, all, when completed', async (as) => {
    const rig = await startRig(uri, NO_BREAKER);
    const { scheduler, provider } = rig;
    const completed = rig.signals('campaign:completed');
    const id = await finished(rig, silently);
    expect((await completed.next()).report).toMatchObject({ sent: 40, unknown: 5 });
    const changed = await scheduler.campaigns.resolveUnknown(id, { as });
    expect(changed.status).toBe(as === 'resend' ? 'processing' : 'completed');
    await untilBooksClosed();
    expect(await scheduler.campaigns.report(id)).toMatchObject({ total: 45, unknown: 0, ...books[as] });
    const again = provider.calls.all.slice(45);
    expect(idsOf(again).sort()).toEqual(as === 'resend' ? FIVE : []);
    const keys = new Set(provider.calls.all.map(({ idempotencyKey }) => idempotencyKey));
    expect(keys.size).toBe(45); // the same key again
    await completed.count(as === 'resend' ? 2 : 1);
    expect((await scheduler.campaigns.find(id))?.status).toBe('completed');
  });

  it.each<Resolution>(['sent', 'failed', 'resend'])('as %s, two of them, while processing', async (as) => {
    const rig = await startRig(uri, NO_BREAKER);
    const { scheduler, provider } = rig;
    const rest = door();
    provider.plan(async ({ recipient, attempt }) => {
      if (/^p[0-4]$/.test(recipient.id)) return attempt === 1 ? silently() : undefined;
      await rest.opened;
    });
    const { id } = await rig.create({ audience: people(45), concurrency: 45 }); // all at once, in whatever order
    const unknown = () => scheduler.campaigns.listDeliveries(id, { state: 'unknown' });
    await expect.poll(async () => (await unknown()).deliveries.length, PATIENCE).toBe(5);
    await scheduler.campaigns.resolveUnknown(id, { as, recipients: ['p0', 'p4'] });
    await expect.poll(async () => idsOf((await unknown()).deliveries), PATIENCE).toEqual(['p1', 'p2', 'p3']);
    rest.open();
    await rig.until(id, 'completed');
    const more = as === 'failed' ? { sent: 40, failed: 2 } : { sent: 42, failed: 0 };
    expect(await scheduler.campaigns.report(id)).toMatchObject({ unknown: 3, ...more });
  });

  it('as sent or failed when cancelled: the books change, the status does not; a resend is refused', async () => {
    const rig = await startRig(uri, NO_BREAKER);
    const { scheduler, provider } = rig;
    const rest = door();
    provider.plan(async ({ recipient }) => {
      if (/^p[0-4]$/.test(recipient.id)) silently();
      await rest.opened;
    });
    const { id } = await rig.create({ audience: people(45), concurrency: 45 });
    const unknown = () => scheduler.campaigns.listDeliveries(id, { state: 'unknown' });
    await expect.poll(async () => (await unknown()).deliveries.length, PATIENCE).toBe(5);
    await scheduler.campaigns.cancel(id);
    rest.open();
    await untilBooksClosed();
    const before = await scheduler.campaigns.report(id);
    await scheduler.campaigns.resolveUnknown(id, { as: 'sent', recipients: ['p0'] });
    await untilBooksClosed();
    await scheduler.campaigns.resolveUnknown(id, { as: 'failed' });
    await untilBooksClosed();
    expect(await scheduler.campaigns.find(id)).toMatchObject({ status: 'cancelled' });
    const report = await scheduler.campaigns.report(id);
    expect(report).toMatchObject({ unknown: 0, failed: 4, sent: (before?.sent ?? 0) + 1 });
    expect((await runsOf(db).findOne())?.status).toBe('cancelled');
    const again = scheduler.campaigns.resolveUnknown(id, { as: 'resend' });
    await expect(again).rejects.toMatchObject({ code: 'refused', details: { status: 'cancelled' } });
  });

  it('one after another while the run of a cancelled campaign closes each time: none is lost', async () => {
    const rig = await startRig(uri, NO_BREAKER);
    const { scheduler, provider } = rig;
    provider.plan(() => silently());
    const { id } = await rig.create({ audience: people(30), concurrency: 30, onUnknown: 'hold' });
    await rig.until(id, 'completed');
    await campaignsOf(db).updateOne({}, { $set: { status: 'cancelled' } });
    for (const { id: recipient } of people(30)) {
      await scheduler.campaigns.resolveUnknown(id, { as: 'sent', recipients: [recipient] });
      if (Number(recipient.slice(1)) % 3 === 0) await untilBooksClosed();
    }
    await untilBooksClosed();
    const sent = () => scheduler.campaigns.report(id);
    await expect.poll(sent, PATIENCE).toMatchObject({ unknown: 0, sent: 30 });
  });

  it('while paused waits with sending until it is resumed', async () => {
    const rig = await startRig(uri, NO_BREAKER);
    const { scheduler, provider } = rig;
    plan(rig, silently);
    const { id } = await rig.create({ audience: people(400), concurrency: 5 });
    const unknown = () => scheduler.campaigns.listDeliveries(id, { state: 'unknown' });
    await expect.poll(async () => (await unknown()).deliveries.length, PATIENCE).toBe(5);
    provider.plan(() => undefined);
    await scheduler.campaigns.pause(id);
    await scheduler.campaigns.resolveUnknown(id, { as: 'resend' });
    await expect.poll(async () => (await unknown()).deliveries.length, PATIENCE).toBe(0);
    expect((await scheduler.campaigns.find(id))?.status).toBe('paused');
    await scheduler.campaigns.resume(id);
    await rig.until(id, 'completed');
    expect(await scheduler.campaigns.report(id)).toMatchObject({ sent: 400, unknown: 0 });
  });
});

describe('an order that cannot be given', () => {
  it('says why, and changes nothing', async () => {
    const rig = await startRig(uri, NO_BREAKER);
    const { campaigns } = rig.scheduler;
    const { id } = await rig.create({ sendAt: inHours(1) });
    await expect(campaigns.retryFailed(id)).rejects.toMatchObject({
      code: 'refused',
      details: { status: 'scheduled' },
    });
    await expect(campaigns.resolveUnknown(id, { as: 'sent' })).rejects.toMatchObject({ code: 'refused' });
    await expect(campaigns.resolveUnknown(id, { as: 'lost' as 'sent' })).rejects.toMatchObject({
      code: 'invalid_options',
      message: expect.stringContaining('one of sent, failed, resend, got `lost`'),
    });
    await expect(campaigns.retryFailed(id, { recipients: ['p0'] })).rejects.toThrow('it has no audience yet');
    const done = await finished(rig, permanently);
    const named = (recipients: string[]) => campaigns.retryFailed(done, { recipients });
    await expect(named(['p0', 'nobody'])).rejects.toThrow('Not in the audience: `nobody`');
    await expect(named([])).rejects.toThrow('a list of 1 to 1000 ids');
    await expect(named(Array.from({ length: 1001 }, String))).rejects.toThrow('a list of 1 to 1000 ids');
    await expect(campaigns.pause(done)).rejects.toMatchObject({ code: 'refused' });
    expect(await campaignsOf(db).countDocuments({ order: { $exists: true } })).toBe(0);
  });
});
