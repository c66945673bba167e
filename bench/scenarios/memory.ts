/** Resident memory of a worker that sends to more and more people: each size in a process of its own. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { nullMessenger, people, start } from '../harness.ts';
import { figure, thousands } from '../report.ts';

const size = Number(process.argv[2] ?? 0);
if (size > 0) {
  // The audience is frozen by another process, so that only sending counts here.
  const scheduler = await start({ messengers: { null: nullMessenger } });
  let peak = 0;
  setInterval(() => {
    peak = Math.max(peak, process.memoryUsage().rss);
  }, 50).unref();
  await new Promise((resolve) => scheduler.on('campaign:completed', resolve));
  await scheduler.stop();
  process.send?.(peak);
  process.disconnect?.();
} else {
  const author = await start({ messengers: { null: nullMessenger }, worker: false });
  for (const count of [10_000, 100_000, 1_000_000]) {
    await author.campaigns.create({
      name: `memory ${count}`,
      messenger: 'null',
      content: {},
      concurrency: 100,
      audience: people(count),
    });
    const child = fork(fileURLToPath(import.meta.url), [String(count)], { execArgv: ['--import', 'tsx'] });
    const [peak] = (await once(child, 'message')) as [number];
    await once(child, 'exit');
    const megabytes = Math.round(peak / 1e6);
    figure(
      `resident memory of a worker, ${thousands(count)} recipients`,
      `${megabytes} MB`,
      '≤ 150 MB',
      megabytes <= 150,
    );
  }
  await author.stop();
}
