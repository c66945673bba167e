/** The sign of life of a run, and what it costs when many workers hold pages of many runs. */
import { expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { DeliveryError } from '../../src/messengers/messenger.ts';
import { createRunHeartbeat } from '../../src/services/run-heartbeat.ts';
import type { RunDoc } from '../../src/store/documents.ts';
import { watchedConnection } from '../support/commands.ts';
import { testDatabase } from '../support/mongo.ts';
import { othersGoOn, people, runsOf, startRig, testStore, tidyUpAfterEach } from './fixtures.ts';
import { newProvider, PATIENCE } from './provider.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const runOf = (id: string) => runsOf(db).findOne({ _id: `${id}:once` });

it('tells how far it is while it sends, and at the end that everybody is accounted for', async () => {
  const rig = await startRig(uri);
  const gate = rig.provider.hold();
  // A recipient whose id looks like an expression is only a text.
  const audience = [{ id: '$heartbeat', to: 'x@example.org' }, ...people(29)];
  const { id } = await rig.create({ audience, concurrency: 1 });
  await expect
    .poll(async () => (await runOf(id))?.heartbeat, PATIENCE)
    .toMatchObject({
      recipient: '$heartbeat',
      progress: '0/30',
      percent: 0,
      status: 'sending',
      workerId: rig.scheduler.workerId,
      pid: process.pid,
      at: expect.any(Date),
    });
  expect((await runOf(id))?.checkpoint).toEqual({
    done: 0,
    total: 30,
    sent: 0,
    failed: 0,
    errors: 0,
    canResume: true,
  });
  rig.provider.plan(({ recipient }) => {
    if (recipient.id === 'p3') throw new DeliveryError('permanent', 'no such user');
    return undefined;
  });
  gate.open();
  await rig.until(id, 'completed');
  const ended = await runOf(id);
  expect(ended?.heartbeat).toMatchObject({ progress: '30/30', percent: 100, status: 'finished' });
  expect(ended?.checkpoint).toEqual({
    done: 30,
    total: 30,
    sent: 29,
    failed: 1,
    errors: 1,
    canResume: false,
  });
  // A sign of life that is late changes nothing of a run that has ended.
  await othersGoOn(rig);
  expect((await runOf(id))?.heartbeat).toEqual(ended?.heartbeat);
});

it('a run that is held twice is told with the recipient that is known', async () => {
  const store = await testStore(uri);
  onTestFinished(() => store.close());
  const runId = 'twice:once';
  const run = { status: 'sending', total: 3, openedAt: new Date() };
  await store.runs.insertOne({ _id: runId, ...run } as unknown as RunDoc);
  const log = { debug() {}, info() {}, warn() {}, error() {} };
  const beat = createRunHeartbeat({
    store,
    clock: systemClock,
    logger: log,
    workerId: 'w',
    heartbeatMs: 1_000,
    takeHeldRuns: () => [
      { runId, recipient: 'p1' },
      { runId, recipient: null },
    ],
  });
  await beat.runOnce();
  const heartbeat = async () => (await runsOf(db).findOne({ _id: runId }))?.heartbeat;
  await expect.poll(heartbeat, PATIENCE).toMatchObject({ recipient: 'p1' });
  await runsOf(db).deleteOne({ _id: runId });
});

it('ten runs held by three workers: in each period one question, one sum and one write for all, by few of them', async () => {
  const HEARTBEAT_MS = 400;
  const provider = newProvider();
  const gate = provider.hold();
  const watched = await Promise.all([0, 1, 2].map(() => watchedConnection(uri)));
  const options = { provider, heartbeatMs: HEARTBEAT_MS, sendTimeoutMs: 60_000 };
  const rigs = await Promise.all(watched.map(({ connection }) => startRig(connection, options)));
  const [rig] = rigs;
  if (rig === undefined) throw new Error('no rig');
  const ids: string[] = [];
  for (let n = 0; n < 10; n += 1) ids.push((await rig.create({ audience: people(60), concurrency: 1 })).id);
  const beating = () => runsOf(db).countDocuments({ 'heartbeat.at': { $exists: true } });
  await expect.poll(beating, PATIENCE).toBe(10);
  const ofRuns = (name: string, marker: string): number =>
    watched
      .flatMap(({ answered }) => answered.all)
      .filter((one) => one.name === name && JSON.stringify(one.command).includes(marker)).length;
  const beats = () => ofRuns('update', '"heartbeat.recipient"');
  const questions = () => ofRuns('find', '"$heartbeat.at"');
  const sums = () => ofRuns('aggregate', '"_id":"$runId","pending"');
  const from = { beats: beats(), questions: questions(), sums: sums() };
  expect(from.sums).toBeGreaterThan(0);
  await expect.poll(() => questions() - from.questions, PATIENCE).toBeGreaterThanOrEqual(12);
  const asked = questions() - from.questions;
  // However many workers hold pages of a run: each asks once a period, and only who finds one silent goes on.
  expect(beats() - from.beats).toBeLessThanOrEqual(asked + 1);
  expect(sums() - from.sums).toBeLessThanOrEqual(asked + 1);
  gate.open();
  for (const id of ids) await rig.until(id, 'completed');
});
