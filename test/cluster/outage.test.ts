/**
 * MongoDB goes away in the middle of a campaign: restarted, killed, frozen, stepped down, behind a silent connection. What
 * the messenger answers meanwhile is known to the holder and is recorded; it goes on by itself; nobody is sent to twice.
 */
import mongoose from 'mongoose';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { SchedulerOptions } from '../../src/config.ts';
import { people, type Rig, startRig, stopAll } from '../engine/fixtures.ts';
import { newProvider, PATIENCE } from '../engine/provider.ts';
import { door } from '../queue/signals.ts';
import { type Mongods, startMongods } from '../support/mongods.ts';
import { startProxy } from '../support/proxy.ts';

const TOTAL = 400;
const CONCURRENCY = 10;
let databases = 0;
const newDatabase = (): string => {
  databases += 1;
  return `outage_${databases}`;
};

const unhandled: unknown[] = [];
const remember = (error: unknown): void => void unhandled.push(error);
beforeAll(() => void process.on('unhandledRejection', remember));
afterAll(() => void process.off('unhandledRejection', remember));
afterEach(async () => {
  await stopAll();
  expect(unhandled).toEqual([]);
});

interface Fault {
  begin(): Promise<void> | void;
  end(): Promise<void> | void;
  /** The outage lasts until the holder has said that its outcomes wait. */
  readonly untilNoticed?: boolean;
  /** How long the outage lasts at least. */
  readonly ms?: number;
  /** How long claims last, ms: no page may be taken because the machine is slow. */
  readonly claimTtlMs?: number;
}

/** Workers share a campaign; the database goes away while all have sends in flight, which are answered meanwhile. */
async function survive(
  connect: () => Promise<SchedulerOptions['mongo']>,
  fault: Fault,
  workers = 2,
): Promise<void> {
  const provider = newProvider();
  const rigs: Rig[] = [];
  const { claimTtlMs = 10_000 } = fault;
  const options = { claimTtlMs, claimMarginMs: claimTtlMs / 5, sendTimeoutMs: 120_000 };
  while (rigs.length < workers) rigs.push(await startRig(await connect(), { provider, ...options }));
  const [rig] = rigs as [Rig];
  const rest = door();
  let begun = 0;
  provider.plan(async () => {
    begun += 1;
    if (begun > TOTAL / 4) await rest.opened;
  });
  const { id } = await rig.create({ audience: people(TOTAL), concurrency: CONCURRENCY });
  await expect.poll(() => provider.inFlight, PATIENCE).toBe(workers * CONCURRENCY);
  const before = provider.calls.all.length;
  await fault.begin();
  rest.open();
  // The intents that are durable are used up; then nothing more starts.
  await expect.poll(() => provider.inFlight, PATIENCE).toBe(0);
  if (fault.untilNoticed === true) {
    const waits = () =>
      rigs.some(({ log }) => log.some(({ message }) => message.startsWith('outcomes wait')));
    await expect.poll(waits, PATIENCE).toBe(true);
    expect(provider.calls.all.length - before).toBeLessThanOrEqual(workers * CONCURRENCY);
  }
  if (fault.ms !== undefined) await new Promise((resolve) => setTimeout(resolve, fault.ms));
  await fault.end();

  await rig.until(id, 'completed');
  const report = await rig.scheduler.campaigns.report(id);
  expect(report).toMatchObject({ total: TOTAL, sent: TOTAL });
  expect((await rig.scheduler.campaigns.audit(id))?.problems).toEqual([]);
  provider.expectNobodyTwice();
  expect(provider.left).toHaveLength(TOTAL);
  for (const { log } of rigs) expect(log.filter(({ level }) => level === 'error')).toEqual([]);
}

describe.each([
  ['a replica set of one', true],
  ['a standalone server', false],
])('%s', (_what, replicaSet) => {
  let mongods: Mongods;
  beforeAll(async () => {
    mongods = await startMongods({ replicaSet });
  });
  afterAll(() => mongods.stop());
  const connect = (): (() => Promise<string>) => {
    const uri = mongods.uriFor(newDatabase());
    return async () => uri;
  };
  /** The app's own connection, with the time-outs that the driver has by default. */
  const ownConnection =
    (uri = mongods.uriFor(newDatabase())) =>
    async () => {
      const connection = await mongoose.createConnection(uri).asPromise();
      onTestFinished(() => connection.close());
      return connection;
    };
  const server = () => mongods.members[0]!;
  const ways: Record<string, Fault> = {
    'stopped and started again': { begin: () => server().stop(), end: () => server().start() },
    killed: {
      begin: () => server().kill(),
      end: () => server().start(),
      untilNoticed: true,
    },
    frozen: { begin: () => server().freeze(), end: () => server().thaw(), untilNoticed: true },
    'frozen for longer than a claim lasts, but not so long that anything fails': {
      begin: () => server().freeze(),
      end: () => server().thaw(),
      ms: 8_000,
      claimTtlMs: 4_000,
    },
  };

  it.each(Object.keys(ways))('%s', (way) => survive(connect(), ways[way] as Fault));
  // Nobody else is there to take its pages over: an operation that never ends would stop the campaign for good.
  it('killed, under a single worker', () => survive(connect(), ways.killed as Fault, 1));

  it('stopped and started again, over a connection of the app', () =>
    survive(ownConnection(), ways['stopped and started again'] as Fault));

  if (!replicaSet) return;
  it.each(['the scheduler', 'the app'])('behind a connection of %s that falls silent', async (whose) => {
    const proxy = await startProxy(mongods.uri);
    onTestFinished(() => proxy.stop());
    const uri = proxy.uriFor(newDatabase());
    const own = whose === 'the scheduler';
    await survive(own ? async () => uri : ownConnection(uri), {
      begin: () => proxy.pause(),
      end: () => {
        if (!own) proxy.cut(); // without a time-out of its own it learns of the silence when the connection is reset
        proxy.resume();
      },
      untilNoticed: own,
    });
  });
});

describe('three servers', () => {
  let mongods: Mongods;
  beforeAll(async () => {
    mongods = await startMongods({ members: 3 });
  });
  afterAll(() => mongods.stop());

  it.each(['a step-down', 'kill -9 of the primary'])('%s', async (way) => {
    const uri = mongods.uriFor(newDatabase());
    const primary = await mongods.primary();
    await survive(async () => uri, {
      begin: () => (way === 'a step-down' ? mongods.stepDown() : primary.kill()),
      end: async () => {
        if (way !== 'a step-down') await primary.start();
      },
    });
  });
});
