/** Failed and unknown recipients of real runs, grouped by what their reasons have in common. */
import { expect, it } from 'vitest';
import { DeliveryError } from '../../src/messengers/messenger.ts';
import { watchedConnection } from '../support/commands.ts';
import { testDatabase } from '../support/mongo.ts';
import { people, startRig, tidyUpAfterEach } from './fixtures.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

it('counts, first and last instants, samples; over many pages, without reading those that went well', async () => {
  const watched = await watchedConnection(uri);
  const rig = await startRig(watched.connection);
  const began = Date.now();
  rig.provider.plan(({ recipient: { id, to } }) => {
    const n = Number(id.slice(1));
    if (n >= 60) return { status: 'sent', providerId: `provider-${n}` };
    if (n % 3 === 0)
      throw new DeliveryError('permanent', `<${to}>: mailbox ${n} unavailable`, { code: '550' });
    if (n % 3 === 1) return { status: 'failed', permanent: true, reason: `quota of ${n} MB` };
    throw new DeliveryError('unknown', 'no answer after DATA', { code: 'ETIMEDOUT' });
  });
  const { id } = await rig.create({ audience: people(95), onUnknown: 'hold' });
  await rig.until(id, 'completed');
  const report = await rig.scheduler.campaigns.failures(id, { samples: 2 });
  expect(report).toMatchObject({ failed: 40, unknown: 20, others: 0 });
  const by = new Map(report.groups.map((group) => [`${group.state} ${group.code} ${group.reason}`, group]));
  const mailbox = by.get('failed 550 <address>: mailbox <n> unavailable');
  expect(mailbox).toMatchObject({
    count: 20,
    samples: [
      { recipient: 'p0', reason: '<p0@example.org>: mailbox 0 unavailable' },
      { recipient: 'p3', reason: '<p3@example.org>: mailbox 3 unavailable' },
    ],
  });
  expect(by.get('failed null quota of <n> MB')).toMatchObject({ count: 20 });
  expect(by.get('unknown ETIMEDOUT no answer after DATA')).toMatchObject({ count: 20 });
  expect(report.groups).toHaveLength(3);
  for (const { firstAt, lastAt } of report.groups) {
    expect(firstAt.getTime()).toBeGreaterThan(began - 60_000);
    expect(lastAt.getTime()).toBeGreaterThanOrEqual(firstAt.getTime());
  }
  const asked = watched.answered.all.filter(
    ({ name, collection }) => name === 'aggregate' && collection === 'ledger_pages',
  );
  expect(JSON.stringify(asked.at(-1)?.command)).not.toContain('providerId');

  expect(await rig.scheduler.campaigns.failures(id, { limit: 1, samples: 0 })).toMatchObject({
    groups: [{ count: 20, samples: [] }],
    others: 40,
  });
});

it('of a campaign without a run there is nothing; wrong options are refused together', async () => {
  const rig = await startRig(uri, { worker: false });
  const { id } = await rig.create({ sendAt: '2035-01-01T00:00:00Z' });
  const none = { failed: 0, unknown: 0, groups: [], others: 0 };
  expect(await rig.scheduler.campaigns.failures(id)).toEqual(none);
  await expect(
    rig.scheduler.campaigns.failures(id, { limit: 0, samples: 21, occurrence: 5 as unknown as string }),
  ).rejects.toMatchObject({
    code: 'invalid_options',
    problems: [{ path: 'limit' }, { path: 'samples' }, { path: 'occurrence' }],
  });
  await expect(rig.scheduler.campaigns.failures('0'.repeat(24))).rejects.toMatchObject({ code: 'not_found' });
});
