/**
 * The database goes away, freezes, changes its primary: afterwards every worker has its full strength again and every
 * alarm ends, with the driver's default time-outs and without an unhandled rejection (which would fail the run).
 */
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { BULK_ALARM } from '../../src/queue/alarm.ts';
import { bounded } from '../../src/store/bounded.ts';
import { closeClient } from '../support/mongo.ts';
import { connectTo, type Mongods, startMongods } from '../support/mongods.ts';
import { startProxy } from '../support/proxy.ts';
import {
  newCollectionName,
  newId,
  newIds,
  PATIENCE,
  PATIENT_TEST_MS,
  recordingLogger,
  type TestAlarms,
  testAlarms,
  untilEmpty,
} from './alarm-fixtures.ts';
import { type Door, door } from './signals.ts';

vi.setConfig({ testTimeout: PATIENT_TEST_MS, hookTimeout: PATIENT_TEST_MS });
const LIFETIME_MS = 1_000;
const CONCURRENCY = 4;
/** As in the product every operation ends: a connection that breaks may leave one of the driver without an answer for ever. */
const LIMIT_MS = 10_000;
const ROUNDS = process.env.FAULTS === 'long' ? 5 : 1;

interface OutageWorker {
  readonly test: TestAlarms;
  readonly ringing: Set<string>;
}

/** Two workers, each with a client of its own, whose handlers wait while `held` is set. */
async function twoWorkers(uri: string) {
  const held: { door: Door | undefined } = { door: undefined };
  const collectionName = newCollectionName();
  const workers: OutageWorker[] = [];
  for (let count = 0; count < 2; count++) {
    const client = await connectTo(uri);
    onTestFinished(() => closeClient(client));
    const ringing = new Set<string>();
    const handler = async (campaignId: string) => {
      ringing.add(campaignId);
      await held.door?.opened;
      ringing.delete(campaignId);
      return null;
    };
    const options = { collectionName, concurrency: CONCURRENCY, lockLifetimeMs: LIFETIME_MS, handler };
    const test = testAlarms(bounded(client.db(), LIMIT_MS), options);
    workers.push({ test, ringing });
    await test.alarms.start();
  }
  const { alarms, jobs } = (workers[0] as OutageWorker).test;
  /** As a caller does who wants to be sure: it may be repeated as often as it fails. */
  const wake = async (campaignId: string): Promise<void> => {
    const woken = await alarms.wake(BULK_ALARM, campaignId, new Date()).catch(() => undefined);
    if (woken === undefined) await wake(campaignId);
  };
  const wakeAll = (campaignIds: string[]) => Promise.all(campaignIds.map(wake));
  const rung = () => new Set(workers.flatMap(({ test }) => test.rings.all));
  return { held, workers, jobs, wakeAll, rung };
}

type Workers = Awaited<ReturnType<typeof twoWorkers>>;

/** Every slot of both workers is taken at the same time, and all alarms end. */
async function expectFullStrength({ held, workers, jobs, wakeAll }: Workers): Promise<void> {
  held.door = door();
  await wakeAll(newIds(CONCURRENCY * 4));
  const fewest = () => Math.min(...workers.map(({ ringing }) => ringing.size));
  await expect.poll(fewest, PATIENCE).toBeGreaterThanOrEqual(CONCURRENCY);
  held.door.open();
  held.door = undefined;
  await untilEmpty(jobs);
}

const twoLifetimes = () => new Promise((resolve) => setTimeout(resolve, 2 * LIFETIME_MS));

describe('one server', () => {
  let mongods: Mongods;
  beforeAll(async () => {
    mongods = await startMongods();
  });
  afterAll(() => mongods.stop());

  it.each(['stopped', 'killed', 'frozen'] as const)('%s for two lifetimes of a lock', async (how) => {
    const [server] = mongods.members;
    const workers = await twoWorkers(mongods.uriFor('app'));
    const before = newIds(30);
    const woken = workers.wakeAll(before);
    await expect.poll(() => workers.rung().size, PATIENCE).toBeGreaterThan(0);
    if (how === 'frozen') server!.freeze();
    else await (how === 'stopped' ? server!.stop() : server!.kill());
    await twoLifetimes();
    if (how === 'frozen') server!.thaw();
    else await server!.start();
    await woken;
    await expectFullStrength(workers);
    expect(workers.rung()).toEqual(expect.objectContaining({ size: 30 + CONCURRENCY * 4 }));
  });

  it('behind a connection that falls silent: it is said, to a logger that throws, and goes on', async () => {
    const proxy = await startProxy(mongods.uri);
    onTestFinished(() => proxy.stop());
    const client = await connectTo(`${proxy.uriFor('app')}&socketTimeoutMS=600&connectTimeoutMS=600`);
    onTestFinished(() => client.close());
    const { logger, log } = recordingLogger();
    const warn = (fields: object, message: string): never => {
      logger.warn(fields, message);
      throw new Error('the disk is full');
    };
    const { alarms, rings, jobs } = testAlarms(client.db(), { logger: { ...logger, warn } });
    await alarms.start();
    proxy.pause();
    await expect.poll(() => log.map(({ level }) => level), PATIENCE).toContain('warn');
    proxy.resume();
    await alarms.wake(BULK_ALARM, newId(), new Date());
    await rings.next();
    await untilEmpty(jobs);
  });
});

describe('three servers', () => {
  it('a step-down, then kill -9 of the primary, under load', async () => {
    const mongods = await startMongods({ members: 3 });
    onTestFinished(() => mongods.stop());
    const workers = await twoWorkers(mongods.uriFor('app'));
    for (let round = 0; round < ROUNDS; round++) {
      for (const fault of ['step-down', 'kill'] as const) {
        const woken = workers.wakeAll(newIds(60));
        await expect.poll(() => workers.jobs.countDocuments().catch(() => 0), PATIENCE).toBeGreaterThan(0);
        if (fault === 'step-down') await mongods.stepDown();
        else await (await mongods.primary()).restart('kill');
        await woken;
        await expectFullStrength(workers);
      }
    }
  });
});
