/** A messenger that takes time: how much of what it alone would do is left with the ledger around it. */
import { people, runCampaign, slowMessenger, start } from '../harness.ts';
import { figure, perSecond, thousands } from '../report.ts';

const SECONDS = 5;
const MAX = 150_000;

/** The messenger alone: as many loops as concurrency, nothing around them. */
async function alone(ms: number, concurrency: number, count: number): Promise<number> {
  const { send } = slowMessenger(ms);
  const rows = people(count);
  const from = performance.now();
  const loop = async (): Promise<void> => {
    for (const row of rows) await send(row as never, { signal: AbortSignal.abort() });
  };
  // One generator for all loops: each takes the next row. A generator ends for all when one loop breaks off, so none does.
  await Promise.all(Array.from({ length: concurrency }, loop));
  return performance.now() - from;
}

const scheduler = await start({ messengers: { '5': slowMessenger(5), '20': slowMessenger(20) } });
await runCampaign(scheduler, '5', 2_000, 100); // warm
for (const ms of [5, 20]) {
  for (const concurrency of [10, 50, 100, 200]) {
    const count = Math.min(MAX, Math.round((concurrency * 1000 * SECONDS) / ms));
    const limit = perSecond(count, await alone(ms, concurrency, count));
    const rate = perSecond(count, (await runCampaign(scheduler, String(ms), count, concurrency)).ms);
    const share = Math.round((rate / limit) * 100);
    const aim = limit > 27_000 ? undefined : '≥ 90 %';
    figure(
      `${ms} ms messenger, concurrency ${concurrency}: ${thousands(rate)}/s, alone ${thousands(limit)}/s`,
      `${share} %`,
      aim,
      aim === undefined ? undefined : share >= 90,
    );
  }
}
await scheduler.stop();
