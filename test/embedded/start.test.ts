import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MongoClient } from 'mongodb';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { ensureMongod } from '../../scripts/mongod.ts';
import {
  type EmbeddedMongo,
  type EmbeddedMongoOptions,
  startEmbeddedMongo,
} from '../../src/embedded/index.ts';
import { freePort } from '../../src/embedded/mongod-process.ts';
import { endProcess, processInfo, untilGone } from '../../src/process-info.ts';
import { startMongods } from '../support/mongods.ts';
import { startWorker } from '../support/processes.ts';

const root = mkdtempSync(join(tmpdir(), 'campaign-scheduler-embedded-'));
const running = new Set<EmbeddedMongo>();
let directories = 0;

beforeAll(async () => {
  vi.stubEnv('MONGOMS_SYSTEM_BINARY', await ensureMongod());
});
afterEach(async () => {
  await Promise.all([...running].map((server) => server.stop()));
  running.clear();
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true });
});

function newDirectory(): string {
  directories += 1;
  return join(root, String(directories));
}

async function start(options: EmbeddedMongoOptions): Promise<EmbeddedMongo> {
  const server = await startEmbeddedMongo(options);
  running.add(server);
  return server;
}

async function withClient<T>(server: EmbeddedMongo, use: (client: MongoClient) => Promise<T>): Promise<T> {
  const client = await MongoClient.connect(server.uri, { serverSelectionTimeoutMS: 5_000 });
  try {
    return await use(client);
  } finally {
    await client.close();
  }
}

const mark = (server: EmbeddedMongo): Promise<unknown> =>
  withClient(server, (client) =>
    client
      .db()
      .collection('marks')
      .insertOne({}, { writeConcern: { w: 'majority', j: true } }),
  );
const marks = (server: EmbeddedMongo): Promise<number> =>
  withClient(server, (client) => client.db().collection('marks').countDocuments());

function starter(dataDir: string, mode: string, replicaSet: boolean) {
  return startWorker(new URL('./worker.ts', import.meta.url), { args: [dataDir, mode, String(replicaSet)] });
}

describe.each([
  ['replica set', true],
  ['standalone', false],
])('%s', (_name, replicaSet) => {
  it('keeps data and port over a clean stop', async () => {
    const dataDir = newDirectory();
    const first = await start({ dataDir, replicaSet });
    await mark(first);
    await Promise.all([first.stop(), first.stop()]);
    expect(processInfo(first.pid)).toBeUndefined();
    const second = await start({ dataDir, replicaSet });
    expect(second.uri).toBe(first.uri);
    expect(await marks(second)).toBe(1);
  });

  it('keeps data over SIGKILL of mongod', async () => {
    const dataDir = newDirectory();
    const first = await start({ dataDir, replicaSet });
    await mark(first);
    process.kill(first.pid, 'SIGKILL');
    const second = await start({ dataDir, replicaSet });
    expect(second.pid).not.toBe(first.pid);
    expect(await marks(second)).toBe(1);
    await first.stop();
    expect(await marks(second)).toBe(1);
  });

  it('keeps data over SIGKILL of the app, and an immediate start replaces what it left', async () => {
    const dataDir = newDirectory();
    const app = starter(dataDir, 'stay', replicaSet);
    const ready = await app.next('ready');
    await app.kill();
    const again = starter(dataDir, 'stay', replicaSet);
    const readyAgain = await again.next('ready');
    expect(readyAgain.pid).not.toBe(ready.pid);
    expect(readyAgain.marks).toBe(2);
    await again.kill();
    expect(await untilGone(readyAgain.pid as number, 15_000)).toBe(true);
  });

  it('keeps data over SIGKILL of both at once', async () => {
    const dataDir = newDirectory();
    const app = starter(dataDir, 'stay', replicaSet);
    const ready = await app.next('ready');
    process.kill(ready.pid as number, 'SIGKILL');
    await app.kill();
    expect(await marks(await start({ dataDir, replicaSet }))).toBe(1);
  });

  it('moves to another port', async () => {
    const dataDir = newDirectory();
    const first = await start({ dataDir, replicaSet });
    await mark(first);
    process.kill(first.pid, 'SIGKILL');
    const port = await freePort();
    const second = await start({ dataDir, replicaSet, port });
    expect(second.uri).toContain(`:${port}/`);
    expect(await marks(second)).toBe(1);
  });
});

describe('a mongod that is there already', () => {
  it('is ended when its app is dead, even when it hangs', async () => {
    const dataDir = newDirectory();
    const app = starter(dataDir, 'stay', true);
    const ready = await app.next('ready');
    process.kill(ready.pid as number, 'SIGSTOP');
    await app.kill();
    const server = await start({ dataDir });
    expect(server.pid).not.toBe(ready.pid);
    expect(await marks(server)).toBe(1);
  });

  it('is shared when its app lives; only that app ends it', async () => {
    const dataDir = newDirectory();
    const app = starter(dataDir, 'stay', true);
    const ready = await app.next('ready');
    const shared = await start({ dataDir });
    expect(shared).toMatchObject({ uri: ready.uri, pid: ready.pid });
    await shared.stop();
    expect(await marks(shared)).toBe(1);
    await app.kill();
  });

  it('parallel starts on one directory end up with one server', async () => {
    const dataDir = newDirectory();
    const here = Promise.all([start({ dataDir }), start({ dataDir })]);
    const there = [starter(dataDir, 'stay', true), starter(dataDir, 'stay', true)];
    const ready = await Promise.all(there.map((worker) => worker.next('ready')));
    const pids = [...(await here), ...ready].map(({ pid }) => pid);
    expect(new Set(pids).size).toBe(1);
    await Promise.all(there.map((worker) => worker.kill()));
  });

  it('is refused when it is not ours', async () => {
    const mongods = await startMongods({ replicaSet: false });
    const [stranger] = mongods.members;
    const attempt = startEmbeddedMongo({ dataDir: stranger?.dataDir ?? '', replicaSet: false });
    await expect(attempt).rejects.toMatchObject({
      code: 'mongod_unavailable',
      message: expect.stringContaining(`in use by process ${stranger?.pid()}`),
    });
    expect(processInfo(stranger?.pid() ?? 0)).toBeDefined();
    await mongods.stop();
  });

  it('ends when its app ends without stop(), which it does not keep from ending', async () => {
    const app = starter(newDirectory(), 'leave', true);
    const ready = await app.next('ready');
    expect(await app.exit).toEqual({ code: 0, signal: null });
    expect(await untilGone(ready.pid as number, 15_000)).toBe(true);
  });
});

describe('modes', () => {
  it('a standalone becomes a replica set, never the other way', async () => {
    const dataDir = newDirectory();
    const first = await start({ dataDir, replicaSet: false });
    await mark(first);
    await first.stop();
    const second = await start({ dataDir });
    expect(await marks(second)).toBe(1);
    await second.stop();
    await expect(startEmbeddedMongo({ dataDir, replicaSet: false })).rejects.toMatchObject({
      code: 'invalid_options',
    });
  });

  it('a replica set has transactions', async () => {
    const server = await start({ dataDir: newDirectory() });
    await withClient(server, async (client) => {
      const session = client.startSession();
      await session.withTransaction(() => client.db().collection('marks').insertOne({}, { session }));
      await session.endSession();
    });
    expect(await marks(server)).toBe(1);
  });
});

describe('refusals', () => {
  it('the data directory is a file', async () => {
    const file = join(root, 'file');
    writeFileSync(file, '');
    await expect(startEmbeddedMongo({ dataDir: file })).rejects.toMatchObject({ code: 'mongod_unavailable' });
    await expect(startEmbeddedMongo({ dataDir: '' })).rejects.toMatchObject({ code: 'invalid_options' });
  });

  it('mongod ends: the error says why', async () => {
    const attempt = startEmbeddedMongo({ dataDir: newDirectory(), args: ['--noSuchOption'] });
    await expect(attempt).rejects.toThrow(/unrecognised option '--noSuchOption'/);
    await expect(attempt).rejects.toMatchObject({ code: 'mongod_unavailable' });
  });

  it('the data is damaged: the error says why, and nothing is left running', async () => {
    const dataDir = newDirectory();
    const first = await start({ dataDir });
    await first.stop();
    writeFileSync(join(dataDir, 'WiredTiger.wt'), 'garbage');
    writeFileSync(join(dataDir, 'WiredTiger.turtle'), 'garbage');
    await expect(startEmbeddedMongo({ dataDir })).rejects.toMatchObject({ code: 'mongod_unavailable' });
  });

  it('the given port is taken', async () => {
    const first = await start({ dataDir: newDirectory() });
    const port = Number(new URL(first.uri).port);
    const attempt = startEmbeddedMongo({ dataDir: newDirectory(), port });
    await expect(attempt).rejects.toMatchObject({
      code: 'mongod_unavailable',
      message: /[Aa]ddress already in use/,
    });
  });
});

it('a process is ended by force when it does not listen', async () => {
  const app = starter(newDirectory(), 'stay', false);
  await app.next('ready');
  app.freeze();
  await endProcess(app.pid, 100);
  expect((await app.exit).signal).toBe('SIGKILL');
});
