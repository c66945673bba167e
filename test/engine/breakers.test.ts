/** The breaker of a messenger over real workers: it opens for all, probes, closes; people, other messengers, sick workers. */
import { expect, it } from 'vitest';
import type { SchedulerOptions } from '../../src/config.ts';
import { DeliveryError } from '../../src/messengers/messenger.ts';
import { testDatabase } from '../support/mongo.ts';
import { people, startRig, tidyUpAfterEach } from './fixtures.ts';
import { newProvider, PATIENCE } from './provider.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const breaker: SchedulerOptions['breaker'] = {
  consecutiveFailures: 3,
  openMs: 500,
  maxOpenMs: 1_000,
  rampMs: 500,
};

const refused = () => {
  throw new DeliveryError('provider', 'connection refused', { code: 'ECONNREFUSED' });
};

it('one worker: opens, its campaigns are paused, and when the messenger works again everybody is sent, once', async () => {
  const provider = newProvider();
  const rig = await startRig(uri, { provider, breaker });
  const [opened, closed, paused, resumed] = (
    ['breaker:opened', 'breaker:closed', 'campaign:paused', 'campaign:resumed'] as const
  ).map((name) => rig.signals(name));
  provider.plan(refused);
  const { id } = await rig.create({ audience: people(60) });
  const held = await rig.until(id, 'paused');
  expect(held.statusReason).toMatchObject({ code: 'breaker_open', messenger: 'post', by: 'breaker' });
  expect(await rig.scheduler.why(id)).toMatchObject({ code: 'breaker_open', messenger: 'post' });
  expect((await rig.scheduler.breakers.status()).post).toMatchObject({
    state: expect.stringMatching(/open/),
    campaignsPaused: 1,
  });
  await expect(rig.scheduler.campaigns.resume(id)).rejects.toThrow(/breaker of its messenger `post` is open/);
  await expect.poll(() => opened?.all.length, PATIENCE).toBeGreaterThan(1); // a probe has failed as well
  provider.plan(() => undefined);
  await rig.until(id, 'completed');
  expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ sent: 60, failed: 0, unknown: 0 });
  provider.expectNobodyTwice();
  expect(closed?.all).toEqual([{ messenger: 'post' }]);
  expect([paused?.all.length, resumed?.all.length]).toEqual([1, 1]);
});
