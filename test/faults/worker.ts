/**
 * A worker process of the fault tests: a scheduler whose messengers keep a log that outlives it, and which ends itself by
 * SIGKILL at a planned step. Told by messages what to do; answers when it has done it. `ready` is said before the
 * scheduler is started, so that a process can be kept warm.
 */
import { existsSync } from 'node:fs';
import mongoose from 'mongoose';
import {
  type CampaignInput,
  type CampaignScheduler,
  type SchedulerOptions,
  startCampaignScheduler,
} from '../../src/index.ts';
import { armKiller, type KillPlan } from './kill-steps.ts';
import { providers } from './providers.ts';
import { chance } from './random.ts';
import { sourceRows } from './rows.ts';
import { appendTo } from './send-log.ts';
import { TIMES } from './times.ts';

export interface StartOrder {
  readonly kind: 'start';
  readonly uri: string;
  readonly logFile: string;
  readonly seed: number;
  readonly plan?: KillPlan | undefined;
  readonly options?: Partial<Omit<SchedulerOptions, 'mongo' | 'messengers' | 'audiences'>> | undefined;
  readonly socketTimeoutMs?: number | undefined;
}
export type WorkerOrder =
  | StartOrder
  | { readonly kind: 'create'; readonly input: CampaignInput }
  | { readonly kind: 'retry-failed'; readonly id: string }
  /** Lets so many hand-overs of the `gated` messenger come back, now or later. */
  | { readonly kind: 'open'; readonly count: number }
  /** Lets nothing else run in this process until this file exists. */
  | { readonly kind: 'block'; readonly until: string }
  | { readonly kind: 'stop' };

const say = (kind: string, fields: object = {}): void => void process.send?.({ kind, ...fields });
process.on('unhandledRejection', (error) => say('unhandled', { error: String(error) }));

/** Hand-overs that may come back, and those that wait for it. */
const gate = { free: 0, waiting: [] as (() => void)[] };

function open(count: number): void {
  gate.free += count;
  while (gate.free > 0 && gate.waiting.length > 0) {
    gate.free -= 1;
    gate.waiting.shift()?.();
  }
}

function block(file: string): void {
  // Said to the end before it begins: a message that waits in this process would come too late.
  process.send?.({ kind: 'blocking' }, undefined, undefined, () => {
    while (!existsSync(file));
    say('unblocked');
  });
}

let scheduler: CampaignScheduler | undefined;
let starting: Promise<void> | undefined;
let connection: mongoose.Connection | undefined;

async function start(order: StartOrder): Promise<void> {
  connection = mongoose.createConnection(order.uri, {
    monitorCommands: true,
    autoIndex: false,
    autoCreate: false,
    serverSelectionTimeoutMS: 5_000,
    socketTimeoutMS: order.socketTimeoutMs ?? 10_000,
  });
  connection.on('error', () => undefined);
  const append = appendTo(order.logFile);
  const die = (step: string): void => {
    append({ kind: 'kill', step });
    process.kill(process.pid, 'SIGKILL');
  };
  const killer = armKiller(connection, order.plan, die);
  scheduler = await startCampaignScheduler({
    mongo: connection,
    messengers: providers({
      logFile: order.logFile,
      append,
      random: chance(order.seed).fraction,
      onAccepted: () => killer.reached('after the messenger accepted'),
      onAsked: (now) => {
        killer.asking(now);
        if (now) killer.reached('while the messenger is asked');
      },
      die,
      gate: () =>
        new Promise((resolve) => {
          gate.waiting.push(resolve);
          open(0);
        }),
    }),
    audiences: { rows: (params) => sourceRows(params) },
    logger: { debug: () => undefined, info: () => undefined, warn: tell('warn'), error: tell('error') },
    ...TIMES,
    ...order.options,
  });
  for (const name of [
    'page:taken-over',
    'page:parked',
    'delivery:quarantined',
    'campaign:completed',
  ] as const) {
    scheduler.on(name, (payload) => say(name, payload));
  }
  say('started', { workerId: scheduler.workerId });
}

function tell(level: string) {
  return (fields: object, message: string): void => {
    const { error, ...facts } = fields as { error?: { message?: string; stack?: string } };
    say('log', { level, message, facts: JSON.stringify(facts), error: error?.stack ?? error?.message });
  };
}

async function obey(order: WorkerOrder): Promise<void> {
  if (order.kind === 'open') return open(order.count);
  if (order.kind === 'block') return block(order.until);
  if (order.kind === 'start') starting = start(order);
  await starting;
  if (order.kind === 'start') return;
  if (scheduler === undefined) throw new Error(`told to ${order.kind} before the start`);
  if (order.kind === 'create') say('created', { id: (await scheduler.campaigns.create(order.input)).id });
  else if (order.kind === 'retry-failed') {
    await scheduler.campaigns.retryFailed(order.id);
    say('ordered');
  } else {
    await scheduler.stop();
    await connection?.close();
    say('stopped');
  }
}

process.on('message', (order: WorkerOrder) => {
  obey(order).catch((error: unknown) => {
    say('refused', { order: order.kind, error: error instanceof Error ? error.stack : String(error) });
  });
});
say('ready');
