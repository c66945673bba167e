/**
 * Messengers that fail in every way there is: what becomes of the recipient, how many attempts it cost, what is kept as the
 * reason, and that everybody else is sent to. Back-offs are passed by moving the clock.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { OnUnknown } from '../../src/core/settlement.ts';
import type { Delivery } from '../../src/deliveries.ts';
import { DeliveryError, type Messenger } from '../../src/messengers/messenger.ts';
import { testDatabase } from '../support/mongo.ts';
import { pagesOf, people, type Rig, startTimedRig, stopRig, tidyUpAfterEach } from './fixtures.ts';
import { newProvider, PATIENCE, type Plan } from './provider.ts';
import type { TestClock } from './test-clock.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

interface Case {
  readonly rig: Rig;
  readonly clock: TestClock;
  readonly id: string;
}
const RETRY = { maxAttempts: 3, firstDelayMs: 60_000, maxDelayMs: 60_000 };

/** Twelve recipients; `p0` meets the plan, the others are sent. */
async function meet(
  plan: Plan,
  more: { messenger?: Partial<Messenger>; onUnknown?: OnUnknown } = {},
): Promise<Case> {
  const provider = newProvider(more.messenger);
  provider.plan((message, context) => (message.recipient.id === 'p0' ? plan(message, context) : undefined));
  const { rig, clock } = await startTimedRig(uri, { provider, sendTimeoutMs: 300 });
  const { id } = await rig.create({
    audience: people(12),
    retry: RETRY,
    ...(more.onUnknown === undefined ? {} : { onUnknown: more.onUnknown }),
  });
  return { rig, clock, id };
}
const find = async ({ rig, id }: Case): Promise<Delivery> =>
  (await rig.scheduler.campaigns.findDelivery(id, 'p0')) as Delivery;

/** Moves the clock past every back-off until the campaign is completed. */
async function complete(one: Case): Promise<Delivery> {
  const { rig, clock, id } = one;
  const status = async () => {
    const waiting = await pagesOf(db).countDocuments({ status: 'waiting' });
    if (waiting > 0) clock.advance(65_000);
    return (await rig.scheduler.campaigns.find(id))?.status;
  };
  await expect.poll(status, { ...PATIENCE, interval: 200 }).toBe('completed');
  const others = rig.provider.left.filter((who) => who !== 'p0');
  expect(new Set(others).size).toBe(11);
  rig.provider.expectNobodyTwice();
  return find(one);
}
const unreadable = (name: string): object =>
  Object.defineProperty({}, name, {
    get: () => {
      throw new Error('not yours');
    },
  });
const throwing = (error: unknown) => (): never => {
  throw error;
};
const coded = (code: string) => throwing(Object.assign(new Error('boom'), { code }));
const answering = (status: number) => throwing(Object.assign(new Error('boom'), { status }));

describe('a failure', () => {
  it.each<[string, Plan, Partial<Delivery>]>([
    [
      'that is permanent',
      throwing(new DeliveryError('permanent', 'no such mailbox', { code: '550' })),
      { state: 'failed', attempts: 1, code: '550', reason: 'no such mailbox' },
    ],
    ['that is permanent by its HTTP status', answering(404), { state: 'failed', attempts: 1, code: '404' }],
    ['that is transient', throwing(new Error('full')), { state: 'failed', attempts: 3, reason: 'full' }],
    ['that is transient by its HTTP status', answering(500), { state: 'failed', attempts: 3, code: '500' }],
    ['that is null', throwing(null), { state: 'failed', attempts: 3 }],
    ['that breaks on the way', coded('EPIPE'), { state: 'unknown', attempts: 1, code: 'EPIPE' }],
    [
      'that says so in its answer',
      () => ({ status: 'failed', permanent: false, reason: 'busy', code: 'B' }),
      { state: 'failed', attempts: 3, code: 'B', reason: 'busy' },
    ],
    ['of nobody: skipped', () => ({ status: 'skipped', reason: 'left' }), { state: 'skipped', attempts: 1 }],
  ])('%s', async (_what, plan, expected) => {
    expect(await complete(await meet(plan))).toMatchObject(expected);
  });

  it('that passes is tried again with the same key', async () => {
    const one = await meet(({ attempt }) => {
      if (attempt < 3) throw new Error('full');
    });
    await expect.poll(async () => (await find(one)).state, PATIENCE).toBe('retrying');
    const retrying = await find(one);
    expect(retrying).toMatchObject({ attempts: 1, reason: 'full' });
    expect(retrying.dueAt?.getTime()).toBeGreaterThan(one.clock.now().getTime());
    expect(await complete(one)).toMatchObject({ state: 'sent', attempts: 3 });
    const calls = one.rig.provider.calls.all.filter(({ recipient }) => recipient.id === 'p0');
    expect(calls.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    expect(new Set(calls.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(1);
  });

  it('that passes is tried again before those whom nobody has tried yet', async () => {
    const provider = newProvider();
    provider.plan(async ({ recipient, attempt }) => {
      if (recipient.id === 'p0' && attempt === 1) throw new Error('full');
      await sleep(10);
    });
    const { rig, clock } = await startTimedRig(uri, { provider });
    const { id } = await rig.create({ audience: people(1500), retry: RETRY, concurrency: 4 });
    const waits = () => pagesOf(db).countDocuments({ status: 'waiting' });
    await expect.poll(waits, PATIENCE).toBe(1);
    clock.advance(65_000);
    await rig.until(id, 'completed');
    const order = provider.calls.all.map(({ recipient }) => recipient.id);
    expect(order.lastIndexOf('p0')).toBeGreaterThan(0);
    expect(order.lastIndexOf('p0')).toBeLessThan(1400);
  });

  it('is judged by the messenger itself where it can, and a broken judgement is none', async () => {
    const classify = (error: unknown) => {
      if ((error as Error).message === 'boom') return 'permanent' as const;
      throw new Error('cannot say');
    };
    const judged = await meet(answering(500), { messenger: { classify } });
    expect(await complete(judged)).toMatchObject({ state: 'failed', attempts: 1 });
    await stopRig(judged.rig);
    const unjudged = await meet(throwing(new Error('what?')), { messenger: { classify } });
    expect(await complete(unjudged)).toMatchObject({ state: 'failed', attempts: 3 });
  });
});

describe('a sick messenger', () => {
  const pass = async (one: Case, done: () => Promise<boolean>): Promise<void> => {
    const step = async () => {
      one.clock.advance(61_000); // the longest back-off of a provider
      return done();
    };
    await expect.poll(step, { ...PATIENCE, interval: 300 }).toBe(true);
  };
  const completed = (one: Case) => async () =>
    (await one.rig.scheduler.campaigns.find(one.id))?.status === 'completed';

  it('costs nobody an attempt, and everybody is sent when it is well again', async () => {
    let sick = 4;
    const provider = newProvider();
    provider.plan(() => {
      sick -= 1;
      if (sick >= 0) coded('ECONNREFUSED')();
    });
    const { rig, clock } = await startTimedRig(uri, { provider });
    const { id } = await rig.create({ audience: people(12), retry: { maxAttempts: 1 }, concurrency: 1 });
    const one = { rig, clock, id };
    await pass(one, completed(one));
    expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ sent: 12, failed: 0 });
    const { deliveries } = await rig.scheduler.campaigns.listDeliveries(id);
    expect(deliveries.map(({ attempts }) => attempts)).toEqual(Array(12).fill(1));
  });

  it('sick for one recipient only, while others succeed: the fifth time it is the recipient’s own failure', async () => {
    const provider = newProvider();
    let others: (ms: number) => Promise<void> = sleep; // slow until it has failed, so that there is always somebody else who succeeds
    provider.plan(({ recipient }) => (recipient.id === 'p0' ? coded('ECONNREFUSED')() : others(60)));
    const { rig, clock } = await startTimedRig(uri, { provider });
    const { id } = await rig.create({ audience: people(1500), retry: { maxAttempts: 1 }, concurrency: 4 });
    const one = { rig, clock, id };
    await pass(one, async () => (await find(one)).state === 'failed');
    others = async () => undefined;
    expect(await find(one)).toMatchObject({ attempts: 1, code: 'ECONNREFUSED' });
    expect(provider.calls.all.filter(({ recipient }) => recipient.id === 'p0').length).toBeGreaterThanOrEqual(
      5,
    );
    await pass(one, completed(one));
    expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ sent: 1499, failed: 1 });
  });
});

describe('nobody knows whether it left', () => {
  const silent: Plan = ({ attempt }) => (attempt === 1 ? coded('EPIPE')() : undefined);
  const hangs: Plan = ({ attempt }) => (attempt === 1 ? new Promise(() => undefined) : undefined);

  it.each<[OnUnknown, Plan, Partial<Delivery>]>([
    ['hold', silent, { state: 'unknown', attempts: 1, code: 'EPIPE' }],
    ['hold', hangs, { state: 'unknown', attempts: 1, code: 'timeout' }],
    ['give-up', silent, { state: 'failed', attempts: 1, code: 'gave_up' }],
    ['give-up', hangs, { state: 'failed', attempts: 1, code: 'gave_up' }],
    ['resend', silent, { state: 'sent', attempts: 2 }],
    ['resend', hangs, { state: 'sent', attempts: 2 }],
    ['resend', coded('EPIPE'), { state: 'unknown', attempts: 3, reason: 'no attempts left' }],
  ])('%s', async (onUnknown, plan, expected) => {
    const one = await meet(plan, { onUnknown });
    expect(await complete(one)).toMatchObject(expected);
    const calls = one.rig.provider.calls.all.filter(({ recipient }) => recipient.id === 'p0');
    expect(new Set(calls.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(1);
  });

  it.each<[string, () => unknown, Partial<Delivery>]>([
    [
      'that it was sent',
      () => [{ status: 'sent', providerId: 'x1' }],
      { state: 'sent', attempts: 1, providerId: 'x1' },
    ],
    ['that it was not', () => [{ status: 'not-sent' }], { state: 'sent', attempts: 2 }],
    [
      'that it failed',
      () => [{ status: 'failed', reason: 'bounced' }],
      { state: 'failed', reason: 'bounced' },
    ],
    ['that it cannot say', () => [{ status: 'unknown' }], { state: 'unknown' }],
    ['nonsense', () => 'sent', { state: 'unknown' }],
    ['too much', () => [{ status: 'sent' }, { status: 'sent' }], { state: 'unknown' }],
    ['a strange status', () => [{ status: 'maybe' }], { state: 'unknown' }],
    ['null', () => [null], { state: 'unknown' }],
    ['a status that cannot be read', () => [unreadable('status')], { state: 'unknown' }],
    [
      'a reason that cannot be read',
      () => [{ status: 'failed', reason: unreadable('toString') }],
      { state: 'unknown' },
    ],
    [
      'an id that is no text',
      () => [{ status: 'sent', providerId: { long: 'x'.repeat(20_000_000) } }],
      { state: 'sent', attempts: 1 },
    ],
    [
      'an id without end',
      () => [{ status: 'sent', providerId: 'é'.repeat(1_000_000) }],
      { state: 'sent', providerId: 'é'.repeat(64) },
    ],
    ['an error', throwing(new Error('down')), { state: 'unknown' }],
    ['nothing at all', () => new Promise(() => undefined), { state: 'unknown' }],
  ])('reconcile answers %s', async (_what, answer, expected) => {
    const reconcile = (async () => answer()) as NonNullable<Messenger['reconcile']>;
    const one = await meet(silent, { onUnknown: 'reconcile', messenger: { reconcile } });
    expect(await complete(one)).toMatchObject(expected);
  });
});
