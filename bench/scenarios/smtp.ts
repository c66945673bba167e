/** Mail through SMTP to a sink on this machine, templates rendered, ten connections; beside nodemailer's own pool. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { createTransport } from 'nodemailer';
import { smtpMessenger } from '../../src/index.ts';
import { people, start } from '../harness.ts';
import { figure, median, perSecond, thousands } from '../report.ts';

const COUNT = Number(process.env.BENCH_COUNT ?? 50_000);
const CONTENT = {
  subject: 'Hello {{ first }}',
  text: 'Dear {{ first }} in {{ city }},\n\nit is spring.\n\nYours',
};

const sink = fork(fileURLToPath(new URL('../fast-sink.ts', import.meta.url)), [], {
  execArgv: ['--import', 'tsx'],
});
const [{ port }] = (await once(sink, 'message')) as [{ port: number }];
const url = `smtp://127.0.0.1:${port}`;
const counted = async (): Promise<number> => {
  sink.send('count');
  const [{ messages }] = (await once(sink, 'message')) as [{ messages: number }];
  return messages;
};

const pool = createTransport({
  url,
  pool: true,
  maxConnections: 10,
  maxMessages: Number.POSITIVE_INFINITY,
} as never);
const POOLED = 10_000;
const rows = people(POOLED);
let from = performance.now();
await Promise.all(
  Array.from({ length: 50 }, async () => {
    for (const row of rows)
      await pool.sendMail({
        from: 'a@example.com',
        to: row.to,
        subject: 'Hello Ann',
        text: 'Dear Ann in Oslo,\n\nit is spring.\n\nYours',
      });
  }),
);
const alone = perSecond(POOLED, performance.now() - from);
pool.close();

const scheduler = await start({
  messengers: { email: smtpMessenger({ url, from: 'News <news@example.com>', connections: 10 }) },
});
const rates: number[] = [];
for (const count of [5_000, COUNT, COUNT, COUNT]) {
  const before = await counted();
  const completed = new Promise((resolve) => scheduler.once('campaign:completed', resolve));
  const started = new Promise<void>((resolve) => scheduler.once('campaign:started', () => resolve()));
  await scheduler.campaigns.create({
    name: 'mail',
    messenger: 'email',
    content: CONTENT,
    concurrency: 50,
    audience: people(count),
  });
  await started;
  from = performance.now();
  await completed;
  if (count === COUNT) rates.push(perSecond(count, performance.now() - from));
  const arrived = (await counted()) - before;
  if (arrived !== count) figure('  messages that arrived', `${arrived} of ${count}`, 'all', false);
}
await scheduler.stop();
const rate = median(rates);
figure(
  `mail through SMTP, ${thousands(COUNT)} messages, 10 connections, median of 3`,
  `${thousands(rate)}/s`,
  '≥ 5,800/s',
  rate >= 5800,
);
figure("nodemailer's pool alone, same sink, same run", `${thousands(alone)}/s`);
sink.disconnect();
