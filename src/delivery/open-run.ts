/** Opening the run of a bulk campaign: the campaign first, then the run; any worker repeats the second step. */
import type { EventBus } from '../events.ts';
import type { Logger } from '../logger.ts';
import { openBulkRun } from '../store/campaign-transitions.ts';
import { type CampaignDoc, runIdOf } from '../store/documents.ts';
import type { Journal } from '../store/journal.ts';
import { insertRun, newRun } from '../store/runs.ts';
import type { Store } from '../store/store.ts';

/** The occurrence of a campaign that runs once. */
export const ONCE = 'once';

export interface OpenRunOptions {
  readonly store: Store;
  readonly serverNow: () => Date;
  readonly journal: Journal;
  readonly events: EventBus;
  readonly logger: Logger;
}

/** False: somebody opened, paused or cancelled it meanwhile. */
export async function openRun(options: OpenRunOptions, campaign: CampaignDoc): Promise<boolean> {
  const { store, serverNow, journal, events, logger } = options;
  const now = serverNow();
  const ref = { runId: runIdOf(campaign._id, ONCE), occurrence: ONCE };
  if (!(await openBulkRun(store, campaign, ref, now))) return false;
  const run = newRun(campaign, ref, now);
  await insertRun(store, run);
  const { lateMs } = run;
  const campaignId = campaign._id.toHexString();
  await journal.write({
    campaignId,
    runId: ref.runId,
    kind: 'run-opened',
    ...(lateMs === undefined ? {} : { detail: { lateMs } }),
  });
  logger.info(
    { campaign: campaign.name, id: campaignId, ...(lateMs === undefined ? {} : { lateMs }) },
    lateMs === undefined ? 'campaign started' : 'campaign started late',
  );
  events.emit('campaign:started', {
    campaign: { id: campaignId, name: campaign.name },
    run: { id: ref.runId, occurrence: ONCE },
    ...(lateMs === undefined ? {} : { lateMs }),
  });
  return true;
}
