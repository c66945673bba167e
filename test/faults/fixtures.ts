/** Schedulers within the test process, messengers that wait for the test, and ways to wait for what the database says. */
import type { Db } from 'mongodb';
import { onTestFinished } from 'vitest';
import {
  type CampaignScheduler,
  type Message,
  type Messenger,
  type SchedulerOptions,
  type SendResult,
  startCampaignScheduler,
} from '../../src/index.ts';
import { PATIENCE } from '../engine/provider.ts';
import { TIMES } from './times.ts';

const noLine = (): void => undefined;
export const quiet = { debug: noLine, info: noLine, warn: noLine, error: noLine };

/** A scheduler with short times, stopped when the test has finished. */
export async function testScheduler(
  options: SchedulerOptions & Required<Pick<SchedulerOptions, 'mongo'>>,
): Promise<CampaignScheduler> {
  const scheduler = await startCampaignScheduler({ logger: quiet, ...TIMES, pageSize: 10, ...options });
  onTestFinished(() => scheduler.stop({ timeoutMs: 500 }));
  return scheduler;
}

export interface Held {
  readonly message: Message;
  answer(result: SendResult): void;
  fail(error: Error): void;
}

/** A messenger whose every send waits until the test answers it. */
export function heldMessenger(more: Partial<Messenger> = {}): { messenger: Messenger; held: Held[] } {
  const held: Held[] = [];
  const send = (message: Message): Promise<SendResult> =>
    new Promise((resolve, reject) => {
      held.push({ message, answer: resolve, fail: reject });
    });
  return { messenger: { ...more, send }, held };
}

export function people(count: number): { id: string; to: string }[] {
  return Array.from({ length: count }, (_, index) => ({ id: `r${index}`, to: `r${index}@example.org` }));
}

/** Polls: what is waited for is done by other processes. */
export async function until(what: string, done: () => boolean | Promise<boolean>): Promise<void> {
  const late = performance.now() + PATIENCE.timeout;
  while (!(await done())) {
    if (performance.now() > late) throw new Error(`${what}: not within ${PATIENCE.timeout} ms`);
    await new Promise((resolve) => setTimeout(resolve, PATIENCE.interval));
  }
}

/** The run of the campaign is closed and taken out of it. */
export const untilClosed = (scheduler: CampaignScheduler, db: Db, id: string): Promise<void> =>
  until(`the end of ${id}`, async () => {
    const { status } = (await scheduler.campaigns.find(id)) ?? {};
    if (status !== 'completed' && status !== 'cancelled') return false;
    return (await db.collection('campaigns').countDocuments({ 'openRuns.runId': `${id}:once` })) === 0;
  });

export const pagesOf = (db: Db, id: string) =>
  db
    .collection('ledger_pages')
    .find({ runId: `${id}:once` })
    .sort({ n: 1 })
    .toArray();
