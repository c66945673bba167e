/** A breaker holds nothing for ever: not because of one recipient that fails always, nor when breakers are switched off. */
import { expect, it } from 'vitest';
import { testDatabase } from '../support/mongo.ts';
import { people, startRig, stopRig, tidyUpAfterEach } from './fixtures.ts';
import { newProvider, PATIENCE } from './provider.ts';
import { QUICK_BREAKER, refuse } from './quick-breaker.ts';
import { SURELY_ALIVE } from './short.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const breaker = { ...QUICK_BREAKER, trialSize: 3 };

it('one recipient that makes the messenger fail does not end each trial', async () => {
  const provider = newProvider();
  const slower = { ...breaker, openMs: 8_000, maxOpenMs: 8_000 };
  const rig = await startRig(uri, { provider, breaker: slower, pageSize: 10 });
  const opened = rig.signals('breaker:opened');
  let isDead = true;
  provider.plan(({ recipient }) => (isDead || recipient.id === 'p0' ? refuse() : undefined));
  const { id } = await rig.create({ audience: people(30), concurrency: 1 });
  await rig.until(id, 'paused');
  isDead = false;
  const gate = rig.signals('breaker:closed');
  await gate.count(1);
  expect(opened.all).toHaveLength(1);
  await expect.poll(() => provider.left.length, PATIENCE).toBe(29);
  await rig.scheduler.campaigns.cancel(id);
});

it('breakers are switched off: what one held goes on, once nobody looks after it any more', async () => {
  const provider = newProvider();
  const gate = provider.hold();
  const on = await startRig(uri, { provider, breaker, ...SURELY_ALIVE });
  const { id } = await on.create({ audience: people(30), concurrency: 2 });
  await provider.calls.count(2);
  await on.scheduler.breakers.open('post', { by: 'anna', reason: 'maintenance' });
  await on.until(id, 'paused');
  gate.open();
  const raised = () => db.collection('alerts').findOne({ kind: 'breaker', state: 'raised' });
  await expect
    .poll(async () => (await raised())?.message, PATIENCE)
    .toMatch(/anna opened the breaker .*: maintenance\. .*until somebody closes it/);

  const off = await startRig(uri, { provider, breaker: false, ...SURELY_ALIVE });
  const shut = provider.hold();
  const other = await off.create({ name: 'other', messenger: 'post', audience: people(2, 'x') });
  await off.until(other.id, 'paused'); // the one that looks after it still does
  shut.open();
  await stopRig(on);
  await Promise.all([off.until(id, 'completed'), off.until(other.id, 'completed')]);
  await expect.poll(raised, PATIENCE).toBeNull();
  const status = async () => (await off.scheduler.breakers.status()).post;
  await expect.poll(status, PATIENCE).toMatchObject({ state: 'closed', campaignsPaused: 0 });
  provider.expectNobodyTwice();
});
