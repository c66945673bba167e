/**
 * Starts a mongod on a data directory and hands out its address. Invariant: at most one mongod runs on a directory (its
 * own file lock sees to that), and a start never hangs: it shares the server of a living app, replaces the one that a
 * dead app left behind, or fails with `mongod_unavailable` within a minute.
 */
import { mkdir, rename, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { CampaignSchedulerError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { endProcess } from '../process-info.ts';
import { findMongod, standardWays } from './find-mongod.ts';
import {
  decideHolder,
  holderOf,
  isOwnerAlive,
  readRecord,
  type ServerRecord,
  thisProcess,
  writeRecord,
} from './holder.ts';
import {
  EXIT_DIRECTORY_HELD,
  EXIT_PORT_TAKEN,
  freePort,
  guard,
  launchMongod,
  logFile,
  type MongodProcess,
  untilAnswering,
} from './mongod-process.ts';
import { becomePrimary, REPLICA_SET } from './single-member-set.ts';

export interface EmbeddedMongoOptions {
  /** Directory of the data, made when missing. It also gets `mongod.log` and `embedded.json`. */
  readonly dataDir: string;
  /** A replica set of one member (transactions, change streams). Default `true`. A directory can go from standalone to replica set, not back. */
  readonly replicaSet?: boolean;
  /** Default: the port used last time when it is still free, otherwise any free one. */
  readonly port?: number;
  /** Path of the mongod to run; when given, no other is looked for. Default: `MONGOMS_SYSTEM_BINARY`, then `PATH`, then mongodb-memory-server-core. */
  readonly binary?: string;
  /** More mongod options. Default: a cache of 256 MB. */
  readonly args?: readonly string[];
  readonly logger?: Logger;
}

export interface EmbeddedMongo {
  /** With the database `campaigns`. */
  readonly uri: string;
  /** Process id of the mongod. */
  readonly pid: number;
  /** Ends the mongod, resolves when it is gone; later calls are the same one. A server shared with the app that started it is left running. */
  stop(): Promise<void>;
}

const START_TIMEOUT_MS = 60_000;
const STOP_GRACE_MS = 10_000;
/** Shorter, because nobody asked for a clean end: the journal makes the next start whole after any end. */
const REPLACE_GRACE_MS = 3_000;
const LOG_LIMIT_BYTES = 16 * 1024 * 1024;
const DEFAULT_ARGS = ['--wiredTigerCacheSizeGB', '0.25'];

interface Plan {
  readonly dataDir: string;
  readonly replicaSet: boolean;
  readonly options: EmbeddedMongoOptions;
  readonly startedAt: number;
}

/** Throws `mongod_unavailable` when no server could be found or started, `invalid_options` when the directory holds another mode. */
export async function startEmbeddedMongo(options: EmbeddedMongoOptions): Promise<EmbeddedMongo> {
  if (!options.dataDir)
    throw new CampaignSchedulerError('invalid_options', 'Expected `dataDir` to be a path');
  const dataDir = resolve(options.dataDir);
  const plan: Plan = {
    dataDir,
    replicaSet: options.replicaSet ?? true,
    options,
    startedAt: performance.now(),
  };
  await mkdir(dataDir, { recursive: true }).catch((error) => {
    throw unavailable(`${dataDir} cannot be the data directory: ${(error as Error).message}`, error);
  });
  while (!isLate(plan)) {
    const shared = await untilFreeOrShared(plan);
    const server = shared === undefined ? await launch(plan) : await share(plan, shared);
    if (server !== undefined) return server;
  }
  throw unavailable(
    `mongod did not start on ${dataDir} within ${START_TIMEOUT_MS / 1000} s; see ${logFile(dataDir)}`,
  );
}

/** `undefined`: the directory is free. */
async function untilFreeOrShared({ dataDir, options, ...plan }: Plan): Promise<ServerRecord | undefined> {
  const since = performance.now();
  for (;;) {
    const holderPid = holderOf(dataDir);
    const record = readRecord(dataDir);
    const ownerAlive = record !== undefined && isOwnerAlive(record);
    if (record?.replicaSet === true && !plan.replicaSet) {
      const message = `${dataDir} belongs to a replica set and cannot be opened as a standalone without risk of losing writes`;
      throw new CampaignSchedulerError('invalid_options', message);
    }
    switch (decideHolder({ holderPid, record, ownerAlive, waitedMs: performance.now() - since })) {
      case 'free':
        return undefined;
      case 'share':
        return record;
      case 'replace':
        options.logger?.info(
          { dataDir, pid: holderPid },
          'ending the mongod that an earlier process left behind',
        );
        await endProcess(holderPid as number, REPLACE_GRACE_MS);
        break;
      case 'refuse':
        throw unavailable(
          `${dataDir} is in use by process ${holderPid}, a mongod that no app has reported as its own`,
        );
      case 'wait':
        await new Promise((done) => setTimeout(done, 50));
    }
  }
}

/** `undefined`: it ended while we tried to reach it. */
async function share(plan: Plan, record: ServerRecord): Promise<EmbeddedMongo | undefined> {
  const { mongodPid, port, replicaSet } = record;
  const gone = (): boolean => isLate(plan) || holderOf(plan.dataDir) !== mongodPid;
  const client = await untilAnswering(mongodPid, port, gone);
  if (client === undefined) return undefined;
  await client.close();
  const fields = { dataDir: plan.dataDir, pid: mongodPid, owner: record.owner.pid };
  plan.options.logger?.info(fields, 'sharing the mongod of another process, which stops it when it ends');
  return { uri: uriOf(port, replicaSet), pid: mongodPid, stop: async () => {} };
}

/** `undefined`: another start was faster, or the port was taken in between; look again. */
async function launch(plan: Plan): Promise<EmbeddedMongo | undefined> {
  const { dataDir, options, replicaSet } = plan;
  const binary = await findMongod(standardWays(options.binary));
  const port = options.port ?? (await freePort(readRecord(dataDir)?.port));
  await keepLogSmall(dataDir);
  const mongod = await launchMongod({
    binary,
    dataDir,
    port,
    replicaSet: replicaSet ? REPLICA_SET : undefined,
    args: [...DEFAULT_ARGS, ...(options.args ?? [])],
  }).catch((error) => {
    throw unavailable(`${binary} could not be started: ${(error as Error).message}`, error);
  });
  const dismissGuard = guard(mongod.pid);
  try {
    if (!(await serve(plan, mongod))) {
      dismissGuard();
      return undefined;
    }
  } catch (error) {
    mongod.kill('SIGKILL');
    await mongod.untilEnded();
    dismissGuard();
    throw error;
  }
  options.logger?.info({ dataDir, port, pid: mongod.pid }, 'mongod started');
  let stopping: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    if (mongod.ended() === undefined) await endProcess(mongod.pid, STOP_GRACE_MS);
    dismissGuard();
  };
  return {
    uri: uriOf(port, replicaSet),
    pid: mongod.pid,
    stop: () => {
      stopping ??= stop();
      return stopping;
    },
  };
}

/** Resolves to `true` when it is ready and recorded, to `false` when it is worth another look at the directory. */
async function serve(plan: Plan, mongod: MongodProcess): Promise<boolean> {
  const { dataDir, replicaSet, options } = plan;
  const givenUp = (): boolean => mongod.ended() !== undefined || isLate(plan);
  const client = await untilAnswering(mongod.pid, mongod.port, givenUp);
  if (client === undefined) {
    const code = mongod.ended();
    if (code === EXIT_DIRECTORY_HELD && isHeld(plan, mongod)) return false;
    if (code === EXIT_PORT_TAKEN && options.port === undefined) return false;
    const how = code === undefined ? 'did not answer in time' : `ended with ${code}: ${mongod.lastWords()}`;
    throw unavailable(`mongod on ${dataDir}, port ${mongod.port}, ${how} (its log: ${logFile(dataDir)})`);
  }
  try {
    if (replicaSet) await becomePrimary(client, mongod.port, givenUp);
  } catch (error) {
    throw unavailable(`mongod on ${dataDir} could not be used: ${(error as Error).message}`, error);
  } finally {
    await client.close();
  }
  await writeRecord(dataDir, { port: mongod.port, replicaSet, mongodPid: mongod.pid, owner: thisProcess() });
  return true;
}

/** The code alone says little: mongod ends with it after many errors. A holder that nobody can see is not awaited long. */
function isHeld(plan: Plan, mongod: MongodProcess): boolean {
  if (holderOf(plan.dataDir) !== undefined) return true;
  return /DBPathInUse/.test(mongod.lastWords()) && performance.now() - plan.startedAt < START_TIMEOUT_MS / 4;
}

/** One older log is kept; nobody writes to it, as the directory was just seen to be free. */
async function keepLogSmall(dataDir: string): Promise<void> {
  const path = logFile(dataDir);
  const size = await stat(path).then(
    ({ size }) => size,
    () => 0,
  );
  if (size > LOG_LIMIT_BYTES) await rename(path, `${path}.1`);
}

function uriOf(port: number, replicaSet: boolean): string {
  return `mongodb://127.0.0.1:${port}/campaigns${replicaSet ? `?replicaSet=${REPLICA_SET}` : ''}`;
}

function isLate(plan: Plan): boolean {
  return performance.now() - plan.startedAt > START_TIMEOUT_MS;
}

function unavailable(message: string, cause?: unknown): CampaignSchedulerError {
  return new CampaignSchedulerError('mongod_unavailable', message, { cause });
}
