/** How long GET /health takes in a process that is sending to a million recipients, as fast as it can. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { nullMessenger, people, start } from '../harness.ts';
import { figure, thousands } from '../report.ts';
import { askOften, firstMessage, serve } from '../routes.ts';

const COUNT = Number(process.env.BENCH_COUNT ?? 1_000_000);

if (process.argv[2] === 'worker') await work();
else await measure();

async function work(): Promise<void> {
  process.once('disconnect', () => process.exit());
  const scheduler = await start({ messengers: { null: nullMessenger } });
  const started = new Promise((resolve) => scheduler.on('campaign:started', resolve));
  await started;
  const { port } = await serve(scheduler);
  process.send?.(port);
}

async function measure(): Promise<void> {
  const author = await start({ messengers: { null: nullMessenger }, worker: false });
  const { id } = await author.campaigns.create({
    name: 'a million',
    messenger: 'null',
    content: {},
    concurrency: 100,
    audience: people(COUNT),
  });
  const child = fork(fileURLToPath(import.meta.url), ['worker']);
  const port = await firstMessage(child);
  const { p95, value } = await askOften(port, '/health');
  // Otherwise it was not busy all the time.
  const progress = await author.campaigns.progress(id);
  const left = COUNT - (progress?.sent ?? COUNT);
  figure(
    `GET /health of a worker that sends to ${thousands(COUNT)}: median, p95`,
    value,
    'p95 ≤ 50 ms',
    p95 <= 50 && left > 0,
  );
  figure('  left to be sent after the last answer', thousands(left));
  child.disconnect();
  await once(child, 'exit');
  await author.stop();
}
