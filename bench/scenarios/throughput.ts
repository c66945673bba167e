/** Ledgered, fenced sends per second with a messenger that costs nothing, beside the bare page loop and a peer. */
import { barePageLoop } from '../bare-page-loop.ts';
import { MONGO_URL, nullMessenger, runCampaign, start } from '../harness.ts';
import { graphileWorker } from '../peers/graphile-worker.ts';
import { figure, median, perSecond, thousands } from '../report.ts';

const COUNT = Number(process.env.BENCH_COUNT ?? 200_000);
const RUNS = 3;

const scheduler = await start({ messengers: { null: nullMessenger } });
await runCampaign(scheduler, 'null', 20_000, 100); // warm

const bare: number[] = [];
const ours: number[] = [];
for (let run = 0; run < RUNS; run += 1) {
  bare.push(perSecond(COUNT, await barePageLoop(MONGO_URL, COUNT)));
  ours.push(perSecond(COUNT, (await runCampaign(scheduler, 'null', COUNT, 100)).ms));
}
const at10 = perSecond(COUNT / 4, (await runCampaign(scheduler, 'null', COUNT / 4, 10)).ms);
await scheduler.stop();

const peer = await graphileWorker(50_000);
const rate = median(ours);
const limit = median(bare);
figure(
  `null messenger, concurrency 100, ${thousands(COUNT)} recipients, median of ${RUNS}`,
  `${thousands(rate)}/s`,
  '≥ 27,000/s',
  rate >= 27_000,
);
figure('  range', `${thousands(Math.min(...ours))}-${thousands(Math.max(...ours))}/s`);
figure('  the same at concurrency 10', `${thousands(at10)}/s`);
figure('bare page-write loop, same run', `${thousands(limit)}/s`);
figure('  share of it', `${Math.round((rate / limit) * 100)} %`, '≥ 70 %', rate / limit >= 0.7);
if (typeof peer === 'string') figure('graphile-worker, batched, no-op jobs', `SKIPPED: ${peer}`);
else {
  figure('graphile-worker, batched, no-op jobs, same run', `${thousands(peer)}/s`);
  figure('  ours as a multiple of it', (rate / peer).toFixed(2), '≥ 2', rate / peer >= 2);
}
