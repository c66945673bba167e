/** 1,000 campaigns sending at once: how long a late small one waits for its first message. */
import type { Messenger } from '../../src/index.ts';
import { connect, people, serverFigures, slowMessenger, start } from '../harness.ts';
import { figure, thousands } from '../report.ts';

const MANY = 1000;
for (const concurrency of [undefined, 50]) {
  const late = later<number>();
  const { send } = slowMessenger(20);
  const messenger: Messenger = {
    ...(concurrency === undefined ? {} : { concurrency }),
    send: (message, context) => {
      if (message.campaign.name === 'late') late.resolve(performance.now());
      return send(message, context);
    },
  };
  const author = await start({ messengers: { slow: messenger }, worker: false });
  for (let n = 0; n < MANY; n += 1) {
    await author.campaigns.create({
      name: `c${n}`,
      messenger: 'slow',
      content: {},
      concurrency: 2,
      audience: people(concurrency === undefined ? 2000 : 500),
    });
  }
  const scheduler = await start({ messengers: { slow: messenger } });
  const client = await connect();
  const open = async (): Promise<number> =>
    client
      .db()
      .collection('ledger_pages')
      .distinct('runId', { 'counts.sent': { $gt: 0 } })
      .then((runs) => runs.length);
  while ((await open()) < MANY) await new Promise((resolve) => setTimeout(resolve, 500));
  const before = await serverFigures(client);
  const from = performance.now();
  await author.campaigns.create({ name: 'late', messenger: 'slow', content: {}, audience: people(10) });
  const ms = (await late.promise) - from;
  const after = await serverFigures(client);
  const what =
    concurrency === undefined ? 'no limit of the messenger' : `messenger takes ${concurrency} at once`;
  figure(
    `${thousands(MANY)} campaigns sending, ${what}: a late one's first message`,
    `${(ms / 1000).toFixed(2)} s`,
    '≤ 2 s',
    ms <= 2000,
  );
  figure(
    '  MongoDB operations in that time',
    `${thousands(((after.operations - before.operations) / ms) * 1000)}/s`,
  );
  await scheduler.stop({ timeoutMs: 5000 });
  await author.stop();
  await client.db().dropDatabase();
  await client.close();
}

function later<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
