/** A send that was given up and answers after all: the truth is kept wherever its page is by then. */
import { expect, inject, it, onTestFinished } from 'vitest';
import type { LateTruth } from '../../src/core/settlement.ts';
import { mergeUnheld } from '../../src/delivery/late-truths.ts';
import type { LedgerPageDoc } from '../../src/store/documents.ts';
import { openStore } from '../../src/store/store.ts';
import { testDatabase } from '../support/mongo.ts';
import { startProxy } from '../support/proxy.ts';
import { heldMessenger, pagesOf, people, testScheduler, until, untilClosed } from './fixtures.ts';

const { db, uri, name } = await testDatabase();
/** Nobody is answered in time here, which is not about breakers. */
const breaker = false;

it('the page is done and the books are closed: unknown becomes sent, and the report is corrected', async () => {
  const { messenger, held } = heldMessenger();
  const scheduler = await testScheduler({
    mongo: uri,
    messengers: { mail: messenger },
    sendTimeoutMs: 200,
    breaker,
  });
  const { id } = await scheduler.campaigns.create({
    name: 'answered late',
    messenger: 'mail',
    content: {},
    audience: people(10),
    concurrency: 10,
    onUnknown: 'hold',
  });
  await untilClosed(scheduler, db, id);
  expect(await scheduler.campaigns.report(id)).toMatchObject({ unknown: 10 });
  for (const send of held.slice(0, 4)) send.answer({ status: 'sent', providerId: 'late' });
  for (const send of held.slice(4, 6))
    send.answer({ status: 'failed', permanent: true, reason: 'no such address' });
  await until('the report', async () => (await scheduler.campaigns.report(id))?.unknown === 4);
  expect(await scheduler.campaigns.report(id)).toMatchObject({ sent: 4, failed: 2, unknown: 4 });
  expect(await scheduler.campaigns.audit(id)).toMatchObject({ ok: true });
  expect(await scheduler.campaigns.findDelivery(id, held[0]?.message.recipient.id ?? '')).toMatchObject({
    state: 'sent',
    providerId: 'late',
  });
});

it('the page is still held: the outcome is corrected before it is done', async () => {
  const { messenger, held } = heldMessenger();
  const scheduler = await testScheduler({
    mongo: uri,
    messengers: { mail: messenger },
    sendTimeoutMs: 300,
    breaker,
  });
  const { id } = await scheduler.campaigns.create({
    name: 'answered late but early enough',
    messenger: 'mail',
    content: {},
    audience: people(10),
    concurrency: 5,
    onUnknown: 'hold',
  });
  await until('the first is given up', () => held.length > 5);
  for (const send of held.slice(0, 5)) send.answer({ status: 'sent' });
  await untilClosed(scheduler, db, id);
  await until('the report', async () => (await scheduler.campaigns.report(id))?.sent === 5);
  expect(await scheduler.campaigns.audit(id)).toMatchObject({ ok: true, counts: { sent: 5, unknown: 5 } });
});

it('a truth that comes with the stop is told before the connection is closed', async () => {
  const proxy = await startProxy(inject('mongoUri'));
  onTestFinished(() => proxy.stop());
  const { messenger, held } = heldMessenger();
  const options = { messengers: { mail: messenger }, sendTimeoutMs: 200, breaker } as const;
  const scheduler = await testScheduler({ mongo: proxy.uriFor(name), ...options });
  const { id } = await scheduler.campaigns.create({
    name: 'answered while stopping',
    messenger: 'mail',
    content: {},
    audience: people(10),
    onUnknown: 'hold',
  });
  await untilClosed(scheduler, db, id);
  proxy.delay(200);
  for (const send of held) send.answer({ status: 'sent' });
  await new Promise((resolve) => setImmediate(resolve));
  await scheduler.stop();
  expect((await pagesOf(db, id)).map((page) => page.counts)).toMatchObject([{ sent: 10, unknown: 0 }]);
});

it('a truth that comes while another is being merged is not thrown away with it', async () => {
  const { messenger, held } = heldMessenger();
  const scheduler = await testScheduler({
    mongo: uri,
    messengers: { mail: messenger },
    sendTimeoutMs: 200,
    breaker,
  });
  const { id } = await scheduler.campaigns.create({
    name: 'two late answers',
    messenger: 'mail',
    content: {},
    audience: people(10),
    onUnknown: 'hold',
  });
  await untilClosed(scheduler, db, id);
  expect(held).toHaveLength(10);
  await scheduler.stop();

  const store = await openStore({ mongo: uri, collectionPrefix: '', journalDays: 90 });
  const [page] = (await pagesOf(db, id)) as unknown as LedgerPageDoc[];
  const token = page?.details?.['0']?.token ?? '';
  const truth = (recipient: number, attempt: number): LateTruth => {
    return { token, recipient, attempt, state: 'sent', at: Date.now() };
  };
  const pageId = `${id}:once:0`;
  // Read by one who is slow: a truth about an attempt that is no longer the present one, which changes nothing.
  const read = { ...page, late: [truth(0, 9)] } as LedgerPageDoc;
  // Meanwhile it was taken out by another, and a second truth came.
  await store.ledgerPages.updateOne({ _id: pageId }, { $set: { late: [truth(1, 1)] } });
  await mergeUnheld(store, read);
  const [after] = await pagesOf(db, id);
  expect(after?.states).toBe('usuuuuuuuu');
  expect(after?.late).toBeUndefined();
  await store.close();
});
