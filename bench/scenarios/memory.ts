/** Resident memory of a worker that sends to more and more people: each size in a process of its own. */
import { once } from 'node:events';
import { buildPackage, builtWorker, nullMessenger, people, start } from '../harness.ts';
import { figure, thousands } from '../report.ts';

buildPackage();

// The audience is frozen by another process, so that only sending counts.
const author = await start({ messengers: { null: nullMessenger }, worker: false });
for (const count of [10_000, 100_000, 1_000_000]) {
  await author.campaigns.create({
    name: `memory ${count}`,
    messenger: 'null',
    content: {},
    concurrency: 100,
    audience: people(count),
  });
  const child = await builtWorker();
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
