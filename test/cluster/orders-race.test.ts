/**
 * Orders against everything else: pages at work, runs that are closing, workers that die half-way through a hundred pages,
 * and truths that come late. Each order reaches every page exactly once and none is lost.
 */
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { DeliveryError } from '../../src/messengers/messenger.ts';
import {
  campaignsOf,
  NO_BREAKER,
  pagesOf,
  people,
  QUICK_TAKEOVER,
  type Rig,
  SHORT,
  startRig,
  tidyUpAfterEach,
} from '../engine/fixtures.ts';
import { newProvider, PATIENCE } from '../engine/provider.ts';
import { testDatabase } from '../support/mongo.ts';
import { type MongoProxy, startProxy } from '../support/proxy.ts';
import { startFleet } from './fleet.ts';

const { db, uri, name } = await testDatabase();
tidyUpAfterEach(db);
const ROUNDS = process.env.FAULTS === 'long' ? 100 : 12;

let proxy: MongoProxy;
beforeAll(async () => {
  proxy = await startProxy(uri);
});
afterAll(() => proxy.stop());

const untilBooksClosed = () =>
  expect.poll(() => campaignsOf(db).countDocuments({ 'openRuns.0': { $exists: true } }), PATIENCE).toBe(0);
const intents = async (): Promise<number> => {
  const pages = await pagesOf(db).find().toArray();
  return pages.reduce((sum, { counts }) => sum + (counts?.sending ?? 0), 0);
};
const failing = (): never => {
  throw new DeliveryError('permanent', 'no such mailbox');
};
/** Hand-overs of each recipient with different keys: one for each round it was given. */
const roundsOf = ({ provider }: Rig, id: string): number => {
  const keys = provider.calls.all.flatMap(({ recipient, idempotencyKey }) =>
    recipient.id === id ? [idempotencyKey] : [],
  );
  expect(new Set(keys).size).toBe(keys.length);
  return keys.length;
};

it('given while the run is closing, an order is carried out once: before, in between or after', async () => {
  const rig = await startRig(uri, NO_BREAKER);
  const other = await startRig(uri, { ...NO_BREAKER, provider: rig.provider });
  rig.provider.plan(({ recipient }) => (recipient.id.startsWith('p1') ? failing() : undefined));
  const { id } = await rig.create({ audience: people(20) });
  const failed = 11;
  await rig.provider.calls.count(20);
  for (let round = 1; round <= ROUNDS; round += 1) {
    const giver = round % 2 === 0 ? rig : other;
    await giver.scheduler.campaigns.retryFailed(id);
    await rig.provider.calls.count(20 + failed * round);
    if (round % 3 === 0) await untilBooksClosed(); // at times the run has closed, mostly it is just about to
  }
  await rig.until(id, 'completed');
  expect(rig.provider.calls.all).toHaveLength(20 + failed * ROUNDS);
  expect(roundsOf(rig, 'p1')).toBe(1 + ROUNDS);
  expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ sent: 9, failed });
});

it('orders rain on pages at work: nobody gets more rounds than were ordered, and all is settled', async () => {
  const rig = await startRig(uri, NO_BREAKER);
  const other = await startRig(uri, { ...NO_BREAKER, provider: rig.provider });
  rig.provider.plan(async ({ recipient, attempt }) => {
    await new Promise((resolve) => setTimeout(resolve, 2));
    if (recipient.id.startsWith('p1')) failing();
    if (recipient.id.startsWith('p2') && attempt === 1) throw new DeliveryError('unknown', 'silence');
  });
  const { id } = await rig.create({ audience: people(600), concurrency: 8 });
  await rig.provider.calls.count(50);
  const { campaigns } = rig.scheduler;
  for (let round = 0; round < 4; round += 1) {
    await Promise.all([
      campaigns.retryFailed(id),
      other.scheduler.campaigns.resolveUnknown(id, { as: round % 2 === 0 ? 'resend' : 'sent' }),
      campaigns.retryFailed(id, { recipients: ['p1', 'p150'] }),
    ]);
    if (round === 1) {
      await other.scheduler.campaigns.pause(id);
      await campaigns.retryFailed(id);
      await campaigns.resume(id);
    }
    await rig.provider.calls.count(100 + round * 150);
  }
  await rig.until(id, 'completed');
  await campaigns.resolveUnknown(id, { as: 'sent' });
  await untilBooksClosed();
  const report = await campaigns.report(id);
  expect(report).toMatchObject({ total: 600, unknown: 0, skipped: 0 });
  expect(roundsOf(rig, 'p1')).toBeLessThanOrEqual(10);
  const sentTwice = new Set(
    rig.provider.left.filter((who, index) => rig.provider.left.indexOf(who) !== index),
  );
  expect([...sentTwice]).toEqual([]);
});

it.each([
  ['retry failed', 'permanent', { sent: 1000, failed: 0 }],
  ['resolve as sent', 'unknown', { sent: 1000, unknown: 0 }],
  ['cancel', 'sent', { skipped: 1000 }],
] as const)('the worker dies half-way through a hundred pages: %s', async (what, fate, books) => {
  const through = `${proxy.uriFor(name)}`;
  const fleet = await startFleet(1, {
    uri: through,
    fate,
    scheduler: { ...SHORT, ...QUICK_TAKEOVER, ...NO_BREAKER, sendTimeoutMs: 120_000 },
  });
  const api = await startRig(uri, { worker: false });
  const [first] = fleet.workers;
  const { campaigns } = api.scheduler;
  first?.send({ kind: 'start' });
  await first?.next('start-done');
  const cancels = what === 'cancel';
  if (cancels) first?.send({ kind: 'close' });
  const { id } = await api.create({ audience: people(1000), concurrency: cancels ? 1 : 50 });
  if (cancels) {
    await expect.poll(() => pagesOf(db).countDocuments(), PATIENCE).toBe(100);
    await expect.poll(intents, PATIENCE).toBe(2);
    await campaigns.pause(id);
    await expect.poll(intents, PATIENCE).toBe(1); // the worker has seen the pause: what had not begun is withdrawn
    first?.send({ kind: 'open' });
    await expect.poll(() => pagesOf(db).countDocuments({ status: 'claimed' }), PATIENCE).toBe(0);
  } else {
    await api.until(id, 'completed');
    first?.send({ kind: 'fate' });
  }
  const before = fleet.handOvers().length;
  // Half-way it comes no further.
  const rest = proxy.hold(({ update, updates }) => {
    const [{ q, u } = { q: {}, u: {} }] = update === 'ledger_pages' ? updates : [];
    return u.$set?.orderNo === 1 && Number(String(q._id).split(':').at(-1)) >= 50;
  });
  onTestFinished(() => rest.release());
  if (what === 'retry failed') await campaigns.retryFailed(id);
  else if (cancels) await campaigns.cancel(id);
  else await campaigns.resolveUnknown(id, { as: 'sent' });
  const reached = () => pagesOf(db).countDocuments({ orderNo: 1 });
  await expect.poll(reached, PATIENCE).toBeGreaterThan(20);
  await first?.kill();
  expect(await reached()).toBeLessThan(100);
  proxy.cut(); // what was held back is lost
  rest.release();

  const second = await fleet.add({ fate: 'sent' });
  second.send({ kind: 'start' });
  await second.next('start-done');
  await untilBooksClosed();
  expect(await reached()).toBe(100);
  const report = await campaigns.report(id);
  const lost = what === 'retry failed' ? (report?.unknown ?? 0) : 0;
  expect(lost).toBeLessThanOrEqual(100);
  const sentBefore = cancels ? before : 0;
  const expected = Object.fromEntries(
    Object.entries(books).map(([state, count]) => [state, count === 0 ? 0 : count - lost - sentBefore]),
  );
  expect(report).toMatchObject(expected);
  const handedOver = fleet.handOvers().length - before;
  if (what === 'retry failed') expect(handedOver).toBeGreaterThanOrEqual(1000 - lost);
  else expect(handedOver).toBe(0);
  fleet.expectClean();
  await fleet.stop();
});

it('a truth that comes late is kept, however busily the new holder writes', async () => {
  const slow = newProvider();
  const gate = slow.hold();
  const loser = await startRig(proxy.uriFor(name), { provider: slow, pageSize: 100, ...QUICK_TAKEOVER });
  const { id } = await loser.create({ audience: people(100), concurrency: 4 });
  await slow.calls.count(4);
  proxy.pause(); // it can no longer write that it lives
  onTestFinished(() => proxy.resume());
  const winner = await startRig(uri, { pageSize: 100 });
  const taken = winner.signals('page:taken-over');
  winner.provider.plan(() => new Promise((resolve) => setTimeout(resolve, 5)));
  await taken.next();
  await winner.provider.calls.count(10);
  gate.open();
  proxy.resume();
  await winner.until(id, 'completed');
  const truths = { state: 'sent' } as const;
  const told = () => winner.scheduler.campaigns.listDeliveries(id, { ...truths, limit: 1000 });
  await expect.poll(async () => (await told()).deliveries.length, PATIENCE).toBe(96);
  await expect
    .poll(() => winner.scheduler.campaigns.report(id), PATIENCE)
    .toMatchObject({ sent: 96, unknown: 4 });
  expect(slow.calls.all).toHaveLength(4); // nothing started after the loss
  expect(slow.left.filter((who) => winner.provider.left.includes(who))).toEqual([]);
  // The alarm that the loser could not put down is taken over as well.
  await expect.poll(() => db.collection('agendaJobs').countDocuments(), PATIENCE).toBe(0);
});
