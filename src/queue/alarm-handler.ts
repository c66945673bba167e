/**
 * What Agenda calls when an alarm rings. The handler gets an id, never the job; what it returns is the alarm's future:
 * a date to ring again, or null when nothing is left (the alarm is then deleted, unless it was woken meanwhile).
 *
 * Invariant: every way out leaves either an alarm that will ring or a deliberate null. A failed handler rings again in
 * 30 s; a job that names no campaign is logged and deleted, since nobody could ever handle it.
 */
import type { Job } from 'agenda';
import type { Logger } from '../logger.ts';
import { type AlarmName, campaignIdOf, isValidDate } from './alarm.ts';

export const RETRY_AFTER_ERROR_MS = 30_000;

/** Looks at the campaign, does what is due, and says when to ring again. Rings early or twice at times. */
export type AlarmHandler = (campaignId: string) => Promise<Date | null>;

export interface RingOptions {
  name: AlarmName;
  handler: AlarmHandler;
  serverNow: () => Date;
  logger: Logger;
}

/** One parameter, on purpose: to a function of two, Agenda passes a callback and waits for it. */
export function ringing(options: RingOptions): (job: Job) => Promise<void> {
  const { name, handler, serverNow, logger } = options;
  return async (job) => {
    const campaignId = campaignIdOf(job.attrs.data);
    if (campaignId === undefined) {
      job.attrs.nextRunAt = null;
      logger.error({ name, jobId: job.attrs._id }, 'job without a valid data.campaignId: it is deleted');
      return;
    }
    // Should even the correction of the clock fail, the alarm still has a date.
    job.attrs.nextRunAt = new Date(Date.now() + RETRY_AFTER_ERROR_MS);
    try {
      job.attrs.nextRunAt = checked(await handler(campaignId));
    } catch (cause) {
      const error = cause instanceof Error ? cause : new Error(String(cause));
      logger.error({ name, campaignId, error }, 'alarm failed; it rings again in 30 s');
      job.attrs.nextRunAt = new Date(serverNow().getTime() + RETRY_AFTER_ERROR_MS);
      throw error; // Agenda notes the reason in the job
    }
  };
}

function checked(next: unknown): Date | null {
  if (next === null || isValidDate(next)) return next;
  throw new TypeError(`Expected an alarm's handler to return a valid Date or null, got ${String(next)}`);
}
