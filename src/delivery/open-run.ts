/** Opening a run: the campaign first, then the run; any worker repeats the second step. */
import { aboutRun, type EventBus } from '../events.ts';
import type { Logger } from '../logger.ts';
import { openBulkRun } from '../store/campaign-transitions.ts';
import { type CampaignDoc, type OpenRunRef, type RunDoc, runIdOf } from '../store/documents.ts';
import type { Journal } from '../store/journal.ts';
import { insertRun, newRun } from '../store/runs.ts';
import type { Store } from '../store/store.ts';
import { adoptList } from './adopt-audience.ts';

/** The occurrence of a campaign that runs once. */
export const ONCE = 'once';

export interface OpenRunOptions {
  readonly store: Store;
  readonly serverNow: () => Date;
  readonly journal: Journal;
  readonly events: EventBus;
  readonly logger: Logger;
}

/** Does nothing where somebody opened, paused or cancelled it meanwhile. */
export async function openRun(options: OpenRunOptions, campaign: CampaignDoc): Promise<void> {
  const { store, serverNow } = options;
  const ref = { runId: runIdOf(campaign._id, ONCE), occurrence: ONCE };
  if (await openBulkRun(store, campaign, ref, serverNow())) await insertOpenRun(options, campaign, ref);
}

/**
 * Inserts a run that its campaign names as open, and tells of it. Any worker repeats this: whoever wrote the campaign may
 * have died right after. The journal comes first, under a key of its own: were it written after the run, a worker that
 * died between the two would leave a run that the journal never heard of, and nobody would look again. The event is fired
 * by the process whose insert it was.
 */
export async function insertOpenRun(
  { store, serverNow, journal, events, logger }: OpenRunOptions,
  campaign: CampaignDoc,
  ref: OpenRunRef,
): Promise<void> {
  const run = newRun(campaign, ref, serverNow());
  const { _id: id, occurrence } = run;
  const recurs = campaign.schedule.recurrence !== undefined;
  const late = run.lateMs === undefined ? {} : { lateMs: run.lateMs };
  const detail = {
    ...(recurs ? { occurrence } : {}),
    ...late,
    ...(run.missed === undefined ? {} : { missed: run.missed }),
  };
  await journal.writeOnce(`${id}:opened`, {
    campaignId: campaign._id,
    runId: id,
    kind: 'run-opened',
    ...(Object.keys(detail).length === 0 ? {} : { detail }),
  });
  if (!(await insertRun(store, run))) return;
  const about = aboutRun(run);
  const what = `${recurs ? 'run' : 'campaign'} started${run.lateMs === undefined ? '' : ' late'}`;
  logger.info({ campaign: campaign.name, id: about.campaign.id, ...detail }, what);
  events.emit('campaign:started', { ...about, ...late });
  await prepare({ store, logger }, campaign, run);
}

/** A list of so many pages takes a moment; a larger one waits for whoever looks next at open runs. */
const PAGES_AT_ONCE = 100;

/** The run gets its audience at once, where that is a list. Whoever looks at open runs makes up for what fails here. */
async function prepare(
  { store, logger }: Pick<OpenRunOptions, 'store' | 'logger'>,
  { openRuns, name }: CampaignDoc,
  run: RunDoc,
): Promise<void> {
  if (openRuns.length > 0 && openRuns[0]?.runId !== run._id) return; // its turn comes later
  try {
    await adoptList(store, run, PAGES_AT_ONCE);
  } catch (error) {
    logger.warn({ error, campaign: name }, 'a run could not be given its audience yet; trying again');
  }
}
