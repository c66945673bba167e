/**
 * 10,000 recurring campaigns due at the same instant, each with a small list: how long until all their runs are open and
 * until all are finished, and what that costs in MongoDB. Beside it, in the same run: as many bare guarded writes as the
 * tick of each campaign needs at the least, and Agenda alone with jobs that do nothing.
 */
import { MongoBackend } from '@agendajs/mongo-backend';
import { Agenda } from 'agenda';
import { type Db, type Document, ObjectId } from 'mongodb';
import type { CampaignScheduler } from '../../src/index.ts';
import {
  connect,
  cpuOf,
  nullMessenger,
  people,
  type ServerFigures,
  serverFigures,
  start,
  touches,
} from '../harness.ts';
import { figure, perSecond, thousands } from '../report.ts';

const COUNT = Number(process.env.BENCH_COUNT ?? 10_000);
const PEOPLE = 5;
const CREATED = 100;
const REFERENCE = Math.min(COUNT, 1_500);
/** Enough to lay all campaigns and their alarms before they are due. */
const AHEAD_MS = 8_000 + 0.7 * COUNT;
/** Then it is said how far it has come. */
const LONGEST_MS = 50_000;

const client = await connect();
const db = client.db();
const author = await start({ messengers: { null: nullMessenger }, worker: false });

const create = (author: CampaignScheduler, name: string, at: Date): Promise<unknown> =>
  author.campaigns.create({
    name,
    messenger: 'null',
    content: { text: 'x' },
    recurrence: { cron: `${at.getUTCSeconds()} ${at.getUTCMinutes()} * * * *` }, // once an hour
    audience: people(PEOPLE),
  });

let from = performance.now();
let before = await serverFigures(client);
for (let n = 0; n < CREATED; n += 1) await create(author, `created ${n}`, new Date(Date.now() - 600_000));
const creating = cost(before, await serverFigures(client), CREATED);
figure(
  `creating ${CREATED} recurring campaigns with ${PEOPLE} recipients, one after another`,
  `${thousands(perSecond(CREATED, performance.now() - from))}/s`,
);
figure('  MongoDB operations for each', creating.operations);
await db.dropDatabase({ writeConcern: { w: 'majority' } });
await author.stop();

const layer = await start({ messengers: { null: nullMessenger }, worker: false });
const dueAt = new Date(Math.ceil((Date.now() + AHEAD_MS) / 1000) * 1000);
await create(layer, 'model', dueAt);
// The others share its list, as the runs of one campaign do.
const { _id, agendaJobId: _alarm, ...model } = (await db.collection('campaigns').findOne({})) as Document;
for (let first = 1; first < COUNT; first += 5000) {
  const copies = Array.from({ length: Math.min(5000, COUNT - first) }, (_, index) => {
    return { ...model, _id: new ObjectId(), name: `copied ${first + index}` };
  });
  await db.collection('campaigns').insertMany(copies, { ordered: false });
}
await layer.recover(); // makes their alarms
await layer.stop();

let opened = 0;
let finished = 0;
let lastOpened = 0;
let lastFinished = 0;
let sent = 0;
let stopping = false;
const silent = (): void => undefined;
/** What a stop in the middle of ten thousand runs breaks off is no news. */
const warn = (...words: unknown[]): void => (stopping ? undefined : console.error(...words));
const logger = { debug: silent, info: silent, warn, error: console.error };
const worker = await start({ messengers: { null: nullMessenger }, logger });
worker.on('campaign:started', () => {
  opened += 1;
  lastOpened = Date.now();
});
worker.on('run:completed', ({ report }) => {
  finished += 1;
  sent += report.sent;
  lastFinished = Date.now();
});
await new Promise((resolve) => setTimeout(resolve, dueAt.getTime() - Date.now() - 1500));
if (opened > 0 || Date.now() > dueAt.getTime()) throw new Error('it took too long to lay the campaigns');
const touched = await touches(db);
before = await serverFigures(client);
const cpu = cpuOf(process.pid);
const givenUpAt = dueAt.getTime() + LONGEST_MS;
while ((finished < COUNT || (await ringing()) > 0) && Date.now() < givenUpAt)
  await new Promise((resolve) => setTimeout(resolve, 250));
const counted = finished > 0 ? finished : opened;
const spent = cost(before, await serverFigures(client), counted);
const own = cpuOf(process.pid) - cpu;
const later = await touches(db);

const seconds = (at: number): string => `${((at - dueAt.getTime()) / 1000).toFixed(1)} s`;
const after = (count: number, at: number): string =>
  count === COUNT ? seconds(at) : `${thousands(count)} in ${LONGEST_MS / 1000} s`;
const openedPerSecond = perSecond(opened, lastOpened - dueAt.getTime());
figure(
  `${thousands(COUNT)} recurring campaigns due at once: all running (runs opened) after`,
  after(opened, lastOpened),
);
figure('  all finished (books closed) after', after(finished, lastFinished));
figure('  runs opened per second', `${thousands(openedPerSecond)}/s`);
figure(
  '  runs finished per second',
  `${thousands(finished > 0 ? perSecond(finished, lastFinished - dueAt.getTime()) : 0)}/s`,
);
const those =
  finished === COUNT ? 'each' : finished > 0 ? 'each finished, those of the others included' : 'each opened';
figure(`  MongoDB operations for ${those}`, spent.operations);
for (const [name, count] of later) {
  const each = (count - (touched.get(name) ?? 0)) / counted;
  if (each >= 0.05) figure(`    of these in ${name}`, each.toFixed(1));
}
figure('  CPU for each: worker, MongoDB', `${(own / counted).toFixed(2)} ms, ${spent.cpuMs}`);
const runs = db.collection('campaign_runs');
const runCount = await runs.countDocuments(); // first: one that is being opened is no second run
const withRun = await runs.distinct('campaignId');
const right = runCount <= withRun.length && sent === finished * PEOPLE;
figure('  no run twice, nobody left out', right ? 'yes' : 'no', 'yes', right);
stopping = true;
await worker.stop({ timeoutMs: 5000 });

// The bare minimum of a tick: one guarded write on the campaign, its run, and the end of both.
from = performance.now();
await bareWrites(db);
const bare = perSecond(REFERENCE, performance.now() - from);
figure('bare: 2 guarded updates and 1 insert for each, 50 at once, same run', `${thousands(bare)}/s`);
figure('  ours opened, as a share of it', `${Math.round((openedPerSecond / bare) * 100)} %`);
const jobs = await agendaAlone(db);
figure(`Agenda alone, ${thousands(REFERENCE)} jobs that do nothing, same run`, `${thousands(jobs)}/s`);
figure('  ours opened, as a multiple of it', (openedPerSecond / jobs).toFixed(1));
await client.close();

/** Alarms that ring now or are about to: those of closed runs end with the date of the next occurrence. */
function ringing(): Promise<number> {
  const soon = new Date(Date.now() + 1500);
  return db
    .collection('agendaJobs')
    .countDocuments({ $or: [{ lockedAt: { $gt: new Date(0) } }, { nextRunAt: { $lt: soon } }] });
}

function cost(then: ServerFigures, now: ServerFigures, count: number): { operations: string; cpuMs: string } {
  return {
    operations: ((now.operations - then.operations) / count).toFixed(1),
    cpuMs: `${((now.cpuMs - then.cpuMs) / count).toFixed(2)} ms`,
  };
}

async function bareWrites(of: Db): Promise<void> {
  const options = { writeConcern: { w: 'majority', journal: true } } as const;
  const campaigns = of.collection('bare_campaigns', options);
  const runs = of.collection('bare_runs', options);
  const ids = Array.from({ length: REFERENCE }, () => new ObjectId());
  await campaigns.insertMany(ids.map((id) => ({ ...model, _id: id, rev: 1, status: 'scheduled' })));
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let id = ids[next++]; id !== undefined; id = ids[next++]) {
      await campaigns.updateOne({ _id: id, rev: 1, status: 'scheduled' }, { $set: { status: 'processing' } });
      await runs.insertOne({ _id: id, status: 'freezing', content: model.content });
      await campaigns.updateOne({ _id: id, rev: 1, status: 'processing' }, { $set: { status: 'scheduled' } });
    }
  };
  await Promise.all(Array.from({ length: 50 }, lane));
}

async function agendaAlone(of: Db): Promise<number> {
  const agenda = new Agenda({
    backend: new MongoBackend({ mongo: of, collection: 'plainJobs' }),
    processEvery: 1000,
    defaultLockLifetime: 10_000, // it keeps a timer for each job until half of it has passed
    defaultConcurrency: 500,
    maxConcurrency: 1000,
  });
  await agenda.ready;
  let ran = 0;
  agenda.define('nothing', () => {
    ran += 1;
  });
  await of.collection('plainJobs').insertMany(
    Array.from({ length: REFERENCE }, () => ({
      name: 'nothing',
      data: {},
      type: 'normal',
      priority: 0,
      nextRunAt: new Date(),
      lockedAt: null,
    })),
  );
  const began = performance.now();
  await agenda.start();
  while (ran < REFERENCE) await new Promise((resolve) => setTimeout(resolve, 20));
  const ms = performance.now() - began;
  await agenda.stop();
  return perSecond(REFERENCE, ms);
}
