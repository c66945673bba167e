/**
 * Between an alarm's document and the job that Agenda holds in memory. Only the fields named here cross over: a
 * document of another origin cannot make Agenda repeat, fork or delay a job.
 */
import { type JobParameters, toJobId } from 'agenda';
import type { Document } from 'mongodb';
import type { AlarmDocument } from './alarm.ts';

const MAX_REASON_LENGTH = 256;

/** Agenda keeps fields it does not know in `attrs` and hands them back at every save. */
type HeldJob = JobParameters & { lockToken?: string; wakeRev?: number | null };

/** `lockedAt` and `nextRunAt` on this machine's wall clock, by which Agenda judges and sets its timers. */
export function jobParametersOf(
  alarm: AlarmDocument,
  local: { lockedAt: Date; nextRunAt: Date },
): JobParameters {
  const job: HeldJob = {
    _id: toJobId(alarm._id.toHexString()),
    name: alarm.name,
    type: 'normal',
    priority: alarm.priority ?? 0,
    data: alarm.data,
    nextRunAt: local.nextRunAt,
    lockedAt: local.lockedAt,
    wakeRev: alarm.wakeRev ?? null,
  };
  if (alarm.lockToken) job.lockToken = alarm.lockToken;
  if (alarm.failCount) job.failCount = alarm.failCount;
  return job;
}

/** Just locked: `lockedAt` is the server's present time, so this needs no clock of ours. */
export function msUntilDue(alarm: AlarmDocument): number {
  if (!alarm.nextRunAt || !alarm.lockedAt) return 0;
  return Math.max(0, alarm.nextRunAt.getTime() - alarm.lockedAt.getTime());
}

/** What fences the writes of a run; undefined for a job that was not locked by us. */
export function lockOf(job: HeldJob): { jobId: string; token: string; wakeRev: number | null } | undefined {
  if (!job._id || !job.lockToken) return undefined;
  return { jobId: job._id.toString(), token: job.lockToken, wakeRev: job.wakeRev ?? null };
}

/** The part of a run's state that is kept for people to read. Strings are literal: a leading `$` is no field. */
export function runFields(job: JobParameters, workerId: string | undefined): Document {
  return {
    lastRunAt: dateOrNull(job.lastRunAt),
    lastFinishedAt: dateOrNull(job.lastFinishedAt),
    failedAt: dateOrNull(job.failedAt),
    failCount: job.failCount ?? null,
    failReason: { $literal: job.failReason?.slice(0, MAX_REASON_LENGTH) ?? null },
    progress: { $literal: job.progress ?? null },
    lastModifiedBy: { $literal: workerId ?? null },
  };
}

export function dateOrNull(date: Date | null | undefined): Date | null {
  return date ? new Date(date) : null;
}
