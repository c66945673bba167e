/**
 * Alarms for tests: defaults with short times, one collection per call, handlers that report as signals. When the test has
 * finished everything that was started is stopped, and must then hold no lock.
 */
import { type Collection, type Db, ObjectId } from 'mongodb';
import { expect, onTestFinished } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import type { Logger, LogLevel } from '../../src/logger.ts';
import { type AlarmDocument, type AlarmName, BULK_ALARM, RECURRING_ALARM } from '../../src/queue/alarm.ts';
import { alarmCollection } from '../../src/queue/alarm-collection.ts';
import type { AlarmHandler } from '../../src/queue/alarm-handler.ts';
import { AlarmRepository, type AlarmRepositoryOptions } from '../../src/queue/alarm-repository.ts';
import { type Alarms, type AlarmsOptions, createAlarms } from '../../src/queue/alarms.ts';
import { Signals } from './signals.ts';

export const HOUR_MS = 3_600_000;
export const PATIENCE = { timeout: 60_000, interval: 20 };
/** For tests that start servers or processes. */
export const PATIENT_TEST_MS = process.env.FAULTS === 'long' ? 1_200_000 : 240_000;

export interface LogEntry {
  readonly level: LogLevel;
  readonly fields: Record<string, unknown>;
  readonly message: string;
}

export interface TestAlarms {
  readonly alarms: Alarms;
  readonly workerId: string;
  readonly collectionName: string;
  readonly jobs: Collection<AlarmDocument>;
  /** One signal per call of a handler: the campaign's id. */
  readonly rings: Signals<string>;
  readonly log: LogEntry[];
}

type Overrides = Partial<Omit<AlarmsOptions, 'handlers'>> & {
  /** What the handlers of both names do after they have signalled. Default: nothing is left. */
  handler?: AlarmHandler;
  /** The database cannot be read, so that nothing can be checked at the end. */
  unreadable?: true;
};

let collections = 0;

export function testAlarms(db: Db, overrides: Overrides = {}): TestAlarms {
  const { handler = async () => null, unreadable, ...options } = overrides;
  const rings = new Signals<string>('ring');
  const { logger, log } = recordingLogger();
  const collectionName = options.collectionName ?? newCollectionName();
  const workerId = options.workerId ?? newId();
  const ring: AlarmHandler = async (campaignId) => {
    rings.emit(campaignId);
    return handler(campaignId);
  };
  const alarms = createAlarms({
    db,
    workerId,
    logger,
    clock: systemClock,
    processEveryMs: 100,
    lockLifetimeMs: 10_000,
    handlers: { [BULK_ALARM]: ring, [RECURRING_ALARM]: ring },
    serverNow: () => new Date(),
    ...options,
    collectionName,
  });
  const jobs = jobsOf(db, collectionName);
  onTestFinished(async () => {
    expect(await alarms.stop({ timeoutMs: 20_000 })).toBe(true);
    if (unreadable) return;
    expect(await jobs.find({ lastModifiedBy: workerId, lockedAt: { $ne: null } }).toArray()).toEqual([]);
  });
  return { alarms, workerId, collectionName, jobs, rings, log };
}

/** Agenda's side of the collection without an Agenda: the test plays the worker. */
export function testRepository(
  db: Db,
  options: Partial<AlarmRepositoryOptions> & { collectionName?: string },
) {
  const { logger, log } = recordingLogger();
  const alarms = alarmCollection(db, options.collectionName ?? newCollectionName());
  const repository = new AlarmRepository({
    db,
    alarms,
    logger,
    clock: systemClock,
    processEveryMs: 100,
    lockLifetimeMs: 10_000,
    limitPerName: 10,
    ...options,
  });
  const lock = (name: AlarmName = BULK_ALARM, workerId = 'worker') => {
    const now = new Date();
    return repository.getNextJobToRun(name, now, now, undefined, { lastModifiedBy: workerId });
  };
  return { repository, alarms, jobs: alarms.collection, lock, log };
}

export function recordingLogger(): { logger: Logger; log: LogEntry[] } {
  const log: LogEntry[] = [];
  const at = (level: LogLevel) => (fields: object, message: string) => {
    log.push({ level, fields: fields as Record<string, unknown>, message });
  };
  return { logger: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }, log };
}

export function newCollectionName(): string {
  collections += 1;
  return `alarms_${collections}`;
}

/** What runs write is not yet a majority's when they have ended. */
export function jobsOf(db: Db, collectionName: string): Collection<AlarmDocument> {
  return db.collection<AlarmDocument>(collectionName, { readConcern: { level: 'local' } });
}

/** A campaign's id. */
export function newId(): string {
  return new ObjectId().toHexString();
}

export function newIds(count: number): string[] {
  return Array.from({ length: count }, newId);
}

export function inFuture(ms: number): Date {
  return new Date(Date.now() + ms);
}

/** As a worker that died would have left it: locked long ago, with no date. */
export function abandonedAlarm(campaignId: string, fields: Partial<AlarmDocument> = {}): AlarmDocument {
  return {
    _id: new ObjectId(),
    name: BULK_ALARM,
    data: { campaignId },
    type: 'normal',
    priority: 0,
    disabled: null,
    nextRunAt: null,
    lockedAt: inFuture(-HOUR_MS),
    lockToken: 'of-the-dead',
    lastModifiedBy: 'dead-worker',
    wakeRev: 1,
    ...fields,
  };
}

/** Waits until the collection is empty: every alarm has rung and ended. */
export async function untilEmpty(jobs: Collection<AlarmDocument>): Promise<void> {
  await expect.poll(() => jobs.find().toArray(), PATIENCE).toEqual([]);
}

/** Waits until the alarm of this campaign is at rest, and returns it. */
export async function untilAtRest(alarms: Alarms, campaignId: string) {
  const read = async () => (await alarms.find([campaignId]))[0];
  await expect.poll(async () => (await read())?.lockedAt, PATIENCE).toBeNull();
  return read();
}
