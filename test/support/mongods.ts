/**
 * Private servers for tests and benchmarks that stop, kill or freeze them: a standalone, or a replica set of one or
 * three. Each member keeps its port and data over restarts. Invariant: only processes started here get a signal, and
 * they end with this process at the latest.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Document, MongoClient } from 'mongodb';
import { ensureMongod } from '../../scripts/mongod.ts';
import {
  directClient,
  freePort,
  guard,
  launchMongod,
  type MongodProcess,
  untilAnswering,
} from '../../src/embedded/mongod-process.ts';
import { endProcess } from '../../src/process-info.ts';

/** Of the folder of a group of members, before the id of the process that started them. */
export const FOLDER_PREFIX = 'campaign-scheduler-mongod-';

const SET = 'test';
const START_TIMEOUT_MS = 60_000;

/** One server; `start()` after `kill()` or `stop()` brings it back on the same port and data. */
export interface Mongod {
  readonly port: number;
  readonly dataDir: string;
  pid(): number;
  /** Resolves when it answers. */
  start(): Promise<void>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** Clean shutdown; resolves when it is gone. */
  stop(): Promise<void>;
  /** `kill` or clean `stop`, then `start`. */
  restart(how?: 'kill' | 'stop'): Promise<void>;
  /** SIGSTOP: connections stay open, nothing answers. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
}

export interface Mongods {
  readonly members: readonly Mongod[];
  /** Names every member; add the database with `uriFor`. */
  readonly uri: string;
  uriFor(database: string): string;
  /** The member that is primary now; waits for one. A standalone is its own primary. */
  primary(): Promise<Mongod>;
  /** The primary gives its role up for `seconds`. */
  stepDown(seconds?: number): Promise<void>;
  /** Ends all members and removes their data. */
  stop(): Promise<void>;
}

export interface MongodsOptions {
  readonly members?: 1 | 3;
  readonly replicaSet?: boolean;
  readonly cacheGB?: string;
  readonly args?: readonly string[];
  /** Where the members' folders are made. Default: the folder for temporary files. */
  readonly parent?: string;
}

export async function startMongods(options: MongodsOptions = {}): Promise<Mongods> {
  const count = options.members ?? 1;
  const replicaSet = count > 1 || (options.replicaSet ?? true);
  const binary = await ensureMongod();
  const root = await mkdtemp(join(options.parent ?? tmpdir(), `${FOLDER_PREFIX}${process.pid}-`));
  const members: Mongod[] = [];
  for (let index = 0; index < count; index += 1) {
    const dataDir = join(root, String(index));
    await mkdir(dataDir);
    const args = ['--wiredTigerCacheSizeGB', options.cacheGB ?? '0.25', ...(options.args ?? [])];
    members.push(
      member({ binary, dataDir, port: await freePort(), replicaSet: replicaSet ? SET : undefined, args }),
    );
  }
  const hosts = members.map(({ port }) => `127.0.0.1:${port}`);
  const uriFor = (database: string): string =>
    `mongodb://${hosts.join(',')}/${database}${replicaSet ? `?replicaSet=${SET}` : ''}`;
  const mongods: Mongods = {
    members,
    uri: uriFor(''),
    uriFor,
    primary: () => findPrimary(members),
    stepDown: async (seconds = 5) => {
      const command = { replSetStepDown: seconds, secondaryCatchUpPeriodSecs: 2, force: true };
      await ask(await findPrimary(members), command);
    },
    stop: async () => {
      await Promise.all(members.map((each) => each.kill()));
      await rm(root, { recursive: true, force: true });
    },
  };
  try {
    await Promise.all(members.map((each) => each.start()));
    if (replicaSet) await initiate(members, hosts);
  } catch (error) {
    await mongods.stop();
    throw error;
  }
  return mongods;
}

function member(launch: Parameters<typeof launchMongod>[0]): Mongod {
  let running: MongodProcess | undefined;
  let dismissGuard = (): void => {};
  const end = async (graceful: boolean): Promise<void> => {
    const ending = running;
    running = undefined;
    if (ending === undefined) return;
    if (!graceful) ending.kill('SIGKILL');
    else if (ending.ended() === undefined) await endProcess(ending.pid, 20_000);
    await ending.untilEnded();
    dismissGuard();
  };
  const pid = (): number => {
    if (running === undefined) throw new Error(`the mongod on port ${launch.port} is not running`);
    return running.pid;
  };
  const mongod: Mongod = {
    port: launch.port,
    dataDir: launch.dataDir,
    pid,
    start: async () => {
      if (running !== undefined) throw new Error(`the mongod on port ${launch.port} is running already`);
      const started = await launchMongod(launch);
      running = started;
      dismissGuard = guard(started.pid);
      const late = performance.now() + START_TIMEOUT_MS;
      const givenUp = (): boolean => started.ended() !== undefined || performance.now() > late;
      const client = await untilAnswering(started.pid, launch.port, givenUp);
      if (client === undefined) throw new Error(`mongod did not start: ${started.lastWords()}`);
      await client.close();
    },
    kill: () => end(false),
    stop: () => end(true),
    restart: async (how = 'stop') => {
      await end(how === 'stop');
      await mongod.start();
    },
    freeze: () => void process.kill(pid(), 'SIGSTOP'),
    thaw: () => void process.kill(pid(), 'SIGCONT'),
  };
  return mongod;
}

/** Short election times, so that a test of a lost primary takes seconds. */
async function initiate(members: readonly Mongod[], hosts: readonly string[]): Promise<void> {
  const config = {
    _id: SET,
    members: hosts.map((host, index) => ({ _id: index, host })),
    settings: { electionTimeoutMillis: 1_000, heartbeatIntervalMillis: 250 },
  };
  await ask(members[0] as Mongod, { replSetInitiate: config });
  await findPrimary(members);
  for (const each of members) await until(async () => (await role(each)) !== 'other');
}

async function findPrimary(members: readonly Mongod[]): Promise<Mongod> {
  let found: Mongod | undefined;
  await until(async () => {
    const roles = await Promise.all(members.map(role));
    found = members[roles.indexOf('primary')];
    return found !== undefined;
  });
  return found as Mongod;
}

async function role(each: Mongod): Promise<'primary' | 'secondary' | 'other'> {
  const hello = await ask(each, { hello: 1 }).catch(() => undefined);
  if (hello?.isWritablePrimary === true) return 'primary';
  return hello?.secondary === true ? 'secondary' : 'other';
}

async function ask(each: Mongod, command: Document): Promise<Document> {
  const client = directClient(each.port);
  try {
    return await client.db('admin').command(command);
  } finally {
    await client.close();
  }
}

async function until(reached: () => Promise<boolean>): Promise<void> {
  const late = performance.now() + START_TIMEOUT_MS;
  while (!(await reached())) {
    if (performance.now() > late) throw new Error('the replica set did not get ready in time');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A connected client; the caller closes it. */
export function connectTo(uri: string): Promise<MongoClient> {
  return MongoClient.connect(uri, { serverSelectionTimeoutMS: 10_000 });
}
