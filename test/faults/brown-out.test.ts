/**
 * A mail server that stops working while three processes send, and works again later: the breaker opens once, one worker at
 * a time looks whether it works, and everybody is sent without anybody's help. `FAULTS=long` plays every kind of outage.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CampaignScheduler, startCampaignScheduler } from '../../src/index.ts';
import { PATIENCE } from '../engine/provider.ts';
import { testDatabase } from '../support/mongo.ts';
import { startWorker, type Worker } from '../support/processes.ts';
import { type SinkPlan, startSmtpSink } from '../support/smtp-sink.ts';
import { type BrownOutOrder, type Line, mostProbesAtOnce, readLines } from './brown-out-log.ts';
import { people, quiet, until } from './fixtures.ts';
import { type SmtpFront, startSmtpFront } from './smtp-front.ts';
import { TIMES } from './times.ts';

const LONG = process.env.FAULTS === 'long';
const WORKERS = 3;
const CONCURRENCY = 4;
const RECIPIENTS = 400;
const HEALTHY: SinkPlan = { delayMs: 10 };
/** Mails that are sent before the outage. */
const FIRST = 60;
const breaker = {
  consecutiveFailures: 4,
  windowMs: 20_000,
  openMs: 4_000, // a worker that stands still for a while has heard of the opening before the first probe
  maxOpenMs: 4_500,
  trialSize: 3,
  rampMs: 1_000,
} as const;
const options: BrownOutOrder['options'] = {
  breaker,
  pageSize: 25,
  sendTimeoutMs: 15_000,
  claimTtlMs: 10_000,
  workerOfflineAfterMs: 20_000,
};

const { db, uri } = await testDatabase();
const folder = mkdtempSync(join(tmpdir(), 'campaign-scheduler-faults-'));
const logFile = join(folder, 'lines.log');
const sink = await startSmtpSink();
const front: SmtpFront = await startSmtpFront(sink.port);
let api: CampaignScheduler;
let workers: Worker[];

beforeAll(async () => {
  api = await startCampaignScheduler({
    mongo: uri,
    worker: false,
    messengers: { mail: { send: () => Promise.reject(new Error('this process only gives orders')) } },
    logger: quiet,
    ...TIMES,
    ...options,
  });
  workers = Array.from({ length: WORKERS }, () =>
    startWorker(new URL('./brown-out-worker.ts', import.meta.url)),
  );
  const order: BrownOutOrder = { kind: 'start', uri, logFile, smtp: front.url, options };
  for (const worker of workers) worker.send({ ...order });
  await Promise.all(workers.map((worker) => worker.next('started')));
});
afterAll(async () => {
  await Promise.all(workers.map((worker) => worker.kill()));
  await api.stop();
  await front.close();
  await sink.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Outage {
  readonly begin: () => Promise<void> | void;
  /** The server has the mail, and nobody learns of it. */
  readonly leavesUnknown?: boolean;
}

const plan = (misbehaviour: SinkPlan) => () => sink.plan(() => ({ ...HEALTHY, ...misbehaviour }));
const OUTAGES: Record<string, Outage> = {
  'connections are refused': {
    begin: async () => {
      await front.refuse();
      plan({ mail: 'drop' })();
    },
  },
  'it answers 421': { begin: plan({ mail: 421 }) },
  'it answers 451': { begin: plan({ rcpt: 451 }) },
  'it is silent after the mail': { begin: plan({ message: 'silence' }), leavesUnknown: true },
  'it answers letter by letter': { begin: () => front.drip(500), leavesUnknown: true },
};
const USUAL = ['connections are refused', 'it is silent after the mail'];

const heal = async (): Promise<void> => {
  sink.plan(() => HEALTHY);
  await front.heal();
};
/** So slow after the first mails that the campaign is not over before the outage begins. Returns how many mails there were. */
const slowAfterTheFirst = (): number => {
  const before = sink.messages.length;
  sink.plan(() => (sink.messages.length - before < FIRST ? HEALTHY : { delayMs: 500 }));
  return before;
};

describe.each(Object.entries(OUTAGES))('%s', (name, { begin, leavesUnknown = false }) => {
  it.skipIf(!LONG && !USUAL.includes(name))('one opening, one probe at a time, and all is sent', async () => {
    await heal();
    const from = readLines(logFile).length;
    const before = slowAfterTheFirst();
    const lines = (kind: Line['kind']) => readLines(logFile, from).filter((line) => line.kind === kind);
    const { id } = await api.campaigns.create({
      name,
      messenger: 'mail',
      content: { subject: 'News', text: 'hello' },
      audience: people(RECIPIENTS),
      concurrency: CONCURRENCY,
    });
    await until('the first mails', () => sink.messages.length - before >= FIRST);

    await begin();
    await until('the opening', () => lines('opened').length > 0);
    const statusOf = async () => (await api.campaigns.find(id))?.status;
    await until('the pause', async () => (await statusOf()) === 'paused');
    await expect.poll(() => api.why(id), PATIENCE).toMatchObject({ code: 'breaker_open', messenger: 'mail' });
    await until('a probe that fails', () => lines('opened').length > 1);

    await heal();
    await until('the end', async () => (await statusOf()) === 'completed');
    const seen = readLines(logFile, from);
    expect(
      seen.filter(({ kind, openings }) => kind === 'opened' && openings === lines('opened')[0]?.openings),
    ).toHaveLength(1);
    // Told after it is durable.
    await until('the closing', () => lines('closed').length > 0);
    expect(lines('closed')).toHaveLength(1);
    expect(lines('half-open').length).toBe(lines('opened').length); // each opening but the first by a failed probe, the last one passed
    expect(mostProbesAtOnce(seen)).toBe(1);

    const report = await api.campaigns.report(id);
    const { unknown = 0 } = report ?? {};
    expect(report).toMatchObject({ total: RECIPIENTS, failed: 0, sent: RECIPIENTS - unknown });
    const probes = lines('opened').length - 1;
    const windows = WORKERS * 2 * CONCURRENCY;
    expect(unknown).toBeLessThanOrEqual(leavesUnknown ? breaker.consecutiveFailures + windows + probes : 0);
    const arrived = sink.messages.slice(before).map(({ to }) => to[0]);
    expect(new Set(arrived).size).toBe(arrived.length);
    expect(arrived.length).toBeGreaterThanOrEqual(RECIPIENTS - unknown);
    expect(await db.collection('campaigns').countDocuments({ statusReason: { $exists: true } })).toBe(0);
    console.log(`${name}: ${probes} probes failed, ${unknown} unknown`);
  });
});

it.skipIf(!LONG)(
  'the prober is stopped in the middle: another one takes the probe, and what wakes up starts nothing',
  async () => {
    await heal();
    const from = readLines(logFile).length;
    const before = slowAfterTheFirst();
    const lines = (kind: Line['kind']) => readLines(logFile, from).filter((line) => line.kind === kind);
    const { id } = await api.campaigns.create({
      name: 'a prober that is stopped',
      messenger: 'mail',
      content: { subject: 'News', text: 'hello' },
      audience: people(RECIPIENTS),
      concurrency: CONCURRENCY,
    });
    await until('the first mails', () => sink.messages.length - before >= FIRST);
    plan({ message: 'silence' })();
    await until('a probe', () => lines('half-open').length > 0);
    const prober = workers.find(({ pid }) => pid === lines('half-open')[0]?.pid);
    prober?.freeze();
    await heal();
    await until('the closing by another worker', () => lines('closed').length > 0);
    expect(lines('closed')).toHaveLength(1);
    expect(lines('closed')[0]?.pid).not.toBe(prober?.pid);
    await until('the end', async () => (await api.campaigns.find(id))?.status === 'completed');
    const seen = readLines(logFile, from).length;
    prober?.thaw();
    const other = await api.campaigns.create({
      name: 'the next one',
      messenger: 'mail',
      content: { subject: 'News', text: 'hello' },
      audience: people(100).map(({ id: name, to }) => ({ id: name, to: `next-${to}` })),
    });
    await until('the next one', async () => (await api.campaigns.find(other.id))?.status === 'completed');
    expect(
      readLines(logFile, from)
        .slice(seen)
        .filter(({ kind }) => kind === 'opened' || kind === 'half-open'),
    ).toEqual([]);
    const { unknown = 0, failed, sent } = (await api.campaigns.report(id)) ?? {};
    expect([failed, sent]).toEqual([0, RECIPIENTS - unknown]);
    const arrived = sink.messages.slice(before).map(({ to }) => to[0]);
    expect(new Set(arrived).size).toBe(arrived.length);
  },
);
