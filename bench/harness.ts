/** What the scenarios share: a scheduler without talk, an audience that is made up on the way, and MongoDB's own figures. */
import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Db, type Document, MongoClient, ObjectId } from 'mongodb';
import {
  type CampaignScheduler,
  type Messenger,
  type RunReport,
  type SchedulerOptions,
  startCampaignScheduler,
} from '../src/index.ts';

export const MONGO_URL = process.env.MONGO_URL ?? 'mongodb://127.0.0.1:27017/bench';

const quiet = { debug: () => undefined, info: () => undefined, warn: console.error, error: console.error };

/** Answers at once. */
export const nullMessenger: Messenger = { send: async () => ({ status: 'sent' }) };

/** Answers after `ms`, like a provider far away. */
export const slowMessenger = (ms: number): Messenger => ({
  send: () => new Promise((resolve) => setTimeout(() => resolve({ status: 'sent' }), ms)),
});

export function start(options: Partial<SchedulerOptions> = {}): Promise<CampaignScheduler> {
  return startCampaignScheduler({ mongo: MONGO_URL, logger: quiet, ...options });
}

export function* people(count: number): Generator<{ id: string; to: string; vars: object }> {
  for (let index = 0; index < count; index += 1) {
    yield { id: `u${index}`, to: `user${index}@example.com`, vars: { first: 'Ann', city: 'Oslo' } };
  }
}

/** Runs one campaign to its end. The time counts from the moment it exists to the last recorded outcome's books. */
export async function runCampaign(
  scheduler: CampaignScheduler,
  messenger: string,
  count: number,
  concurrency: number,
): Promise<{ id: string; ms: number; report: RunReport }> {
  let id = '';
  const completed = new Promise<RunReport>((resolve) => {
    const off = scheduler.on('campaign:completed', ({ campaign, report }) => {
      if (campaign.name !== name) return;
      off();
      resolve(report);
    });
  });
  const name = `bench ${messenger} ${count} ${concurrency} ${Math.random()}`;
  const started = new Promise<number>((resolve) => {
    const off = scheduler.on('campaign:started', ({ campaign }) => {
      if (campaign.name !== name) return;
      off();
      resolve(performance.now());
    });
  });
  const campaign = await scheduler.campaigns.create({
    name,
    messenger,
    content: { text: 'x' },
    concurrency,
    audience: people(count),
  });
  id = campaign.id;
  const from = await started;
  const report = await completed;
  return { id, ms: performance.now() - from, report };
}

/** Copies the only campaign so many times, due now: all share its list, as the runs of a recurring campaign do. */
export async function plantDue(db: Db, count: number): Promise<void> {
  const { agendaJobId: _alarm, ...model } = (await db.collection('campaigns').findOne({})) as Document;
  const now = new Date();
  await db.collection('campaigns').insertMany(
    Array.from({ length: count }, (_, index) => {
      const schedule = { ...model.schedule, sendAt: now };
      return { ...model, _id: new ObjectId(), name: `c${index}`, schedule, nextRunAt: now };
    }),
  );
}

export interface ServerFigures {
  readonly operations: number;
  readonly cpuMs: number;
}

/** Operations so far (as clients count them) and CPU time of the server. */
export async function serverFigures(client: MongoClient): Promise<ServerFigures> {
  const status = await client.db('admin').command({ serverStatus: 1 });
  const { insert, query, update, command, getmore } = status.opcounters as Record<string, number>;
  const delete_ = (status.opcounters as Record<string, number>).delete ?? 0;
  const operations = [insert, query, update, command, getmore, delete_].reduce<number>(
    (sum, value) => sum + (value ?? 0),
    0,
  );
  return { operations, cpuMs: cpuOf(Number(process.env.MONGO_PID)) };
}

/** How often each collection of a database was touched so far. */
export async function touches(db: Db): Promise<Map<string, number>> {
  const { totals } = await db.admin().command({ top: 1 });
  const counted = new Map<string, number>();
  for (const [name, uses] of Object.entries(totals as Record<string, Record<string, { count: number }>>)) {
    if (!name.startsWith(`${db.databaseName}.`)) continue;
    const kinds = ['queries', 'getmore', 'insert', 'update', 'remove', 'commands'];
    const sum = kinds.reduce((all, kind) => all + (uses[kind]?.count ?? 0), 0);
    counted.set(name.slice(db.databaseName.length + 1), sum);
  }
  return counted;
}

/** CPU time of a process, ms (Linux counts in hundredths of a second). */
export function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** Builds the package. Before anything else: it blocks this process for seconds. */
export function buildPackage(): void {
  execFileSync('npm', ['run', 'build'], { stdio: ['ignore', 'ignore', 'inherit'] });
}

/** Starts a worker of the built package (see `built-worker.mjs`) and waits until it runs. */
export async function builtWorker(): Promise<ChildProcess> {
  const child = fork(fileURLToPath(new URL('built-worker.mjs', import.meta.url)), [], { execArgv: [] });
  await once(child, 'message');
  return child;
}

export const connect = (): Promise<MongoClient> => MongoClient.connect(MONGO_URL);
