/** Freezing an audience: how fast, in how much memory; and what a delivery costs on disk beyond the audience. */
import { connect, nullMessenger, people, runCampaign, start } from '../harness.ts';
import { figure, perSecond, thousands } from '../report.ts';

const COUNT = Number(process.env.BENCH_COUNT ?? 500_000);

const scheduler = await start({ messengers: { null: nullMessenger } });
const client = await connect();
await scheduler.campaigns.create({
  name: 'warm',
  messenger: 'null',
  content: {},
  draft: true,
  audience: people(20_000),
});
globalThis.gc?.();
const before = process.memoryUsage().rss;
let peak = before;
const watch = setInterval(() => {
  peak = Math.max(peak, process.memoryUsage().rss);
}, 50);
const from = performance.now();
await scheduler.campaigns.create({
  name: 'frozen',
  messenger: 'null',
  content: {},
  draft: true,
  audience: people(COUNT),
});
const rate = perSecond(COUNT, performance.now() - from);
clearInterval(watch);
figure(`freezing ${thousands(COUNT)} recipients`, `${thousands(rate)}/s`, '≥ 60,000/s', rate >= 60_000);
figure('  growth of resident memory meanwhile', `${Math.round((peak - before) / 1e6)} MB`);

await runCampaign(scheduler, 'null', 100_000, 100);
await client.db().admin().command({ fsync: 1 });
const [size] = await client
  .db()
  .collection('ledger_pages')
  .aggregate<{ storageStats: { storageSize: number; totalIndexSize: number; freeStorageSize: number } }>([
    { $collStats: { storageStats: {} } },
  ])
  .toArray();
const { storageSize = 0, totalIndexSize = 0, freeStorageSize = 0 } = size?.storageStats ?? {};
const bytes = (storageSize - freeStorageSize + totalIndexSize) / 100_000;
figure(
  'disk per delivery beyond the audience (data and indexes)',
  `${bytes.toFixed(1)} B`,
  '≤ 40 B',
  bytes <= 40,
);
figure(
  '  with the space that MongoDB keeps for reuse',
  `${((storageSize + totalIndexSize) / 100_000).toFixed(1)} B`,
);
await client.close();
await scheduler.stop();
