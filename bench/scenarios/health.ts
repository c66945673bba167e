/**
 * What it costs to know how everything is: 20 workers (4 processes with 5 schedulers each) and 1,000 running campaigns with
 * a million recipients. MongoDB's own counters with heartbeats, run heartbeats, watchdog and breakers as they are, and with
 * as little of them as the options allow; then how long the routes take that people and orchestrators ask.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { CampaignScheduler, Messenger, SchedulerOptions } from '../../src/index.ts';
import { connect, people, plantDue, serverFigures, slowMessenger, start, touches } from '../harness.ts';
import { figure, thousands } from '../report.ts';
import { askOften, firstMessage, serve } from '../routes.ts';

const CAMPAIGNS = Number(process.env.BENCH_COUNT ?? 1000);
const PROCESSES = 4;
const SCHEDULERS = 5;
/** More than are sent in all the time: no campaign ends. */
const PEOPLE = 1000;
/** Ten sends of two seconds at a time in each worker: the campaigns take turns. */
const SLOW: Messenger = { ...slowMessenger(2_000), concurrency: 10 };
const LONGEST_START_MS = 90_000;
/** A round of the watchdog, and four heartbeats. */
const SECONDS = 40;
const ROUTES = ['/health', '/campaigns', '/queue-management/status'] as const;
/** So many workers on two cores are slow while they start: what they warn of then is no news. */
const silent = (): void => undefined;
const logger = { debug: silent, info: silent, warn: silent, error: console.error };
/** As seldom as may be. */
const LITTLE: Partial<SchedulerOptions> = {
  breaker: false,
  heartbeatMs: 600_000,
  workerOfflineAfterMs: 3_600_000,
  watchdog: { everyMs: 600_000, stuckAfterMs: 3_600_000, statusEveryMs: 3_600_000 },
};

const [role, given = '{}'] = process.argv.slice(2);
if (role === 'workers') await work(JSON.parse(given) as Partial<SchedulerOptions>);
else await measure();

/** Five workers and their routes; says at which port these are. */
async function work(options: Partial<SchedulerOptions>): Promise<void> {
  const schedulers = await Promise.all(Array.from({ length: SCHEDULERS }, () => begin(options)));
  const { port, close } = await serve(schedulers[0] as CampaignScheduler);
  process.once('disconnect', () => process.exit()); // also when whoever measures is gone
  process.send?.(port);
  await once(process, 'message');
  close();
  await Promise.all(schedulers.map((scheduler) => scheduler.stop({ timeoutMs: 10_000 })));
  process.disconnect();
}

async function measure(): Promise<void> {
  const client = await connect();
  const db = client.db();
  const author = await begin({ worker: false, ...LITTLE });
  await author.campaigns.create({
    name: 'model',
    messenger: 'slow',
    content: { text: 'x' },
    concurrency: 2,
    sendAt: new Date(Date.now() + 86_400_000),
    audience: people(PEOPLE),
  });
  await plantDue(db, CAMPAIGNS);
  await author.recover(); // makes their alarms

  // One worker that cannot send opens them all: how fast that goes is measured elsewhere.
  const opener = await begin({ ...LITTLE, messengers: {} });
  const open = { status: 'sending', audienceId: { $exists: true } } as const;
  while ((await db.collection('campaign_runs').countDocuments(open)) < CAMPAIGNS) await sleep(500);
  await opener.stop();
  await author.stop();

  const what = `${PROCESSES * SCHEDULERS} workers, ${thousands(CAMPAIGNS)} running campaigns`;
  const little = await rates(LITTLE);
  figure(`${what}, as little health as may be: MongoDB operations`, `${thousands(little.operations)}/s`);
  const api = await begin({ worker: false });
  const { port, close } = await serve(api);
  const full = await rates({}, async (workerPort) => {
    for (const route of ROUTES) {
      await ask(`GET ${route}, of a process without a worker: median, p95`, port, route);
      await ask('  of one with five workers', workerPort, route);
    }
  });
  close();
  await api.stop();
  await client.close();

  figure('  with all of it', `${thousands(full.operations)}/s`);
  const more = (full.operations - little.operations) / (PROCESSES * SCHEDULERS);
  figure('  more for each worker', `${more.toFixed(2)}/s`, '≤ 1/s', more <= 1);
  figure('  messages meanwhile: little, all', `${thousands(little.sent)}/s, ${thousands(full.sent)}/s`);
  for (const [name, perSecond] of full.touched) {
    const before = little.touched.get(name) ?? 0;
    if (Math.max(before, perSecond) >= 0.2)
      figure(`    in ${name}: little, all`, `${before.toFixed(1)}/s, ${perSecond.toFixed(1)}/s`);
  }

  /** Starts the workers, waits until they send, and counts. */
  async function rates(
    options: Partial<SchedulerOptions>,
    meanwhile?: (port: number) => Promise<void>,
  ): Promise<{ operations: number; sent: number; touched: Map<string, number> }> {
    const args = ['workers', JSON.stringify(options)];
    const children = Array.from({ length: PROCESSES }, () => fork(fileURLToPath(import.meta.url), args));
    const ports = await Promise.all(children.map(firstMessage));
    const from = await sums();
    const late = performance.now() + LONGEST_START_MS;
    while ((await sums()) - from < CAMPAIGNS / 2 && performance.now() < late) await sleep(500);
    await sleep(5_000);
    const sentBefore = await sums();
    const touchedBefore = await touches(db);
    const before = await serverFigures(client);
    const began = performance.now();
    await sleep(SECONDS * 1000);
    const seconds = (performance.now() - began) / 1000;
    const after = await serverFigures(client);
    const touched = await touches(db);
    const sent = ((await sums()) - sentBefore) / seconds;
    await meanwhile?.(ports[0] ?? 0);
    for (const child of children) child.send('stop');
    await Promise.all(children.map((child) => once(child, 'exit')));
    return {
      operations: (after.operations - before.operations) / seconds,
      sent,
      touched: new Map(
        [...touched].map(([name, count]) => [name, (count - (touchedBefore.get(name) ?? 0)) / seconds]),
      ),
    };
  }

  async function sums(): Promise<number> {
    const [row] = await db
      .collection('ledger_pages')
      .aggregate<{ sent: number }>([{ $group: { _id: null, sent: { $sum: '$counts.sent' } } }])
      .toArray();
    return row?.sent ?? 0;
  }
}

async function ask(what: string, port: number, route: (typeof ROUTES)[number]): Promise<void> {
  const { p95, value } = await askOften(port, route);
  if (route === '/health') figure(what, value, 'p95 ≤ 50 ms', p95 <= 50);
  else figure(what, value);
}

function begin(options: Partial<SchedulerOptions>): Promise<CampaignScheduler> {
  return start({ messengers: { slow: SLOW }, logger, ...options });
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
