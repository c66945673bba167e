/**
 * A worker that stands still for longer than its claim (SIGSTOP), and wakes up after its pages were taken from it: it
 * starts no send, changes nothing, and still tells the truth about the sends it had begun.
 */
import { describe, expect, inject, it, onTestFinished } from 'vitest';
import type { CampaignScheduler, OnUnknown } from '../../src/index.ts';
import { testDatabase } from '../support/mongo.ts';
import type { Worker } from '../support/processes.ts';
import { startProxy } from '../support/proxy.ts';
import { crew, tell, troubles } from './crew.ts';
import { pagesOf, people, testScheduler, until, untilClosed } from './fixtures.ts';
import { declaredProviders } from './providers.ts';

const { db, uri, name } = await testDatabase();
const { start, taken, untilTaken } = crew(uri);

const CONCURRENCY = 5;
/** Long enough that only the stall ends a claim, short enough to wait for. */
const PATIENT = { sendTimeoutMs: 120_000, pageSize: 20 };
/** Of one whose page nobody is to take, however slow the machine is. */
const LASTING = { ...PATIENT, claimTtlMs: 8_000 };

async function campaignOf(
  count: number,
  onUnknown: OnUnknown = 'hold',
): Promise<[CampaignScheduler, string]> {
  const api = await testScheduler({ mongo: uri, worker: false, messengers: declaredProviders(), ...PATIENT });
  const { id } = await api.campaigns.create({
    name: 'stalled',
    messenger: 'gated',
    content: {},
    audience: people(count),
    concurrency: CONCURRENCY,
    onUnknown,
  });
  return [api, id];
}

/** The worker has as many sends in flight as it may, and stands still. */
async function stallInFlight(worker: Worker, id: string): Promise<void> {
  await untilTaken(id, CONCURRENCY, worker);
  worker.freeze();
}

describe('wakes up when the campaign has ended', () => {
  it('no new send; what had begun is told, and the closed books are corrected', async () => {
    const [api, id] = await campaignOf(60);
    const stalled = await start({ options: PATIENT });
    await stallInFlight(stalled, id);
    const other = await start({ options: PATIENT });
    tell(other, { kind: 'open', count: 1_000 });
    await untilClosed(api, db, id);
    const before = await api.campaigns.report(id);
    expect(before?.unknown).toBeGreaterThanOrEqual(CONCURRENCY);
    expect(before?.unknown).toBeLessThanOrEqual(2 * CONCURRENCY);

    stalled.thaw();
    tell(stalled, { kind: 'open', count: 1_000 });
    const unknown = (before?.unknown ?? 0) - CONCURRENCY;
    await until('the truth', async () => (await api.campaigns.report(id))?.unknown === unknown);
    expect(await api.campaigns.report(id)).toMatchObject({ sent: 60 - unknown, total: 60 });
    expect(await api.campaigns.audit(id)).toMatchObject({ ok: true });
    expect(taken(id, stalled)).toHaveLength(CONCURRENCY);
    expect(new Set(taken(id).map(({ recipientId }) => recipientId)).size).toBe(taken(id).length);
    for (const { recipientId } of taken(id, stalled)) {
      expect(await api.campaigns.findDelivery(id, recipientId ?? '')).toMatchObject({
        state: 'sent',
        attempts: 1,
      });
    }
    expect(troubles(stalled, other)).toEqual([]);
  });

  it('dies between the correction of a page and that of the books: another worker corrects them', async () => {
    const [api, id] = await campaignOf(40);
    const plan = { step: 'after merging a late truth', occurrence: 1 } as const;
    const stalled = await start({ options: PATIENT, plan });
    await stallInFlight(stalled, id);
    const other = await start({ options: PATIENT });
    tell(other, { kind: 'open', count: 1_000 });
    await untilClosed(api, db, id);
    stalled.thaw();
    tell(stalled, { kind: 'open', count: 1_000 });
    expect(await stalled.exit).toMatchObject({ signal: 'SIGKILL' });
    await until('balanced books', async () => (await api.campaigns.audit(id))?.ok === true);
    expect((await api.campaigns.report(id))?.sent).toBeGreaterThan(40 - 2 * CONCURRENCY);
    await until('nothing left over', async () =>
      (await pagesOf(db, id)).every((page) => page.late === undefined),
    );
  });
});

it('wakes up while another holds the page: no new send, and its truth is kept beside the other’s outcomes', async () => {
  const [api, id] = await campaignOf(20);
  const stalled = await start({ options: PATIENT });
  await stallInFlight(stalled, id);
  const other = await start({ options: LASTING });
  await other.next('page:taken-over');
  await untilTaken(id, CONCURRENCY, other);

  stalled.thaw();
  tell(stalled, { kind: 'open', count: 1_000 });
  await until('the truth', async () => (await pagesOf(db, id))[0]?.late?.length === CONCURRENCY);
  tell(other, { kind: 'open', count: 3 }); // flushes between the truth and the end of the page
  await untilTaken(id, CONCURRENCY + 3, other);
  tell(other, { kind: 'open', count: 1_000 });
  await untilClosed(api, db, id);
  const audit = await api.campaigns.audit(id);
  expect(audit).toMatchObject({ ok: true });
  expect(taken(id, stalled)).toHaveLength(CONCURRENCY);
  expect(audit?.counts.sent).toBe(taken(id).length);
  expect(audit?.counts.unknown).toBe(20 - taken(id).length);
  expect(new Set(taken(id).map(({ recipientId }) => recipientId)).size).toBe(taken(id).length);
  expect(troubles(stalled, other)).toEqual([]);
});

it('stands still with a flush on its way, which arrives after the page was taken: it changes nothing', async () => {
  const proxy = await startProxy(inject('mongoUri'));
  onTestFinished(() => proxy.stop());
  const [api, id] = await campaignOf(20);
  const stalled = await start({ options: PATIENT, uri: proxy.uriFor(name) });
  await untilTaken(id, CONCURRENCY, stalled);
  const flush = proxy.hold(
    ({ update, updates }) => update === 'ledger_pages' && /s/.test(updates[0].u.$set?.states),
  );
  tell(stalled, { kind: 'open', count: 1 });
  await flush.reached();
  stalled.freeze();
  const begun = taken(id, stalled).length;

  const other = await start({ options: LASTING });
  await other.next('page:taken-over');
  await untilTaken(id, CONCURRENCY, other);
  const [before] = await pagesOf(db, id);
  const profile = db.collection('system.profile', { readConcern: { level: 'local' } });
  await db.command({ profile: 2 });
  flush.release();
  await until('the late flush', async () => {
    const late = {
      op: 'update',
      ns: `${name}.ledger_pages`,
      'command.q.claim.token': { $ne: before?.claim.token },
    };
    return (await profile.countDocuments({ ...late, nMatched: 0 })) > 0;
  });
  await db.command({ profile: 0 });
  const [after] = await pagesOf(db, id);
  expect(after?.claim.token).toBe(before?.claim.token);
  expect(after?.states).toBe(before?.states);

  stalled.thaw();
  for (const worker of [stalled, other]) tell(worker, { kind: 'open', count: 1_000 });
  await untilClosed(api, db, id);
  await until('the truth', async () => (await api.campaigns.report(id))?.sent === taken(id).length);
  expect(taken(id, stalled)).toHaveLength(begun);
  expect(new Set(taken(id).map(({ recipientId }) => recipientId)).size).toBe(taken(id).length);
  expect(await api.campaigns.audit(id)).toMatchObject({ ok: true });
  expect(troubles(stalled, other)).toEqual([]);
});
