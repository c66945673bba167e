/** Recipients that kill every worker that hands them over: they stop neither their campaign nor the others. */
import { writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import type { CampaignScheduler } from '../../src/index.ts';
import { PATIENCE } from '../engine/provider.ts';
import { testDatabase } from '../support/mongo.ts';
import type { Worker } from '../support/processes.ts';
import { crew, troubles } from './crew.ts';
import { pagesOf, testScheduler, until, untilClosed } from './fixtures.ts';
import { declaredProviders, healFile } from './providers.ts';
import { row } from './rows.ts';

const { db, uri } = await testDatabase();
const { start, taken, logFile } = crew(uri);
const OPTIONS = { pageSize: 10, claimTtlMs: 1_500, watchdog: { everyMs: 500 } };
/** Whoever waits for the last send of a dead worker waits for `sendTimeoutMs`: longer than a machine may stand still. */
const QUICK = { ...OPTIONS, claimTtlMs: 1_000, sendTimeoutMs: 4_000 };
const alertsOf = (id: string) => db.collection('alerts').find({ campaignId: id }).toArray();
const pagesWith = (id: string, status: string) =>
  db.collection('ledger_pages').countDocuments({ runId: `${id}:once`, status });
const journalOf = async (api: CampaignScheduler, id: string, kind: string) =>
  (await api.campaigns.journal(id)).filter((entry) => entry.kind === kind);

it('three deaths in a row: the page is put aside, the others go on, and a person lets it go on', async () => {
  const api = await testScheduler({ mongo: uri, worker: false, messengers: declaredProviders() });
  // All of the second page are poison, so that no holder of it records an outcome.
  const audience = Array.from({ length: 40 }, (_, index) =>
    row(index, index >= 10 && index < 20 ? { poison: true } : undefined),
  );
  const { id } = await api.campaigns.create({
    name: 'a page that kills',
    messenger: 'instant',
    content: {},
    audience,
    concurrency: 1,
  });
  for (let deaths = 0; deaths < 3; deaths += 1) {
    expect(await (await start({ options: OPTIONS })).exit).toMatchObject({ signal: 'SIGKILL' });
  }
  const survivor = await start({ options: OPTIONS });
  expect(await survivor.next('page:parked')).toMatchObject({ page: 1, campaign: { id } });
  await until('the rest', async () => (await pagesWith(id, 'done')) === 3);
  expect(await pagesWith(id, 'parked')).toBe(1);
  const before = await api.campaigns.audit(id);
  expect(before).toMatchObject({ ok: true });
  const { sent = 0, unknown = 0, pending = 0 } = before?.counts ?? {};
  expect(unknown).toBeGreaterThanOrEqual(3); // each worker took one with it
  expect(unknown).toBeLessThanOrEqual(6); // and perhaps another one, of this page or of that before it
  expect(sent + unknown + pending).toBe(40);
  expect(sent).toBeGreaterThanOrEqual(27);
  expect(await api.campaigns.find(id)).toMatchObject({ status: 'processing' });
  await expect
    .poll(() => alertsOf(id), PATIENCE)
    .toMatchObject([{ _id: `parked:${id}:once:1`, level: 'warning', state: 'raised' }]);
  expect(await journalOf(api, id, 'page-parked')).toHaveLength(1); // written before

  writeFileSync(healFile(logFile, id), '');
  await api.campaigns.releaseParked(id);
  await untilClosed(api, db, id);
  expect(await api.campaigns.report(id)).toMatchObject({ total: 40, sent: sent + pending, unknown });
  expect(await api.campaigns.audit(id)).toMatchObject({ ok: true });
  expect(new Set(taken(id).map(({ recipientId }) => recipientId)).size).toBe(taken(id).length);
  expect(troubles(survivor).filter((line) => !line.includes('put aside'))).toEqual([]);
});

/** Starts workers, one after another died, until the campaign has ended. Returns how many died. */
async function untilEnded(api: CampaignScheduler, id: string): Promise<{ deaths: number; last: Worker }> {
  for (let deaths = 0; ; deaths += 1) {
    const last = await start({ options: QUICK });
    const ended = untilClosed(api, db, id);
    ended.catch(() => undefined); // it waits on where the worker has died
    const exit = await Promise.race([last.exit, ended]);
    if (exit === undefined) return { deaths, last };
    expect(exit).toMatchObject({ signal: 'SIGKILL' });
  }
}

async function campaignWith(poison: readonly number[]): Promise<[CampaignScheduler, string]> {
  const api = await testScheduler({ mongo: uri, worker: false, messengers: declaredProviders() });
  const { id } = await api.campaigns.create({
    name: 'recipients that kill',
    messenger: 'mailer',
    content: {},
    audience: Array.from({ length: 30 }, (_, index) =>
      row(index, poison.includes(index) ? { poison: true } : undefined),
    ),
    concurrency: 3,
    onUnknown: 'resend',
  });
  return [api, id];
}

const attemptsOf = (id: string, recipient: string) =>
  taken(id).filter(({ recipientId }) => recipientId === recipient);

it('one that kills its worker each time is put aside alone after three deaths, and sent when it is released', async () => {
  const [api, id] = await campaignWith([3]);
  const { deaths, last } = await untilEnded(api, id);
  expect(deaths).toBe(3);
  expect(await api.campaigns.report(id)).toMatchObject({ total: 30, sent: 29, unknown: 1 });
  expect(await api.campaigns.findDelivery(id, 'r3')).toMatchObject({
    state: 'unknown',
    code: 'quarantined',
    attempts: 3,
    reason: expect.stringContaining('3 workers in a row'),
  });
  expect(attemptsOf(id, 'r3').map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
  // Those beside it at the first two deaths went out once more each time, under the same key; nobody else did.
  const others = taken(id).filter(({ recipientId }) => recipientId !== 'r3');
  expect(new Set(others.map(({ key }) => key)).size).toBe(29);
  expect(others.length).toBeLessThanOrEqual(29 + 2 * 5);
  expect((await pagesOf(db, id)).map(({ status, deaths: left }) => [status, left])).toEqual([
    ['done', 0],
    ['done', 0],
    ['done', 0],
  ]);
  expect(await last.next('delivery:quarantined')).toMatchObject({ delivery: { recipientId: 'r3' } });
  await expect
    .poll(() => alertsOf(id), PATIENCE)
    .toMatchObject([{ _id: `quarantined:${id}:once`, level: 'warning', state: 'raised' }]);
  const told = await journalOf(api, id, 'recipient-quarantined'); // written before
  expect(told).toMatchObject([{ detail: { recipientId: 'r3' } }]);
  expect(await api.why(id)).toMatchObject({ code: 'quarantined', recipients: 1 });

  writeFileSync(healFile(logFile, id), '');
  await api.campaigns.releaseParked(id);
  await until('the one that was put aside', async () => (await api.campaigns.report(id))?.sent === 30);
  expect(attemptsOf(id, 'r3').map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4]);
  expect(new Set(attemptsOf(id, 'r3').map(({ key }) => key)).size).toBe(1);
  await untilClosed(api, db, id);
  expect(await api.campaigns.audit(id)).toMatchObject({ ok: true });
  expect(await api.why(id)).toMatchObject({ code: 'completed' });
  await until('the end of the alert', async () => (await alertsOf(id))[0]?.state === 'cleared');
  expect(troubles(last).filter((line) => !line.includes('put aside'))).toEqual([]);
});

it.runIf(process.env.FAULTS === 'long')(
  'two on one page are put aside one after the other, and everybody else is sent',
  async () => {
    const [api, id] = await campaignWith([11, 17]);
    const { deaths, last } = await untilEnded(api, id);
    expect(deaths).toBeLessThanOrEqual(6);
    expect(await api.campaigns.report(id)).toMatchObject({ total: 30, sent: 28, unknown: 2 });
    for (const recipient of ['r11', 'r17']) {
      expect(await api.campaigns.findDelivery(id, recipient)).toMatchObject({
        code: 'quarantined',
        attempts: 3,
      });
    }
    expect(await api.campaigns.audit(id)).toMatchObject({ ok: true });

    // Released while it still kills: it goes out alone, and is put aside again after one more death.
    await api.campaigns.releaseParked(id);
    expect(await last.exit).toMatchObject({ signal: 'SIGKILL' });
    writeFileSync(healFile(logFile, id), '');
    await start({ options: QUICK });
    await until('the end', async () => (await api.campaigns.report(id))?.unknown === 1);
    expect(await api.campaigns.report(id)).toMatchObject({ sent: 29 });
    await untilClosed(api, db, id);
    expect(await api.why(id)).toMatchObject({ code: 'quarantined', recipients: 1 });
  },
);
