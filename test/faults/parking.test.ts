/** Recipients that kill every worker that hands them over: they stop neither their campaign nor the others. */
import { writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { testDatabase } from '../support/mongo.ts';
import { bundledWorker } from './bundle.ts';
import { crew, troubles } from './crew.ts';
import { pagesOf, testScheduler, until, untilClosed } from './fixtures.ts';
import { declaredProviders, healFile } from './providers.ts';
import { row } from './rows.ts';

const { db, uri } = await testDatabase();
const { start, taken, logFile } = crew(await bundledWorker(), uri);
const OPTIONS = { pageSize: 10, claimTtlMs: 1_500 };
const parkedPages = (id: string) =>
  db.collection('ledger_pages').countDocuments({ runId: `${id}:once`, status: 'parked' });

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
  expect(await survivor.next('page:parked', 60_000)).toMatchObject({ page: 1, campaign: { id } });
  await until('the rest', async () => (await api.campaigns.progress(id))?.sent === 30);
  expect(await parkedPages(id)).toBe(1);
  const before = await api.campaigns.audit(id);
  expect(before).toMatchObject({ ok: true, counts: { sent: 30 } });
  const { unknown = 0, pending = 0 } = before?.counts ?? {};
  expect(unknown).toBeGreaterThanOrEqual(3); // each worker took one with it
  expect(unknown).toBeLessThanOrEqual(6);
  expect(unknown + pending).toBe(10);
  expect(await api.campaigns.find(id)).toMatchObject({ status: 'processing' });
  expect((await api.campaigns.journal(id)).filter(({ kind }) => kind === 'page-parked')).toHaveLength(1);

  writeFileSync(healFile(logFile, id), '');
  await api.campaigns.releaseParked(id);
  await untilClosed(api, db, id);
  expect(await api.campaigns.report(id)).toMatchObject({ total: 40, sent: 30 + pending, unknown });
  expect(await api.campaigns.audit(id)).toMatchObject({ ok: true });
  expect(new Set(taken(id).map(({ recipientId }) => recipientId)).size).toBe(taken(id).length);
  expect(troubles(survivor).filter((line) => !line.includes('put aside'))).toEqual([]);
});

it('one recipient that is sent again by policy: unknown after its last attempt, and everybody else is sent', async () => {
  const api = await testScheduler({ mongo: uri, worker: false, messengers: declaredProviders() });
  const { id } = await api.campaigns.create({
    name: 'a recipient that kills',
    messenger: 'deduping',
    content: {},
    audience: Array.from({ length: 20 }, (_, index) =>
      row(index, index === 3 ? { poison: true } : undefined),
    ),
    concurrency: 1,
    onUnknown: 'resend',
    retry: { maxAttempts: 3 },
  });
  for (let deaths = 0; deaths < 3; deaths += 1) {
    expect(await (await start({ options: OPTIONS })).exit).toMatchObject({ signal: 'SIGKILL' });
  }
  await start({ options: OPTIONS });
  await untilClosed(api, db, id);
  // The one whose intent stood beside it every time may have used up its attempts with it.
  const report = await api.campaigns.report(id);
  expect(report?.unknown).toBeLessThanOrEqual(2);
  expect(report).toMatchObject({ total: 20, sent: 20 - (report?.unknown ?? 0) });
  expect(await api.campaigns.audit(id)).toMatchObject({ ok: true });
  expect(await api.campaigns.findDelivery(id, 'r3')).toMatchObject({
    state: 'unknown',
    attempts: 3,
    reason: 'no attempts left',
  });
  const keys = taken(id).filter(({ recipientId }) => recipientId === 'r3');
  expect(keys.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
  expect(new Set(keys.map(({ key }) => key)).size).toBe(1);
  expect((await pagesOf(db, id)).map(({ status }) => status)).toEqual(['done', 'done']);
});
