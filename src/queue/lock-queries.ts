/**
 * The queries that find alarms to lock. Each walks one narrow range of the index `jobs_lock`, however many
 * alarms are set for later; one query with `$or` would read every pending date of the name at each poll.
 *
 * Invariant: what is due and what has expired is decided by the server's clock (`$$NOW`), never by this machine's.
 */
import type { Document, Filter, ObjectId, Sort } from 'mongodb';
import type { AlarmDocument } from './alarm.ts';

export interface LockQuery {
  readonly filter: Filter<AlarmDocument>;
  readonly sort: Sort;
}

const EARLIEST_DATE = new Date(-8_640_000_000_000_000);

/** Locked longer than a lifetime ago: its worker died or stalled. Without the lower bound null would match: not locked. */
export function expiredLocks(name: string, lockLifetimeMs: number): LockQuery {
  const deadline = { $subtract: ['$$NOW', lockLifetimeMs] };
  return {
    filter: {
      name,
      disabled: { $ne: true },
      lockedAt: { $gt: new Date(0) },
      $expr: { $lte: ['$lockedAt', deadline] },
    },
    sort: { lockedAt: 1 },
  };
}

/** Those of these alarms that still are what `dueAlarms` finds. */
export function stillDue(
  name: string,
  processEveryMs: number,
  ids: readonly ObjectId[],
): Filter<AlarmDocument> {
  return { ...dueAlarms(name, processEveryMs).filter, _id: { $in: [...ids] } };
}

/** Not locked, due before the next poll. Here too the lower bound keeps null out: an alarm without a date. */
export function dueAlarms(name: string, processEveryMs: number): LockQuery {
  const nextPoll = { $add: ['$$NOW', processEveryMs] };
  return {
    filter: {
      name,
      disabled: { $ne: true },
      lockedAt: null,
      nextRunAt: { $gte: EARLIEST_DATE },
      $expr: { $lte: ['$nextRunAt', nextPoll] },
    },
    sort: { nextRunAt: 1, priority: -1 },
  };
}

export const lockChange = (token: string, workerId: string | undefined): Document[] =>
  lockUnder({ $literal: token }, workerId);

/** Locks many at once, each under a token of its own: this word and its id. */
export const lockChangeOfMany = (word: string, workerId: string | undefined): Document[] =>
  lockUnder({ $concat: [word, { $toString: '$_id' }] }, workerId);

function lockUnder(lockToken: Document, workerId: string | undefined): Document[] {
  return [{ $set: { lockedAt: '$$NOW', lockToken, lastModifiedBy: { $literal: workerId ?? null } } }];
}

export const lockTokenOf = (word: string, id: ObjectId): string => word + id.toHexString();
