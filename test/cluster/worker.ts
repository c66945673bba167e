/**
 * A worker process of these tests. Its messenger writes every hand-over to a file that only grows, so that the log outlives
 * a kill, and then does what the test wants: answers at once, after a while, when the gate is opened, or when the test
 * answers. It reports what it is asked to do, and every unhandled rejection.
 */
import { appendFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import mongoose from 'mongoose';
import type { CampaignScheduler } from '../../src/campaign-scheduler.ts';
import type { SchedulerOptions } from '../../src/config.ts';
import { DeliveryError, type Message, type Messenger } from '../../src/messengers/messenger.ts';
import { startCampaignScheduler } from '../../src/scheduler.ts';
import { type Door, door } from '../queue/signals.ts';

export type Fate = 'sent' | 'permanent' | 'unknown';

export interface WorkerOptions {
  readonly uri: string;
  /** The file of hand-overs: one line `pid recipient run key attempt time` each. */
  readonly log: string;
  readonly scheduler?: Partial<SchedulerOptions>;
  readonly messenger?: Pick<Messenger, 'concurrency' | 'idempotent' | 'rate'>;
  readonly latencyMs?: number;
  /** Sends wait until the message `open`. */
  readonly gated?: boolean;
  /** What becomes of every send, until the message `fate` says otherwise. Default: sent. */
  readonly fate?: Fate;
  /** Each send is reported and waits for the test's `answer`. */
  readonly asks?: boolean;
  /** Hands the scheduler a connection of its own with mongoose's default time-outs. */
  readonly ownConnection?: boolean;
}

const options = JSON.parse(process.argv[2] ?? '') as WorkerOptions;
const say = (kind: string, fields: object = {}): void => void process.send?.({ kind, ...fields });
process.on('unhandledRejection', (error) => say('unhandled', { error: String(error) }));

let gate: Door | undefined = options.gated === true ? door() : undefined;
let fate: Fate = options.fate ?? 'sent';
const waiting = new Map<string, () => void>();

const messenger: Messenger = {
  ...options.messenger,
  send: async (message: Message) => {
    const { recipient, run, idempotencyKey, attempt } = message;
    appendFileSync(
      options.log,
      `${process.pid} ${recipient.id} ${run.id} ${idempotencyKey} ${attempt} ${Date.now()}\n`,
    );
    if (options.asks === true) {
      await new Promise<void>((resolve) => {
        waiting.set(idempotencyKey, resolve);
        say('send', { key: idempotencyKey, recipient: recipient.id, campaign: message.campaign.name });
      });
    }
    if (options.latencyMs !== undefined) await sleep(options.latencyMs);
    await gate?.opened;
    if (fate !== 'sent') throw new DeliveryError(fate, 'as planned');
    return { status: 'sent', providerId: recipient.id };
  },
};

const log = (level: string) => (fields: object, message: string) => {
  const { error } = fields as { error?: unknown };
  if (level !== 'debug')
    say('log', { level, message, fields: JSON.stringify(fields), error: String(error ?? '') });
};

let scheduler: CampaignScheduler | undefined;
const start = async (): Promise<void> => {
  const mongo =
    options.ownConnection === true ? await mongoose.createConnection(options.uri).asPromise() : options.uri;
  scheduler = await startCampaignScheduler({
    mongo,
    messengers: { post: messenger },
    logger: { debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') },
    ...options.scheduler,
  });
};

interface Order {
  readonly kind: string;
  readonly key?: string;
  readonly fate?: Fate;
}

const orders: Record<string, (message: Order) => Promise<void> | void> = {
  start,
  fate: (message) => {
    fate = message.fate ?? 'sent';
  },
  stop: async () => {
    await scheduler?.stop({ timeoutMs: 20_000 });
  },
  close: () => {
    gate = door();
  },
  open: () => {
    gate?.open();
    gate = undefined;
  },
  answer: ({ key = '' }) => {
    waiting.get(key)?.();
    waiting.delete(key);
  },
};
process.on('message', (message: Order) => {
  Promise.resolve(orders[message.kind]?.(message)).then(
    () => say(`${message.kind}-done`),
    (error: unknown) => say(`${message.kind}-failed`, { error: String(error) }),
  );
});
say('ready');
