/** The breaker of a messenger over real workers: it opens for all, probes, closes; people, other messengers, sick workers. */
import { expect, it } from 'vitest';
import { DEFAULTS } from '../../src/config.ts';
import { DeliveryError } from '../../src/messengers/messenger.ts';
import { watchedConnection } from '../support/commands.ts';
import { testDatabase } from '../support/mongo.ts';
import { campaignsOf, inHours, people, type Rig, startRig, testStore, tidyUpAfterEach } from './fixtures.ts';
import { newProvider, PATIENCE } from './provider.ts';
import { QUICK_BREAKER, refuse } from './quick-breaker.ts';
import { SURELY_ALIVE } from './short.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const breaker = QUICK_BREAKER;
const breakers = db.collection<{ _id: string } & Record<string, unknown>>('breakers');
const stateOf = async (rig: Rig, name = 'post') => (await rig.scheduler.breakers.status())[name]?.state;

it('opens, pauses, probes, closes: everybody is sent once, nobody loses an attempt, other messengers go on', async () => {
  const [provider, other] = [newProvider(), newProvider()];
  const messengers = { post: provider.messenger, other: other.messenger };
  const rig = await startRig(uri, { messengers, breaker });
  const opened = rig.signals('breaker:opened');
  const [closed, halfOpen] = [rig.signals('breaker:closed'), rig.signals('breaker:half-open')];
  const [paused, resumed] = [rig.signals('campaign:paused'), rig.signals('campaign:resumed')];
  provider.plan(refuse);
  const { id } = await rig.create({ audience: people(60), concurrency: 2, retry: { maxAttempts: 1 } });
  const held = await rig.until(id, 'paused');
  expect(held.statusReason).toMatchObject({
    code: 'breaker_open',
    messenger: 'post',
    detail: 'connection refused',
    by: 'breaker',
  });
  // Whatever fails now is the messenger's fault, also what looks like a recipient's.
  provider.plan(() => {
    throw new DeliveryError('transient', 'mailbox busy', { code: '451' });
  });
  expect(await rig.scheduler.why(id)).toMatchObject({ code: 'breaker_open', messenger: 'post' });
  expect((await rig.scheduler.breakers.status()).post).toMatchObject({
    campaignsPaused: 1,
    detail: expect.stringMatching(/refused|busy/),
  });
  await expect(rig.scheduler.campaigns.resume(id)).rejects.toThrow(
    /Cannot resume the campaign `News`: the breaker of its messenger `post` is open since .* close or reset the breaker/,
  );

  const free = await rig.create({ messenger: 'other', audience: people(40, 'o') });
  const later = await rig.create({ audience: people(3, 'l'), sendAt: inHours(1) });
  const late = await rig.create({ audience: people(20, 'n') });
  await rig.until(free.id, 'completed');
  await rig.until(late.id, 'paused'); // its run opened meanwhile
  expect(await stateOf(rig, 'other')).toBe('closed');
  await expect.poll(() => opened.all.length, PATIENCE).toBeGreaterThan(1); // a probe has failed
  const tried = provider.calls.all.length;
  const trials = halfOpen.all.length;
  provider.plan(() => undefined);
  await Promise.all([rig.until(id, 'completed'), rig.until(late.id, 'completed')]);
  for (const [campaign, sent] of [
    [id, 60],
    [late.id, 20],
  ] as const) {
    expect(await rig.scheduler.campaigns.report(campaign)).toMatchObject({ sent, failed: 0, unknown: 0 });
  }
  provider.expectNobodyTwice();
  // Those that were in flight when it opened, and a few in each trial.
  expect(tried).toBeLessThanOrEqual(10 + DEFAULTS.breaker.trialSize * (trials + 1));
  expect(await rig.scheduler.campaigns.find(later.id)).toMatchObject({ status: 'scheduled' });
  await expect.poll(() => closed.all, PATIENCE).toEqual([{ messenger: 'post' }]);
  // A probe that nobody renewed in time is taken anew.
  expect(halfOpen.all.length).toBeGreaterThanOrEqual(opened.all.length);
  expect(opened.all.map(({ openings }) => openings)).toEqual(opened.all.map((_, index) => index + 1));
  await expect.poll(() => [paused.all.length, resumed.all.length], PATIENCE).toEqual([2, 2]);
  const kinds = async () => (await rig.scheduler.campaigns.journal(id)).map(({ kind }) => kind);
  await expect
    .poll(async () => (await kinds()).filter((kind) => kind === 'paused' || kind === 'resumed'), PATIENCE)
    .toEqual(['paused', 'resumed']);
  const alerts = await db.collection('alerts').find({ kind: 'breaker' }).toArray();
  expect(alerts).toHaveLength(1);
  await expect
    .poll(() => db.collection('alerts').findOne({ kind: 'breaker' }), PATIENCE)
    .toMatchObject({ state: 'cleared' });
});

it('a campaign of which all were in flight when it was held is completed without its messenger', async () => {
  const rig = await startRig(uri, { breaker });
  const gate = rig.provider.hold();
  const { id } = await rig.create({ audience: people(5) });
  await rig.provider.calls.count(5);
  await rig.scheduler.breakers.open('post');
  gate.open();
  expect((await rig.until(id, 'completed')).statusReason).toBeUndefined();
  expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ sent: 5 });
  expect(await stateOf(rig)).toBe('open');
});

it('by hand: stays open until it is closed by hand; a person’s pause outlives it; nonsense and late pauses are put right', async () => {
  const provider = newProvider();
  const rig = await startRig(uri, { provider, breaker });
  const api = await startRig(uri, { worker: false, messengers: {} });
  const gate = provider.hold();
  const [first, second] = await Promise.all(
    ['a', 'b'].map((name) => rig.create({ name, audience: people(40, name) })),
  );
  if (first === undefined || second === undefined) throw new Error('no campaigns');
  const begun = () => new Set(provider.calls.all.map(({ recipient }) => recipient.id.slice(0, 1)));
  await expect.poll(begun, PATIENCE).toEqual(new Set(['a', 'b']));

  const by = { by: 'anna', reason: 'they move house' };
  expect(await api.scheduler.breakers.open('post', by)).toMatchObject({
    state: 'open',
    nextProbeAt: null,
    manual: { by: 'anna', reason: 'they move house' },
    campaignsPaused: 2,
  });
  gate.open();
  const [held] = await Promise.all([rig.until(first.id, 'paused'), rig.until(second.id, 'paused')]);
  expect(held.statusReason).toMatchObject({ code: 'breaker_open', by: 'breaker', openedBy: 'anna' });
  expect(await rig.scheduler.why(first.id)).toMatchObject({ code: 'breaker_open', openedBy: 'anna' });
  await rig.scheduler.campaigns.pause(second.id, { by: 'bert', reason: 'a wrong link' });
  await expect.poll(() => provider.inFlight, PATIENCE).toBe(0);
  const before = provider.calls.all.length;
  await expect(rig.scheduler.breakers.close('pst')).rejects.toMatchObject({
    code: 'unknown_messenger',
    message: 'Unknown messenger `pst`. Did you mean `post`?',
  });
  expect(provider.calls.all.length).toBe(before);

  await rig.scheduler.breakers.close('post', { by: 'anna' });
  await rig.until(first.id, 'completed');
  const still = await rig.scheduler.campaigns.find(second.id);
  expect(still).toMatchObject({ status: 'paused', statusReason: { code: 'paused', by: 'bert' } });
  await rig.scheduler.campaigns.resume(second.id);
  await rig.until(second.id, 'completed');
  provider.expectNobodyTwice();

  // Somebody edits the document; a worker that slept pauses what nobody holds any more.
  await breakers.updateOne({ _id: 'post' }, { $set: { state: 'half_open', openedAt: 'yesterday' } });
  const repairs = () => rig.log.filter(({ message }) => message.includes('nonsense')).length;
  await expect.poll(repairs, PATIENCE).toBe(1);
  const stored = () => breakers.findOne({ _id: 'post' });
  await expect.poll(stored, PATIENCE).toMatchObject({ state: 'closed', openings: 0 });
  const shut = provider.hold();
  const third = await rig.create({ name: 'c', audience: people(30, 'c') });
  await expect.poll(() => provider.calls.all.at(-1)?.recipient.id, PATIENCE).toMatch(/^c/);
  const statusReason = {
    code: 'breaker_open',
    messenger: 'post',
    detail: 'x',
    by: 'breaker',
    at: new Date(),
  };
  await campaignsOf(db).updateOne({ name: 'c' }, { $set: { status: 'paused', statusReason, rev: 9 } });
  shut.open();
  await rig.until(third.id, 'completed');
  expect(await rig.scheduler.breakers.reset('post')).toMatchObject({ state: 'closed', failures: 0 });
});

it('one sick worker does not open it for the other, which gets its pages', async () => {
  const [sick, well] = [newProvider(), newProvider()];
  sick.plan(refuse);
  const here = await startRig(uri, { provider: sick, breaker, ...SURELY_ALIVE });
  const opened = here.signals('breaker:opened');
  const gate = sick.hold();
  const { id } = await here.create({ audience: people(20), concurrency: 1 });
  await sick.calls.count(1);
  const there = await startRig(uri, { provider: well, breaker, ...SURELY_ALIVE });
  gate.open();
  // All but the few that failed here, whose time comes later.
  await expect.poll(() => well.left.length, PATIENCE).toBeGreaterThanOrEqual(16);
  expect(sick.calls.all.length).toBeGreaterThanOrEqual(2);
  expect(opened.all).toEqual([]);
  expect(await stateOf(here)).toBe('closed');
  await there.scheduler.campaigns.cancel(id);
});

it('a messenger in good health costs a question about once a second, and no write', async () => {
  const watched = await watchedConnection(uri);
  const from = performance.now();
  const rig = await startRig(watched.connection, { breaker, pollMs: 1_000 });
  const gate = rig.provider.hold();
  const { id } = await rig.create({ audience: people(30) });
  await rig.provider.calls.count(1);
  for (let n = 0; n < 3; n += 1) await watched.nextOf('find', 'breakers');
  gate.open();
  await rig.until(id, 'completed');
  const commands = watched.answered.all;
  const about = commands.filter(({ collection }) => collection === 'breakers');
  expect(about.map(({ name }) => name).filter((name) => name !== 'find' && name !== 'createIndexes')).toEqual(
    [],
  );
  expect(about.length).toBeLessThanOrEqual((performance.now() - from) / 1_000 + 2);
});

it('a thousand campaigns: how the messengers stand is told at once', async () => {
  const store = await testStore(uri);
  const rig = await startRig(uri, { worker: false });
  await store.campaigns.insertMany(
    Array.from({ length: 1_000 }, (_, n) => ({
      name: `c${n}`,
      status: 'paused',
      messenger: 'post',
      statusReason: { code: 'breaker_open', messenger: 'post', by: 'breaker', at: new Date() },
      openRuns: [],
    })) as never,
  );
  expect((await rig.scheduler.breakers.status()).post).toMatchObject({
    campaignsPaused: 1_000,
    state: 'closed',
  });
  await store.close();
});
