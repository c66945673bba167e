/**
 * A page whose last flush was on its way when an order came, and whose holder died before it heard of the order: the order
 * reaches the page at once, not only when the rest of the run is done.
 */

import { writeFileSync } from 'node:fs';
import mongoose from 'mongoose';
import { inject, it, onTestFinished } from 'vitest';
import { testDatabase } from '../support/mongo.ts';
import { startProxy } from '../support/proxy.ts';
import { crew } from './crew.ts';
import { pagesOf, testScheduler, until } from './fixtures.ts';
import { declaredProviders, healFile, providers } from './providers.ts';
import { row } from './rows.ts';
import { appendTo } from './send-log.ts';

const { db, uri, name } = await testDatabase();
const { start, logFile, untilTaken } = crew(uri);

it('retry failed reaches a page that was done too late for it, while another page waits for an hour', async () => {
  const proxy = await startProxy(inject('mongoUri'));
  onTestFinished(() => proxy.stop());
  const api = await testScheduler({ mongo: uri, worker: false, messengers: declaredProviders() });
  const vars = (index: number) =>
    index === 0 ? { refused: true } : index === 10 ? { busy: true } : undefined;
  const { id } = await api.campaigns.create({
    name: 'an order meets a dead holder',
    messenger: 'short',
    content: {},
    audience: Array.from({ length: 20 }, (_, index) => row(index, vars(index))),
    retry: { firstDelayMs: 3_600_000 },
  });
  // The end of the first page waits in the network, and its holder dies.
  const end = proxy.hold(
    ({ update, updates }) =>
      update === 'ledger_pages' &&
      updates[0].q._id === `${id}:once:0` &&
      updates[0].u.$set?.status === 'done',
  );
  const holder = await start({ uri: proxy.uriFor(name), options: { pageSize: 10, claimTtlMs: 600_000 } });
  await end.reached();
  await until('the second page', async () => (await pagesOf(db, id))[1]?.status === 'waiting');
  await holder.kill();

  // Another worker applies the order to every page that is free, and finds no more.
  const connection = await mongoose.createConnection(uri, { monitorCommands: true }).asPromise();
  onTestFinished(() => connection.close());
  let looks = 0;
  connection.getClient().on('commandStarted', ({ command }) => {
    if (command.aggregate === 'ledger_pages') looks += 1;
  });
  const later = new Promise<void>(() => undefined);
  await testScheduler({
    mongo: connection,
    messengers: providers({
      logFile,
      append: appendTo(logFile),
      random: Math.random,
      onAccepted: () => undefined,
      onAsked: () => undefined,
      die: () => undefined,
      gate: () => later,
    }),
  });
  writeFileSync(healFile(logFile, id), '');
  await api.campaigns.retryFailed(id);
  await until('the order on the other page', async () => {
    const page = (await pagesOf(db, id))[1];
    return page?.status === 'waiting' && page.orderNo === 1;
  });
  const before = looks;
  await until('further looks', () => looks >= before + 4);
  end.release();
  await until('the end of the first page', async () => (await pagesOf(db, id))[0]?.status === 'done');
  await untilTaken(id, 19);
  await until('the retried one', async () => (await pagesOf(db, id))[0]?.counts.sent === 10);
});
