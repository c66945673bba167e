/**
 * Alarms in, handlers out: all that the rest of the package knows of Agenda.
 *
 *     const alarms = createAlarms({ db, collectionName: 'agendaJobs', workerId, logger, clock, … });
 *     await alarms.ensureIndexes();                        // a process that only serves an API: this is enough
 *     await alarms.wake(BULK_ALARM, campaignId, sendAt);   // returns the job's id; repeat it as often as you like
 *     await alarms.start();                                // a worker: handlers are called from now on
 *     await alarms.stop({ timeoutMs: 25_000 });            // true: nothing of ours writes any more, close the connection
 *
 * A handler may be called early, twice, or in two workers at once: it looks at the campaign and returns when to ring
 * again (server time), or null when nothing is left. Dates are compared on the server, so a wrong local clock is
 * harmless. `start` and `stop` may be called in any order, as often as you like; a start after a stop starts anew.
 */
import type { Db } from 'mongodb';
import type { Clock } from '../clock.ts';
import type { Logger } from '../logger.ts';
import type { AlarmEntry, AlarmName, AlarmState } from './alarm.ts';
import { alarmCollection } from './alarm-collection.ts';
import type { AlarmHandler } from './alarm-handler.ts';
import { ensureAlarmIndexes } from './alarm-indexes.ts';
import { type AlarmSession, openAlarmSession } from './alarm-session.ts';
import { neverThrowing } from './quiet-logger.ts';

export interface AlarmsOptions {
  db: Db;
  collectionName: string;
  /** Random per start of the process: it is written into the alarms this process holds. */
  workerId: string;
  logger: Logger;
  clock: Clock;
  /** How often is looked for due alarms. */
  processEveryMs: number;
  /** After this time a dead worker's alarm moves. Keep it well above `processEveryMs`: alarms are locked that early. */
  lockLifetimeMs: number;
  handlers: Record<AlarmName, AlarmHandler>;
  /** The time by MongoDB's clock, as well as this process knows it. */
  serverNow: () => Date;
  /** Alarms of one name that ring at the same time in this process; also the number of starts per poll. Default 500. */
  concurrency?: number;
  /** How long `ensureIndexes` and `start` wait for MongoDB. Default 10,000. */
  connectTimeoutMs?: number;
}

export interface Alarms {
  /** Makes the two indexes. Throws `index_conflict`, `mongo_auth`, or `mongo_unreachable` after `connectTimeoutMs`. */
  ensureIndexes(): Promise<void>;
  /** Makes the indexes, then lets alarms ring. Throws as `ensureIndexes`, and `stopped` when `stop` came first. */
  start(): Promise<void>;
  /**
   * Nothing rings any more from the call on. Resolves to true when all handlers have returned and their end is
   * written, to false at the deadline (what is then still ringing moves to another worker when its lock expires).
   */
  stop(options: { timeoutMs: number }): Promise<boolean>;
  /** When a look for due alarms was answered last, monotonic; undefined: none was since the start. */
  lookedAt(): number | undefined;
  /** Rings at `at`, or earlier if that was asked for before. A wake-up during a run rings again after it. */
  wake(name: AlarmName, campaignId: string, at: Date): Promise<string>;
  /** The alarms of up to 1,000 campaigns, in one query. */
  find(campaignIds: readonly string[]): Promise<AlarmState[]>;
  /** The alarms that are held, by whomever; at most `limit`. */
  locked(limit: number): Promise<AlarmState[]>;
  /** Inserts what is missing and leaves the rest alone; job ids by campaign id. For one caller at a time. */
  insertMissing(entries: readonly AlarmEntry[]): Promise<Map<string, string>>;
  /** The same for several callers at once, slower. */
  upsertMissing(entries: readonly AlarmEntry[]): Promise<Map<string, string>>;
  /** Takes an alarm, as read, from a dead worker; it rings at once. False: it was no longer held under this token. */
  release(jobId: string, lockToken: string): Promise<boolean>;
}

const DEFAULT_CONCURRENCY = 500;
const DEFAULT_CONNECT_TIMEOUT_MS = 10_000;

export function createAlarms(options: AlarmsOptions): Alarms {
  const { clock } = options;
  const logger = neverThrowing(options.logger);
  const alarms = alarmCollection(options.db, options.collectionName);
  let session: AlarmSession | undefined;
  let lastStop: Promise<boolean> = Promise.resolve(true);

  function ensureIndexes(): Promise<void> {
    const deadlineMs = options.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS;
    return ensureAlarmIndexes(alarms.collection, { deadlineMs, clock });
  }

  async function start(): Promise<void> {
    if (!session) {
      const fresh = openAlarmSession({
        ...options,
        alarms,
        logger,
        concurrency: options.concurrency ?? DEFAULT_CONCURRENCY,
        prepare: ensureIndexes,
        after: lastStop,
      });
      session = fresh;
      fresh.started.catch(() => {
        if (session === fresh) session = undefined; // a failed start may be tried again
      });
    }
    await session.started;
  }

  function stop({ timeoutMs }: { timeoutMs: number }): Promise<boolean> {
    if (session) {
      lastStop = session.stop(timeoutMs);
      session = undefined;
    }
    return lastStop;
  }

  const { wake, find, locked, insertMissing, upsertMissing, release } = alarms;
  const lookedAt = (): number | undefined => session?.lookedAt();
  return { ensureIndexes, start, stop, lookedAt, wake, find, locked, insertMissing, upsertMissing, release };
}
