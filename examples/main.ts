/**
 * The whole thing in one command: a database, a mail server that counts, and a campaign to 10,000 people. Kill it at any
 * moment (`kill -9`) and start it again: it goes on where it was, and at the end its books and the mail server's count
 * stand side by side.
 *
 *     npm start                        then serves http://127.0.0.1:3000 until Ctrl-C
 *     npm start -- --exit-when-done    ends with 0 when the books agree with the mail server, else with 1
 *     npm start -- --fresh             forgets everything first
 *
 * `PORT` is the port of the web server, `DELAY_MS` the time the mail server takes for a message (default 20).
 */

import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import express from 'express';
import { ensureMongod } from '../scripts/mongod.ts';
import { startEmbeddedMongo } from '../src/embedded/index.ts';
import {
  type Campaign,
  createCampaignRouter,
  dryRunMessenger,
  lineLogger,
  smtpMessenger,
  startCampaignScheduler,
} from '../src/index.ts';
import { compare, number, table } from './books.ts';
import { csvAudience } from './csv-audience.ts';
import { progressView } from './progress-view.ts';
import { startSink, stopSink } from './sink-process.ts';

const DATA_DIR = fileURLToPath(new URL('../.data/', import.meta.url));
const NAME = 'Spring newsletter';
const EVERY_MINUTE = 'Report of the minute';
const AFRESH = 'npm start -- --fresh';
const ENDED: readonly string[] = ['completed', 'failed', 'cancelled'];

const { values: flags } = parseArgs({
  options: {
    'exit-when-done': { type: 'boolean', default: false },
    fresh: { type: 'boolean', default: false },
  },
});
const say = (line: string) => process.stdout.write(`${line}\n`);

// The port first: while another copy runs, nothing of its data is touched.
const app = express();
const server = createServer(app);
const port = Number(process.env.PORT ?? 3000);
server.listen(port, '127.0.0.1');
await once(server, 'listening').catch((error: NodeJS.ErrnoException) => {
  if (error.code !== 'EADDRINUSE') throw error;
  say(
    `Port ${port} is taken, perhaps by another copy of this program. PORT=3001 npm start takes another one.`,
  );
  process.exit(1);
});

const mongoOptions = { dataDir: `${DATA_DIR}mongo`, binary: await ensureMongod() };
if (flags.fresh) {
  await stopSink(DATA_DIR);
  // A server that a killed start has left running would go on writing into the directory.
  await (await startEmbeddedMongo(mongoOptions)).stop();
  await rm(DATA_DIR, { recursive: true, force: true });
}
const mongo = await startEmbeddedMongo(mongoOptions);
const sink = await startSink(DATA_DIR, Number(process.env.DELAY_MS ?? 20));
say(
  `MongoDB has process id ${mongo.pid}, the mail server ${sink.pid}${sink.reused ? ' (from before)' : ''}.`,
);

const scheduler = await startCampaignScheduler({
  mongo: mongo.uri,
  messengers: {
    email: smtpMessenger({ url: sink.url, from: 'Spring <news@example.com>' }),
    dry: dryRunMessenger(), // sends nothing, so that the mail server counts the newsletter alone
  },
  audiences: { csv: csvAudience },
  handleSignals: true,
  // Log lines would tear the bar apart.
  logger: lineLogger({ level: process.stdout.isTTY ? 'warn' : 'info' }),
});
let ending = false;
let watching = false;
process.once('SIGINT', () => void end(130));
process.once('SIGTERM', () => void end(143));

// Whoever can reach this machine's loopback may give orders; a real application asks who it is.
app.use('/api', createCampaignRouter(scheduler, { authorize: () => true }));
app.get('/', async (_request, response) => {
  response.json({
    name: NAME,
    status: (await findCampaign())?.status,
    progress: await progressOf(campaign.id),
    why: await scheduler.why(campaign.id),
    everyMinute: await scheduler.occurrences(report.id, { limit: 3 }),
  });
});

const campaign = (await findCampaign()) ?? (await createCampaign());
const [report = await createReport()] = await scheduler.campaigns.list({ name: EVERY_MINUTE });
scheduler.on('run:completed', ({ campaign: { id }, run }) => {
  if (id === report.id && !watching) say(`"${EVERY_MINUTE}" of ${run.occurrence} is done.`);
});
await scheduler.recover();
if (ENDED.includes(campaign.status)) {
  say(`The campaign "${NAME}" is ${campaign.status}, from an earlier start. ${AFRESH} starts afresh.`);
} else {
  await watch(campaign.id);
}
if (!ending) {
  const agree = await showBooks(campaign.id);
  if (flags['exit-when-done']) await end(agree ? 0 : 1);
  else say(`\nhttp://127.0.0.1:${port} serves until Ctrl-C. ${AFRESH} starts afresh.`);
}

async function findCampaign(): Promise<Campaign | undefined> {
  return (await scheduler.campaigns.list({ name: NAME })).at(-1);
}

async function createCampaign(): Promise<Campaign> {
  say(`Sending the campaign "${NAME}" to everybody in examples/data/recipients.csv.`);
  return scheduler.campaigns.create({
    name: NAME,
    messenger: 'email',
    audience: { source: 'csv', params: { file: 'recipients.csv' } },
    content: {
      subject: 'Spring in {{ city }}, {{ first_name }}',
      text: 'Dear {{ first_name }} {{ last_name }},\n\nspring has come to {{ city }}.\n',
      html: '<p>Dear {{ first_name }} {{ last_name }},</p>\n<p>spring has come to <b>{{ city }}</b>.</p>\n',
      headers: { 'List-Unsubscribe': '<https://example.com/unsubscribe/{{ recipient.id }}>' },
    },
  });
}

/** A second campaign, which recurs: every minute, to three people. */
async function createReport(): Promise<Campaign> {
  return scheduler.campaigns.create({
    name: EVERY_MINUTE,
    messenger: 'dry',
    audience: ['ann', 'ben', 'zoe'].map((name) => ({ id: name, to: `${name}@example.org` })),
    content: { subject: 'The last minute', text: 'All is well.' },
    recurrence: { cron: '* * * * *' },
  });
}

async function progressOf(id: string) {
  return scheduler.campaigns.progress(id);
}

/** Resolves when the campaign or this process ends. Asks the database: an event may have been told to a dead process. */
async function watch(id: string): Promise<void> {
  const before = await progressOf(id);
  if (before !== null && before.total > before.pending) {
    const handedOver = before.total - before.pending;
    say(`Resuming campaign "${NAME}": ${number(handedOver)} of ${number(before.total)} already handed over.`);
  }
  const view = progressView(process.stdout);
  watching = true;
  try {
    for (let status = ''; !ENDED.includes(status) && !ending; await sleep(250)) {
      const progress = await progressOf(id);
      if (progress !== null && progress.total > 0) {
        view.update(progress.total - progress.pending - progress.sending, progress.total);
      }
      status = (await scheduler.campaigns.find(id))?.status ?? 'failed';
    }
  } catch (error) {
    // While it stops, the connection goes away under the question.
    if (!ending) throw error;
  } finally {
    view.end();
    watching = false;
  }
}

async function showBooks(id: string): Promise<boolean> {
  const books = await progressOf(id);
  if (books === null) {
    say('It never began, so it has no books.');
    return false;
  }
  const tally = await sink.tally();
  const { agree, words } = compare(books, tally);
  say(`\n${table(books, tally)}\n\n${words}`);
  return agree;
}

async function end(code: number): Promise<never> {
  ending = true;
  await scheduler.stop();
  server.close();
  server.closeAllConnections();
  await sink.stop();
  await mongo.stop();
  process.exit(code);
}
