/** What a worker tells of itself, and what it does when it cannot. */
import { expect, it } from 'vitest';
import type { WorkerDoc } from '../../src/store/documents.ts';
import { testDatabase } from '../support/mongo.ts';
import { people, type Rig, startRig, tidyUpAfterEach } from './fixtures.ts';
import { PATIENCE } from './provider.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

/** None that was written before is still to be heard of: on a busy machine it would end the silence once more. */
const untilRefused = (rig: Rig) =>
  expect
    .poll(
      () => rig.log.some(({ level, fields }) => level === 'warn' && fields.duty === 'heartbeat'),
      PATIENCE,
    )
    .toBe(true);

const workersOf = () => db.collection<WorkerDoc>('workers');

it('tells load, memory, delay, sends in flight and its last progress', async () => {
  const rig = await startRig(uri);
  const _id = rig.scheduler.workerId;
  expect(await workersOf().findOne({ _id })).toMatchObject({
    state: 'running',
    inFlight: 0,
    lastProgressAt: null,
    load: expect.any(Number),
    memory: { rssBytes: expect.any(Number), heapUsedBytes: expect.any(Number) },
    eventLoopDelayMs: expect.any(Number),
    clockSkewMs: expect.any(Number),
  });
  const gate = rig.provider.hold();
  const { id } = await rig.create({ audience: people(7), concurrency: 3 });
  const told = () => workersOf().findOne({ _id });
  await expect.poll(async () => (await told())?.inFlight, PATIENCE).toBe(3);
  expect(await told()).toMatchObject({ lastProgressAt: null, pagesHeld: 1 });
  gate.open();
  await rig.until(id, 'completed');
  await expect.poll(async () => (await told())?.inFlight, PATIENCE).toBe(0);
  await expect.poll(async () => (await told())?.lastProgressAt, PATIENCE).toBeInstanceOf(Date);
});

it('a worker whose heartbeat is refused sends nothing until one goes through', async () => {
  const rig = await startRig(uri, { workerOfflineAfterMs: 1_000 });
  const suspended = rig.signals('worker:suspended');
  const resumed = rig.signals('worker:resumed');
  await db.command({ collMod: 'workers', validator: { never: { $exists: true } } });
  try {
    await untilRefused(rig);
    await expect.poll(() => suspended.all.length - resumed.all.length, PATIENCE).toBe(1);
    const { id } = await rig.create({ audience: people(20) });
    // It still does everything else, and has looked for pages more than once by then.
    await rig.until(id, 'processing');
    await expect
      .poll(() => db.collection('campaign_runs').countDocuments({ status: 'sending' }), PATIENCE)
      .toBe(1);
    expect(rig.provider.calls.all).toEqual([]);
    expect(rig.log.some(({ message }) => message.startsWith('no heartbeat could be written'))).toBe(true);
    await db.command({ collMod: 'workers', validator: {} });
    await expect.poll(() => suspended.all.length - resumed.all.length, PATIENCE).toBe(0);
    await rig.until(id, 'completed');
    rig.provider.expectNobodyTwice();
  } finally {
    await db.command({ collMod: 'workers', validator: {} });
  }
});

it('what it holds is let go of, what is in flight ends and is recorded', async () => {
  const rig = await startRig(uri, { workerOfflineAfterMs: 1_000 });
  const suspended = rig.signals('worker:suspended');
  const resumed = rig.signals('worker:resumed');
  const gate = rig.provider.hold();
  const { id } = await rig.create({ audience: people(30), concurrency: 2 });
  await rig.provider.calls.count(2);
  await db.command({ collMod: 'workers', validator: { never: { $exists: true } } });
  try {
    await untilRefused(rig);
    await expect.poll(() => suspended.all.length - resumed.all.length, PATIENCE).toBe(1);
    gate.open();
    await expect
      .poll(() => db.collection('ledger_pages').countDocuments({ status: 'claimed' }), PATIENCE)
      .toBe(0);
    expect(rig.provider.left).toHaveLength(2);
    // What was counted a moment ago may be told once more.
    const progress = () => rig.scheduler.campaigns.progress(id);
    await expect.poll(progress, PATIENCE).toMatchObject({ sent: 2, unknown: 0, sending: 0 });
  } finally {
    await db.command({ collMod: 'workers', validator: {} });
  }
  await rig.until(id, 'completed');
  rig.provider.expectNobodyTwice();
});
