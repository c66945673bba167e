/**
 * A worker process of these tests: alarms in a process of its own, to be killed or frozen. Told by messages what to do,
 * it answers when it has done it, and reports every ring, every log entry and every unhandled rejection.
 * `skewMs` moves this process's wall clock, as a wrong clock on a server would.
 */
import { MongoClient } from 'mongodb';
import { systemClock } from '../../src/clock.ts';
import { BULK_ALARM, RECURRING_ALARM } from '../../src/queue/alarm.ts';
import { createAlarms } from '../../src/queue/alarms.ts';
import { door } from './signals.ts';

export interface WorkerOptions {
  readonly uri: string;
  readonly collectionName: string;
  readonly workerId: string;
  readonly lockLifetimeMs?: number;
  readonly skewMs?: number;
  /** Handlers wait for the message `finish`. */
  readonly waits?: boolean;
}

const options = JSON.parse(process.argv[2] ?? '') as WorkerOptions;
const TrueDate = Date;
if (options.skewMs !== undefined) skewClock(options.skewMs);

const say = (kind: string, fields: object = {}): void => void process.send?.({ kind, ...fields });
process.on('unhandledRejection', (error) => say('unhandled', { error: String(error) }));
const log = (level: string) => (fields: object, message: string) => {
  const { error } = fields as { error?: { code?: string; message?: string } };
  say('log', { level, message, code: error?.code, error: error?.message });
};

const client = await MongoClient.connect(options.uri);
const finish = door();
const handler = async (campaignId: string): Promise<null> => {
  say('rang', { campaignId });
  if (options.waits) await finish.opened;
  return null;
};
const alarms = createAlarms({
  db: client.db(),
  collectionName: options.collectionName,
  workerId: options.workerId,
  logger: { debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') },
  clock: systemClock,
  processEveryMs: 100,
  lockLifetimeMs: options.lockLifetimeMs ?? 1_000,
  handlers: { [BULK_ALARM]: handler, [RECURRING_ALARM]: handler },
  serverNow: () => new TrueDate(),
});

const orders: Record<string, (message: { campaignIds?: string[] }) => Promise<object | undefined>> = {
  start: async () => {
    await alarms.start();
    return {};
  },
  wake: async ({ campaignIds = [] }) => {
    const waking = campaignIds.map((campaignId) => alarms.wake(BULK_ALARM, campaignId, new TrueDate()));
    return { ids: await Promise.all(waking) };
  },
  finish: async () => {
    finish.open();
    return {};
  },
  stop: async () => ({ idle: await alarms.stop({ timeoutMs: 10_000 }) }),
  /** Lets go of everything: the process must then end by itself. */
  leave: async () => {
    await alarms.stop({ timeoutMs: 10_000 });
    await client.close();
    process.removeAllListeners('message');
    process.removeAllListeners('disconnect');
    process.disconnect();
    return undefined;
  },
};
process.on('message', async (message: { kind: string; campaignIds?: string[] }) => {
  const answer = await orders[message.kind]?.(message);
  if (answer) say(`${message.kind}-done`, answer);
});
say('ready');

function skewClock(skewMs: number): void {
  class SkewedDate extends TrueDate {
    constructor(...parts: ConstructorParameters<typeof Date> | []) {
      if (parts.length === 0) super(TrueDate.now() + skewMs);
      else super(...parts);
    }
    static override now(): number {
      return TrueDate.now() + skewMs;
    }
    static override [Symbol.hasInstance](value: unknown): boolean {
      return Object.prototype.toString.call(value) === '[object Date]';
    }
  }
  globalThis.Date = SkewedDate as DateConstructor;
}
