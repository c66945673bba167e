/** Real processes that end by an uncaught error: what is written down before they do, and how they end. */
import { describe, expect, it } from 'vitest';
import { crashText } from '../../src/core/crash.ts';
import type { WorkerDoc } from '../../src/store/documents.ts';
import { pagesOf, people, runsOf, startRig, tidyUpAfterEach } from '../engine/fixtures.ts';
import { PATIENCE } from '../engine/provider.ts';
import { testDatabase } from '../support/mongo.ts';
import { startWorker } from '../support/processes.ts';
import { startProxy } from '../support/proxy.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const SCRIPT = new URL('./crash-worker.ts', import.meta.url);
const ERROR = 'TypeError: cannot read mongodb://***@db/app with password: ***';

async function sending(options: { uri: string; listens?: boolean }) {
  const api = await startRig(uri, { worker: false });
  const worker = startWorker(SCRIPT, { args: [JSON.stringify(options)] });
  const { workerId } = await worker.next('ready');
  const { id } = await api.create({ audience: people(20), concurrency: 2 });
  await worker.next('send');
  return { api, worker, id, workerId: String(workerId) };
}

/** Nobody takes over what it held: that takes its time, and one test waits for it. */
async function forget(): Promise<void> {
  await Promise.all([runsOf(db).deleteMany({}), pagesOf(db).deleteMany({})]);
}

const workerOf = (_id: string) => db.collection<WorkerDoc>('workers').findOne({ _id });

describe.each(['throw', 'reject'])('an error that nobody catches: %s', (kind) => {
  it('is on the run, in the journal and with the worker before the process ends as it would have', async () => {
    const { api, worker, id, workerId } = await sending({ uri });
    worker.send({ kind });
    expect(await worker.exit).toEqual({ code: 1, signal: null });
    expect(worker.stderr()).toContain('TypeError: cannot read'); // Node's own words
    const run = await runsOf(db).findOne({ _id: `${id}:once` });
    expect(run?.crash).toEqual({
      at: expect.any(Date),
      workerId,
      pid: worker.pid,
      error: ERROR,
      stack: expect.stringContaining('crash-worker.ts'),
    });
    expect(JSON.stringify(run?.crash)).not.toMatch(/s3cret|hunter2/);
    expect(await workerOf(workerId)).toMatchObject({ state: 'crashed', crash: { error: ERROR } });
    expect(await api.scheduler.campaigns.journal(id)).toContainEqual(
      expect.objectContaining({ kind: 'worker-crashed', runId: `${id}:once` }),
    );
    expect(await api.scheduler.health(id)).toMatchObject({
      health: 'CRASHED',
      message: expect.stringContaining(`A worker ended by an error: ${ERROR}. `),
      crash: { error: ERROR },
    });
    await forget();
  });
});

it('where the host listens itself it is only written down', async () => {
  const { worker, id, workerId } = await sending({ uri, listens: true });
  worker.send({ kind: 'throw' });
  await worker.next('host-heard');
  await expect.poll(async () => (await workerOf(workerId))?.crash?.error, PATIENCE).toBe(ERROR);
  await expect
    .poll(async () => (await runsOf(db).findOne({ _id: `${id}:once` }))?.crash, PATIENCE)
    .toBeDefined();
  expect((await workerOf(workerId))?.state).toBe('running');
  // A rejection that nobody handles comes to the same listener of the host.
  await db.collection('workers').updateMany({}, { $unset: { crash: 1 } });
  const rejected = async () => {
    worker.send({ kind: 'reject' }); // again: one that comes while another is being written down is not
    return (await workerOf(workerId))?.crash?.error;
  };
  await expect.poll(rejected, PATIENCE).toBe(ERROR);
  await worker.next('host-heard');
  expect((await workerOf(workerId))?.state).toBe('running');
  await worker.kill();
  await forget();
});

it('a host that begins to listen in the last moment: the worker goes on', async () => {
  const proxy = await startProxy(uri);
  try {
    const { api, worker, id, workerId } = await sending({ uri: proxy.uriFor(db.databaseName) });
    proxy.pause(); // it takes its time
    worker.send({ kind: 'throw' });
    worker.send({ kind: 'listen' });
    await worker.next('host-heard');
    proxy.resume();
    const crashedAt = (await api.scheduler.workers())[0]?.heartbeatAt;
    const read = async () => workerOf(workerId);
    await expect.poll(async () => (await read())?.crash?.error, PATIENCE).toBe(ERROR);
    await expect.poll(async () => (await read())?.heartbeatAt, PATIENCE).not.toEqual(crashedAt);
    await expect.poll(async () => (await read())?.state, PATIENCE).toBe('running');
    await worker.next('send'); // whoever is next, once its page is held again
    expect(await api.scheduler.campaigns.find(id)).toMatchObject({ status: 'processing' });
    await worker.kill();
    await forget();
  } finally {
    await proxy.stop();
  }
});

describe('a process that does not end by a rejection', () => {
  const LISTENER = new URL('./crash-listener-worker.ts', import.meta.url);
  it.each([
    ['a rejection is only a warning', '--unhandled-rejections=warn', 'nothing', []],
    ['its host captures exceptions, and so rejections', '', 'capture', ['captured']],
    ['its host listens for rejections', '', 'unhandledRejection', ['recorded, it goes on', 'host']],
  ])('%s', async (_what, flags, host, heard) => {
    const worker = startWorker(LISTENER, { args: [host], env: { NODE_OPTIONS: flags } });
    await worker.next('alive');
    expect(worker.messages.filter((message) => message.kind === 'heard').map(({ what }) => what)).toEqual(
      heard,
    );
    await worker.kill();
  });
});

it('a database that does not answer does not keep the process from ending', async () => {
  const proxy = await startProxy(uri);
  try {
    const { worker, id } = await sending({ uri: proxy.uriFor(db.databaseName) });
    proxy.pause();
    worker.send({ kind: 'throw' });
    expect(await worker.exit).toEqual({ code: 1, signal: null });
    proxy.resume();
    // Its page is taken over like any other's.
    const next = await startRig(uri);
    await next.until(id, 'completed');
    expect(await next.scheduler.campaigns.report(id)).toMatchObject({ total: 20 });
  } finally {
    await proxy.stop();
  }
});

describe('the text of a crash', () => {
  it.each([
    ['a string', 'boom', 'Thrown: boom'],
    ['nothing', undefined, 'Thrown: undefined'],
    ['an object', { api_key: 'abc' }, 'Thrown: {"api_key":***}'],
    [
      'a header',
      new Error('Authorization: Bearer abc.def was refused'),
      'Error: Authorization: *** was refused',
    ],
    ['a cause', new Error('outer', { cause: new Error('inner') }), 'Error: outer'],
  ])('of %s', (_what, thrown, error) => {
    expect(crashText(thrown).error).toBe(error);
  });

  it('is bounded, and tells what caused it', () => {
    const circular: Record<string, unknown> = {};
    circular.self = circular;
    expect(crashText(circular).error).toBe('Thrown: object');
    const { error, stack } = crashText(new Error('é'.repeat(10_000), { cause: new Error('inner') }));
    expect(Buffer.byteLength(error)).toBeLessThanOrEqual(500);
    expect(Buffer.byteLength(stack)).toBeLessThanOrEqual(4_096);
    expect(crashText(new Error('outer', { cause: new Error('inner') })).stack).toContain(
      'Caused by: Error: inner',
    );
  });
});
