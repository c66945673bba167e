/** Orders given while the window is closed: pages follow them at once, and nobody is sent to before it opens. */
import { expect, it } from 'vitest';
import { DeliveryError } from '../../src/messengers/messenger.ts';
import { testDatabase } from '../support/mongo.ts';
import { othersGoOn, pagesOf, people, type Rig, startRigAt, tidyUpAfterEach } from './fixtures.ts';
import { PATIENCE } from './provider.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const window = { from: '09:00', to: '17:00', timezone: 'UTC' };
const CLOSED = '2030-01-07T18:00:00Z';
const NEXT_DAY = '2030-01-08T09:00:00Z';

/** A campaign of 30 that ended in its hours: `p1` and `p21` failed, of `p2`, `p12` and `p22` nobody knows. Then it closed. */
async function endedWithDoubts() {
  const { rig, goTo } = await startRigAt(uri, '2030-01-07T16:00:00Z');
  rig.provider.plan(({ recipient: { id } }) => {
    if (/^p2?1$/.test(id)) throw new DeliveryError('permanent', 'closed');
    if (/^p[12]?2$/.test(id)) throw new DeliveryError('unknown', 'cut off');
  });
  const { id } = await rig.create({ window, audience: people(30) });
  await rig.until(id, 'completed');
  expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ sent: 25, failed: 2, unknown: 3 });
  rig.provider.plan(() => undefined);
  goTo(CLOSED);
  return { rig, goTo, id, campaigns: rig.scheduler.campaigns };
}

/** Waits until every page has followed so many orders, and all together say this. */
const untilPages = (id: string, orders: number, counts: object) =>
  expect
    .poll(async () => {
      const pages = await pagesOf(db)
        .find({ runId: `${id}:once` })
        .toArray();
      const sums: Record<string, number> = {};
      for (const { orderNo, counts } of pages) {
        if (orderNo !== orders) return `a page is at order ${orderNo}`;
        for (const [state, count] of Object.entries<number>({ ...counts }))
          sums[state] = (sums[state] ?? 0) + count;
      }
      return sums;
    }, PATIENCE)
    .toMatchObject(counts);
const callsOf = (rig: Rig): number =>
  rig.provider.calls.all.filter(({ recipient }) => recipient.id.startsWith('p')).length;

it('retry failed and send unknown ones again', async () => {
  const { rig, goTo, id, campaigns } = await endedWithDoubts();
  const before = callsOf(rig);
  await campaigns.retryFailed(id);
  await untilPages(id, 1, { sent: 25, pending: 2, failed: 0, unknown: 3 });
  await campaigns.resolveUnknown(id, { as: 'resend' });
  await untilPages(id, 2, { sent: 25, unknown: 0, failed: 0 });
  expect((await campaigns.find(id))?.status).toBe('processing');
  await othersGoOn(rig);
  expect(callsOf(rig)).toBe(before);
  goTo(NEXT_DAY);
  await rig.until(id, 'completed');
  expect(await campaigns.report(id)).toMatchObject({ sent: 30, failed: 0, unknown: 0 });
  expect(callsOf(rig)).toBe(before + 5);
});

it('say what became of unknown ones: nothing has to be sent, so nothing waits', async () => {
  const { rig, id, campaigns } = await endedWithDoubts();
  const before = callsOf(rig);
  await campaigns.resolveUnknown(id, { as: 'sent', recipients: ['p2'] });
  await expect.poll(async () => (await campaigns.report(id))?.sent, PATIENCE).toBe(26);
  await campaigns.resolveUnknown(id, { as: 'failed' });
  await untilPages(id, 2, { sent: 26, failed: 4, unknown: 0 });
  await expect.poll(() => campaigns.report(id), PATIENCE).toMatchObject({ sent: 26, failed: 4, unknown: 0 });
  expect((await campaigns.find(id))?.status).toBe('completed');
  expect(callsOf(rig)).toBe(before);
});

it('cancel what was to be sent again', async () => {
  const { rig, goTo, id, campaigns } = await endedWithDoubts();
  const before = callsOf(rig);
  await campaigns.retryFailed(id);
  await untilPages(id, 1, { pending: 2, failed: 0 });
  await campaigns.cancel(id);
  await untilPages(id, 2, { sent: 25, skipped: 2, pending: 0, unknown: 3 });
  await rig.until(id, 'cancelled');
  await expect
    .poll(() => campaigns.report(id), PATIENCE)
    .toMatchObject({ sent: 25, skipped: 2, unknown: 3, failed: 0 });
  goTo(NEXT_DAY);
  await othersGoOn(rig);
  expect(callsOf(rig)).toBe(before);
});
