/** A cancellation ends a campaign whatever its sends in flight turn into, and whatever it races with. */
import { describe, expect, inject, it, onTestFinished } from 'vitest';
import { DeliveryError, type SendResult } from '../../src/index.ts';
import { testDatabase } from '../support/mongo.ts';
import { startProxy } from '../support/proxy.ts';
import { heldMessenger, pagesOf, people, testScheduler, until, untilClosed } from './fixtures.ts';

const { db, uri, name } = await testDatabase();

describe('sends in flight when the cancellation reaches their page', () => {
  const endings: [string, (held: { fail(error: Error): void; answer(result: SendResult): void }) => void][] =
    [
      ['fail for now', ({ fail }) => fail(new DeliveryError('transient', 'mailbox busy'))],
      [
        'fail because the provider is sick',
        ({ fail }) => fail(new DeliveryError('provider', 'no connection')),
      ],
      [
        'answer that they failed for now',
        ({ answer }) => answer({ status: 'failed', permanent: false, reason: 'busy' }),
      ],
    ];
  it.each(endings)('%s: they are not tried again', async (_, end) => {
    const { messenger, held } = heldMessenger();
    const scheduler = await testScheduler({
      mongo: uri,
      messengers: { mail: messenger },
      sendTimeoutMs: 120_000,
    });
    const { id } = await scheduler.campaigns.create({
      name: 'cancelled in flight',
      messenger: 'mail',
      content: {},
      audience: people(10),
      concurrency: 3,
    });
    await until('three sends', () => held.length === 3);
    await scheduler.campaigns.cancel(id);
    await until('the order on the page', async () => (await pagesOf(db, id))[0]?.orderNo === 1);
    for (const send of held) end(send);
    await untilClosed(scheduler, db, id);
    expect(held).toHaveLength(3);
    expect(await scheduler.campaigns.audit(id)).toMatchObject({ ok: true, counts: { skipped: 10 } });
    expect(await scheduler.campaigns.report(id)).toMatchObject({ total: 10, skipped: 10 });
  });

  it('leave it open whether they left: they stay unknown, also where the policy would send again', async () => {
    const { messenger, held } = heldMessenger({ idempotent: true });
    const scheduler = await testScheduler({
      mongo: uri,
      messengers: { mail: messenger },
      sendTimeoutMs: 120_000,
    });
    const { id } = await scheduler.campaigns.create({
      name: 'cancelled in doubt',
      messenger: 'mail',
      content: {},
      audience: people(10),
      concurrency: 3,
      onUnknown: 'resend',
    });
    await until('three sends', () => held.length === 3);
    await scheduler.campaigns.cancel(id);
    await until('the order on the page', async () => (await pagesOf(db, id))[0]?.orderNo === 1);
    for (const send of held) send.fail(new DeliveryError('unknown', 'silence'));
    await untilClosed(scheduler, db, id);
    expect(held).toHaveLength(3);
    expect(await scheduler.campaigns.report(id)).toMatchObject({ total: 10, skipped: 7, unknown: 3 });
    expect(await scheduler.campaigns.audit(id)).toMatchObject({ ok: true });
  });
});

it('a cancellation that races with the adoption of the audience: every recipient is skipped', async () => {
  const { messenger, held } = heldMessenger();
  const proxy = await startProxy(inject('mongoUri'));
  onTestFinished(() => proxy.stop());
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const source = async function* () {
    await opened;
    yield* people(30);
  };
  const options = { messengers: { mail: messenger }, audiences: { list: source }, sendTimeoutMs: 120_000 };
  const worker = await testScheduler({ mongo: uri, ...options });
  const api = await testScheduler({ mongo: proxy.uriFor(name), ...options, worker: false });
  const { id } = await worker.campaigns.create({
    name: 'cancelled at adoption',
    messenger: 'mail',
    content: {},
    audience: { source: 'list' },
  });
  const run = () =>
    db.collection('campaign_runs').findOne({ occurrence: 'once', name: 'cancelled at adoption' });
  await until(
    'freezing',
    async () => (await db.collection('audiences').countDocuments({ state: 'freezing' })) === 1,
  );
  const write = proxy.hold((command) => command.findAndModify === 'campaigns');
  const cancelled = api.campaigns.cancel(id);
  await write.reached();
  open();
  await until('adoption', async () => (await run())?.status === 'sending');
  write.release();
  await cancelled;
  await until('sends or none', async () => (await worker.campaigns.find(id))?.status === 'cancelled');
  for (const send of held) send.answer({ status: 'sent' });
  const answering = setInterval(() => {
    for (const send of held) send.answer({ status: 'sent' });
  }, 20);
  onTestFinished(() => clearInterval(answering));
  await untilClosed(worker, db, id);
  const audit = await worker.campaigns.audit(id);
  expect(audit).toMatchObject({ ok: true, total: 30 });
  expect((audit?.counts.sent ?? 0) + (audit?.counts.skipped ?? 0)).toBe(30);
  expect(audit?.counts.sent).toBe(held.length);
});
