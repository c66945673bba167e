/**
 * How Agenda reads and writes alarms: Agenda's own repository with every write replaced. It owns the locks.
 *
 * Invariant: a lock is a token in the document. Every write of a run names its token, so a worker that stalled and lost
 * its alarm changes nothing; all lock times and due dates are compared on the server, by the server's clock; and no
 * write leaves an alarm without a date and without a lock.
 */
import { randomUUID } from 'node:crypto';
import { MongoJobRepository } from '@agendajs/mongo-backend';
import type { JobId, JobParameters, JobRepositoryOptions, RemoveJobsOptions } from 'agenda';
import { type Db, type Document, type Filter, ObjectId } from 'mongodb';
import type { Clock } from '../clock.ts';
import { CampaignSchedulerError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { type AlarmDocument, campaignIdOf, isAlarmName } from './alarm.ts';
import type { AlarmCollection } from './alarm-collection.ts';
import { dateOrNull, jobParametersOf, lockOf, msUntilDue, runFields } from './alarm-document.ts';
import { HeldLocks } from './held-locks.ts';
import {
  dueAlarms,
  expiredLocks,
  type LockQuery,
  lockChange,
  lockChangeOfMany,
  lockTokenOf,
  stillDue,
} from './lock-queries.ts';

export interface AlarmRepositoryOptions {
  db: Db;
  alarms: AlarmCollection;
  clock: Clock;
  logger: Logger;
  processEveryMs: number;
  lockLifetimeMs: number;
  /** Alarms of one name that this process may hold at a time. */
  limitPerName: number;
}

/** Where many are due, so many are locked together. */
const MOST_TOGETHER = 100;

/** Locked together with others, not yet asked for. */
interface LockedAhead {
  readonly job: JobParameters;
  readonly jobId: string;
  readonly token: string;
  readonly began: number;
}

interface RunWrite {
  own: { _id: ObjectId; lockToken: string };
  unwoken: Filter<AlarmDocument>;
  fields: Document;
  nextRunAt: Date | null;
}

export class AlarmRepository extends MongoJobRepository {
  readonly locks: HeldLocks;
  readonly #options: AlarmRepositoryOptions;
  readonly #alarms: AlarmCollection['collection'];
  readonly #askingSince = new Map<string, number>();
  readonly #lookedForExpiredAt = new Map<string, number>();
  readonly #ahead = new Map<string, LockedAhead[]>();
  /** Names of which the last look found one that was due: there may be more. */
  readonly #crowded = new Set<string>();
  #open = true;
  /** When a look for alarms was answered last, monotonic. */
  lookedAt: number | undefined;

  constructor(options: AlarmRepositoryOptions) {
    const { collectionName } = options.alarms.collection;
    super({ mongo: options.db, db: { collection: collectionName }, ensureIndex: false });
    // What a run writes need not survive a failover: lost, it only makes the alarm ring again. Three times the rate.
    this.#alarms = options.db.collection(collectionName, {
      writeConcern: { w: 1 },
      readPreference: 'primary',
      readConcern: { level: 'local' }, // what was just locked is not yet a majority's
    });
    this.collection = this.#alarms as unknown as MongoJobRepository['collection'];
    this.#options = options;
    this.locks = new HeldLocks(options.clock, options.lockLifetimeMs);
  }

  /** The collection is given and its indexes are made elsewhere: there is nothing to connect. */
  override async connect(): Promise<void> {}

  /** From now on nothing new is locked; a lock that is just arriving is given back. */
  closeGate(): void {
    this.#open = false;
    for (const [name, ahead] of this.#ahead) {
      this.#ahead.delete(name);
      for (const { jobId, token } of ahead) void this.#giveBack(jobId, token);
    }
  }

  override async getNextJobToRun(
    name: string,
    _nextScanAt: Date,
    _lockDeadline: Date,
    _now: Date | undefined,
    options: JobRepositoryOptions | undefined,
  ): Promise<JobParameters | undefined> {
    const { clock, lockLifetimeMs, limitPerName } = this.#options;
    const ahead = this.#open ? this.#nextAhead(name) : undefined;
    if (ahead !== undefined) return ahead;
    if (!this.#open || this.locks.count(name) >= limitPerName) return undefined;
    const began = clock.monotonic();
    const askingSince = this.#askingSince.get(name);
    // One request at a time, but one on a dead connection must not block the name for ever.
    if (askingSince !== undefined && began - askingSince < lockLifetimeMs / 2) return undefined;
    this.#askingSince.set(name, began);
    try {
      const found = await this.locks.during(() => this.#lockNext(name, began, options?.lastModifiedBy));
      this.lookedAt = clock.monotonic();
      return found;
    } finally {
      if (this.#askingSince.get(name) === began) this.#askingSince.delete(name);
    }
  }

  /** A crashed run comes first: after due work it would wait for ever where work is always due. */
  async #lockNext(
    name: string,
    began: number,
    workerId: string | undefined,
  ): Promise<JobParameters | undefined> {
    const { clock, lockLifetimeMs, processEveryMs } = this.#options;
    // Agenda judges by this machine's wall clock whether a lock in memory has expired: it gets the time before asking.
    const askedAt = new Date();
    const token = randomUUID();
    const expired = this.#isTimeForExpired(name, began)
      ? await this.#lockOne(expiredLocks(name, lockLifetimeMs), token, workerId)
      : null;
    // Where many are due a round trip for each would be what they wait for.
    if (!expired && this.#crowded.has(name)) {
      const found = await this.#lockMany(name, began, workerId);
      const next = this.#nextAhead(name);
      if (next !== undefined || found === 0) return next;
    }
    const alarm = expired ?? (await this.#lockOne(dueAlarms(name, processEveryMs), token, workerId));
    if (!alarm) {
      this.#crowded.delete(name);
      return undefined;
    }
    if (!expired) this.#crowded.add(name);
    const jobId = alarm._id.toHexString();
    this.locks.take({ jobId, name, token }, began);
    if (!this.#open || clock.monotonic() - began > lockLifetimeMs / 2) {
      await this.#giveBack(jobId, token);
      return undefined;
    }
    // A crashed run starts now, whatever date a wake-up has left: Agenda would put it back as too far away.
    const dueInMs = expired ? 0 : msUntilDue(alarm);
    // The server's "in so many ms" on this machine's clock, counted from the answer: never early.
    return jobParametersOf(alarm, { lockedAt: askedAt, nextRunAt: new Date(Date.now() + dueInMs) });
  }

  /**
   * Locks what is due, as many as may be held. Filter: due and not locked, as for a single one; what another worker was
   * first to lock is left to it. Returns how many were found due, locked or not, and 0 where the answer came too late to
   * be trusted: then they are given back. A lost answer leaves locks that expire.
   */
  async #lockMany(name: string, began: number, workerId: string | undefined): Promise<number> {
    const { clock, lockLifetimeMs, processEveryMs, limitPerName } = this.#options;
    const limit = Math.min(MOST_TOGETHER, limitPerName - this.locks.count(name));
    if (limit <= 0) return 0; // for MongoDB 0 is no limit
    const { filter, sort } = dueAlarms(name, processEveryMs);
    const due = await this.#alarms
      .find(filter, { projection: { _id: 1 } })
      .sort(sort)
      .limit(limit)
      .toArray();
    if (due.length === 0) {
      this.#crowded.delete(name);
      return 0;
    }
    const ids = due.map(({ _id }) => _id);
    const askedAt = new Date();
    const word = `${randomUUID()}:`;
    await this.#alarms.updateMany(stillDue(name, processEveryMs, ids), lockChangeOfMany(word, workerId), {
      hint: { _id: 1 },
    });
    const locked = await this.#alarms
      .find({ _id: { $in: ids }, lockToken: { $in: ids.map((id) => lockTokenOf(word, id)) } })
      .sort(sort)
      .toArray();
    const answeredAt = Date.now();
    const inTime = this.#open && clock.monotonic() - began <= lockLifetimeMs / 2;
    const ahead = locked.map((alarm): LockedAhead => {
      const jobId = alarm._id.toHexString();
      const lockedUntilDue = { lockedAt: askedAt, nextRunAt: new Date(answeredAt + msUntilDue(alarm)) };
      return { job: jobParametersOf(alarm, lockedUntilDue), jobId, token: alarm.lockToken ?? '', began };
    });
    for (const { jobId, token } of ahead) this.locks.take({ jobId, name, token }, began);
    if (!inTime) {
      await Promise.all(ahead.map(({ jobId, token }) => this.#giveBack(jobId, token)));
      return 0;
    }
    this.#ahead.set(name, [...(this.#ahead.get(name) ?? []), ...ahead]);
    return due.length;
  }

  /** The next that was locked together with others; one that has lain here for too long is given back. */
  #nextAhead(name: string): JobParameters | undefined {
    const { clock, lockLifetimeMs } = this.#options;
    const ahead = this.#ahead.get(name) ?? [];
    for (let next = ahead.shift(); next !== undefined; next = ahead.shift()) {
      if (clock.monotonic() - next.began <= lockLifetimeMs / 4) return next.job;
      void this.#giveBack(next.jobId, next.token);
    }
    this.#ahead.delete(name);
    return undefined;
  }

  #isTimeForExpired(name: string, now: number): boolean {
    const last = this.#lookedForExpiredAt.get(name);
    if (last !== undefined && now - last < this.#options.lockLifetimeMs / 4) return false;
    this.#lookedForExpiredAt.set(name, now);
    return true;
  }

  #lockOne(query: LockQuery, token: string, workerId: string | undefined): Promise<AlarmDocument | null> {
    const { filter, sort } = query;
    return this.#alarms.findOneAndUpdate(filter, lockChange(token, workerId), {
      sort,
      returnDocument: 'after',
    });
  }

  /**
   * The start and the end of a run (a heartbeat would look like a start). Filter: id and token, at first with `wakeRev`
   * as read at the lock. When that matches nothing, the alarm was woken meanwhile: the date then stays, or the earlier
   * of both counts. When the token matches nothing either, the alarm is another's: `lock_lost`.
   */
  override async saveJobState(job: JobParameters, options: JobRepositoryOptions | undefined): Promise<void> {
    const lock = lockOf(job);
    if (!lock) throw new CampaignSchedulerError('lock_lost', `The job ${job.name} carries no lock`);
    const own = { _id: new ObjectId(lock.jobId), lockToken: lock.token };
    const write: RunWrite = {
      own,
      unwoken: { ...own, wakeRev: lock.wakeRev },
      fields: runFields(job, options?.lastModifiedBy),
      nextRunAt: dateOrNull(job.nextRunAt),
    };
    if (job.lockedAt) {
      this.locks.renew(lock.token);
      try {
        await this.#saveStart(write);
        if (this.#open) return;
        await this.#giveBack(lock.jobId, lock.token); // the gate closed while this was written: too late to begin
        throw new CampaignSchedulerError('stopped', `The alarm ${lock.jobId} came after the stop`);
      } catch (error) {
        this.locks.drop(lock.token); // Agenda does not run it; the lock, if it stands, expires
        throw error;
      }
    }
    try {
      await this.#saveEnd(write);
    } catch (error) {
      // Agenda passes over this error: the work is done, the alarm rings again when the lock has expired.
      this.#options.logger.warn({ jobId: lock.jobId, name: job.name, error }, 'end of an alarm not recorded');
      throw error;
    } finally {
      this.locks.drop(lock.token);
    }
  }

  async #saveStart({ own, unwoken, fields, nextRunAt }: RunWrite): Promise<void> {
    const running = { ...fields, lockedAt: '$$NOW' };
    if (await this.#set(unwoken, { ...running, nextRunAt })) return;
    if (await this.#set(own, running)) return;
    throw lockLost(own._id);
  }

  async #saveEnd({ own, unwoken, fields, nextRunAt }: RunWrite): Promise<void> {
    const ended = { ...fields, lockedAt: null, lockToken: null };
    if (nextRunAt === null) {
      if ((await this.#alarms.deleteOne(unwoken)).deletedCount === 1) return;
    } else if (await this.#set(unwoken, { ...ended, nextRunAt })) return;
    const earlier = { $min: ['$nextRunAt', nextRunAt] }; // passes over null
    if (await this.#set(own, { ...ended, nextRunAt: { $ifNull: [earlier, '$$NOW'] } })) return;
    throw lockLost(own._id);
  }

  async #set(filter: Filter<AlarmDocument>, fields: Document): Promise<boolean> {
    return (await this.#alarms.updateOne(filter, [{ $set: fields }])).matchedCount === 1;
  }

  /** Filter: id and token. A crashed run that never began again here has no date of its own: it gets one. */
  async #giveBack(jobId: string, token: string): Promise<void> {
    const free = { lockedAt: null, lockToken: null, nextRunAt: { $ifNull: ['$nextRunAt', '$$NOW'] } };
    try {
      await this.locks.during(() => this.#set({ _id: new ObjectId(jobId), lockToken: token }, free));
    } catch (error) {
      this.#options.logger.warn({ jobId, error }, 'alarm not given back; it moves when its lock expires');
    } finally {
      this.locks.drop(token);
    }
  }

  /** Never throws: Agenda does not wait for it. */
  override async unlockJob(job: JobParameters): Promise<void> {
    const lock = lockOf(job);
    if (lock) await this.#giveBack(lock.jobId, lock.token);
  }

  /** Gives back what this process holds; an id that is held by another worker is left alone. Never throws. */
  override async unlockJobs(jobIds: (JobId | string)[]): Promise<void> {
    const held = jobIds.flatMap((jobId) => this.locks.ofJob(jobId.toString()));
    await Promise.all(held.map((lock) => this.#giveBack(lock.jobId, lock.token)));
  }

  /** `agenda.now` and `agenda.schedule` end here: they become a wake-up, everything else is refused. */
  override async saveJob<DATA = unknown>(job: JobParameters<DATA>): Promise<JobParameters<DATA>> {
    const campaignId = campaignIdOf(job.data);
    const repeats = job.type !== 'normal' || job.repeatInterval || job.repeatAt;
    if (job._id || repeats || campaignId === undefined || !isAlarmName(job.name)) {
      throw refused(`save the job ${job.name}: only a new one-off alarm with data.campaignId`);
    }
    await this.#options.alarms.wake(job.name, campaignId, job.nextRunAt ?? new Date());
    return job;
  }

  override async removeJobs(options: RemoveJobsOptions): Promise<number> {
    if (!options.id && !options.ids?.length) throw refused('remove jobs without their ids');
    return super.removeJobs(options);
  }

  override async purgeAllJobs(): Promise<number> {
    throw refused('purge all jobs');
  }

  override async lockJob(): Promise<JobParameters | undefined> {
    throw refused('lock a job without a token');
  }

  override async getQueueSize(): Promise<number> {
    return this.#alarms.estimatedDocumentCount();
  }
}

function lockLost(jobId: ObjectId): CampaignSchedulerError {
  const message = `The alarm ${jobId.toHexString()} was taken by another worker`;
  return new CampaignSchedulerError('lock_lost', message);
}

function refused(what: string): CampaignSchedulerError {
  return new CampaignSchedulerError('refused', `Refused to ${what}. Use wake()`);
}
