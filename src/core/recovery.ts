/**
 * What recovery does about one campaign. Pure: the campaign, its alarm and who lives are given; the caller applies the
 * decision by guarded writes. Doing it twice, or while a worker is at it, is harmless by design.
 */
import type { CampaignStatus } from './campaign-machine.ts';

export interface RecoverableCampaign {
  readonly status: CampaignStatus;
  readonly nextRunAt: Date | null;
  readonly openRunIds: readonly string[];
  readonly isRecurring: boolean;
}

export interface AlarmView {
  readonly nextRunAt: Date | null;
  readonly lockedAt: Date | null;
  readonly lastModifiedBy: string | null;
}

export interface Holders {
  /** Ids of the workers that are alive. */
  readonly workers: ReadonlySet<string>;
  /** Runs a page of which is held by a live worker. */
  readonly runs: ReadonlySet<string>;
}

export type RecoveryDecision =
  | { readonly action: 'skip'; readonly reason: string }
  | { readonly action: 'resume' }
  | { readonly action: 'start'; readonly lateMs: number }
  | { readonly action: 'reschedule'; readonly at: Date }
  /** Recurring: the alarm rings at the next occurrence, or now for those that are due, and its rule decides about them. */
  | { readonly action: 'next-occurrence'; readonly at: Date };

/** Will this alarm do its work without help? */
export function isHealthy(alarm: AlarmView | undefined, holders: Holders): boolean {
  if (alarm === undefined) return false;
  if (alarm.lockedAt !== null)
    return alarm.lastModifiedBy !== null && holders.workers.has(alarm.lastModifiedBy);
  return alarm.nextRunAt !== null;
}

export function decideRecovery(
  campaign: RecoverableCampaign,
  alarm: AlarmView | undefined,
  holders: Holders,
  now: Date,
): RecoveryDecision {
  const healthy = isHealthy(alarm, holders);
  switch (campaign.status) {
    case 'scheduled': {
      if (campaign.isRecurring) return decideRecurring(campaign.nextRunAt, alarm, healthy, now);
      const at = campaign.nextRunAt;
      if (at === null) return { action: 'skip', reason: 'it has no time to start at' };
      const lateMs = now.getTime() - at.getTime();
      if (lateMs < 0) {
        if (healthy && ringsInTime(alarm, at))
          return { action: 'skip', reason: 'its alarm will ring in time' };
        return { action: 'reschedule', at };
      }
      if (healthy && alarm?.lockedAt !== null)
        return { action: 'skip', reason: 'a live worker is starting it' };
      if (healthy && ringsInTime(alarm, now)) return { action: 'skip', reason: 'its alarm is ringing' };
      return { action: 'start', lateMs };
    }
    case 'processing': {
      const held = campaign.openRunIds.some((runId) => holders.runs.has(runId));
      if (healthy && held) return { action: 'skip', reason: 'a live worker is sending it' };
      return { action: 'resume' };
    }
    default:
      return { action: 'skip', reason: `it is ${campaign.status}` };
  }
}

/** A rule without a next time has ended: its alarm rings once more, to complete the campaign. */
function decideRecurring(
  nextRunAt: Date | null,
  alarm: AlarmView | undefined,
  healthy: boolean,
  now: Date,
): RecoveryDecision {
  const at = nextRunAt === null || nextRunAt < now ? now : nextRunAt;
  if (healthy && ringsInTime(alarm, at))
    return { action: 'skip', reason: 'its alarm rings for the next occurrence' };
  return { action: 'next-occurrence', at };
}

/** An alarm that rings later than it should is no help. */
function ringsInTime(alarm: AlarmView | undefined, at: Date): boolean {
  const rings = alarm?.nextRunAt ?? undefined;
  return alarm?.lockedAt != null || (rings !== undefined && rings.getTime() <= at.getTime());
}
