/** A worker that is told to stop while it takes over a page: nobody has to wait for its claim to run out once more. */
import { ObjectId } from 'mongodb';
import { expect, inject, it, onTestFinished } from 'vitest';
import { startCampaignScheduler } from '../../src/index.ts';
import { testDatabase } from '../support/mongo.ts';
import { startProxy } from '../support/proxy.ts';
import { heldMessenger, pagesOf, people, quiet, testScheduler, until } from './fixtures.ts';
import { TIMES } from './times.ts';

const { db, uri, name } = await testDatabase();

it('gives the page back before it has stopped', async () => {
  const proxy = await startProxy(inject('mongoUri'));
  onTestFinished(() => proxy.stop());
  const { messenger } = heldMessenger();
  const api = await testScheduler({ mongo: uri, messengers: { mail: messenger }, worker: false });
  // It opens the run, and has no messenger to send it with.
  const worker = await startCampaignScheduler({
    mongo: proxy.uriFor(name),
    logger: quiet,
    ...TIMES,
    pageSize: 10,
  });
  onTestFinished(() => worker.stop());
  const { id } = await api.campaigns.create({
    name: 'taken over while stopping',
    messenger: 'mail',
    content: {},
    audience: people(10),
  });
  const adopted = { campaignId: new ObjectId(id), status: 'sending' };
  await until('the page', async () => (await db.collection('campaign_runs').countDocuments(adopted)) === 1);
  const claim = { token: 'of a dead worker', seq: 3, workerId: 'dead', ttlMs: 1_000, sendTimeoutMs: 1_000 };
  const takeOver = proxy.hold(
    ({ findAndModify, query }) => findAndModify === 'ledger_pages' && query['claim.token'] === claim.token,
  );
  const back = proxy.hold(({ update, updates }) => {
    return update === 'ledger_pages' && updates[0].u.$set?.status === 'pending';
  });
  const farewell = proxy.hold(({ findAndModify, update }) => {
    return findAndModify === 'workers' && update.$set?.state === 'stopped';
  });
  await db
    .collection('ledger_pages')
    .updateOne({ runId: `${id}:once`, status: 'pending' }, { $set: { status: 'claimed', claim } });
  await takeOver.reached();
  const stopped = worker.stop({ timeoutMs: 120_000 });
  await db.command({ ping: 1 });
  takeOver.release();
  await back.reached();
  for (let pings = 0; pings < 50; pings += 1) await db.command({ ping: 1 });
  expect(farewell.count()).toBe(0); // it does not say that it has stopped while it holds a page
  back.release();
  await farewell.reached();
  const [page] = await pagesOf(db, id);
  expect(page).toMatchObject({ status: 'pending' });
  expect(page?.claim).toBeUndefined();
  farewell.release();
  await stopped;
});
