/**
 * What happens when the alarm of a bulk campaign rings: look at the truth, open the run if it is due, and say when to ring
 * again. Short and repeatable; ringing early, twice or late changes nothing.
 */
import { type OpenRunOptions, openRun } from '../delivery/open-run.ts';
import { clearAgendaJobId } from '../store/campaign-heads.ts';
import { isForeign, isNewer, parseId, readCampaign } from '../store/campaigns.ts';

/** A processing campaign rings again after this time, as a safety net. */
export const SAFETY_NET_MS = 60_000;

export interface ProcessBulkCampaignOptions extends OpenRunOptions {
  /** A run was opened, or may need attention. */
  readonly nudge: () => void;
}

/** Returns when to ring again; null: nothing is left, the alarm goes. */
export async function processBulkCampaign(
  options: ProcessBulkCampaignOptions,
  campaignId: string,
): Promise<Date | null> {
  const { store, serverNow, nudge } = options;
  const id = parseId(campaignId);
  const campaign = id === undefined ? null : await readCampaign(store, id);
  if (campaign === null) return null;
  const now = serverNow().getTime();
  // Another program's is made ours by recovery, a newer version's is for workers of that version.
  if (isForeign(campaign) || isNewer(campaign)) return new Date(now + SAFETY_NET_MS);
  if (campaign.schedule.recurrence !== undefined) return null; // the other alarm's
  if (campaign.status === 'scheduled' && campaign.nextRunAt !== null) {
    if (campaign.nextRunAt.getTime() > now) return campaign.nextRunAt;
    await openRun(options, campaign);
    nudge();
    return new Date(now + SAFETY_NET_MS);
  }
  if (campaign.openRuns.length > 0) {
    nudge();
    return new Date(now + SAFETY_NET_MS);
  }
  await clearAgendaJobId(store, campaign);
  return null;
}
