/**
 * Makes the campaigns of a messenger match its breaker, and tells of it. Invariant: only what is in progress is paused, and
 * only what the breaker has paused goes on; each of both is repeatable and may be done by anybody at any time.
 */

import type { Breaker } from '../core/breaker.ts';
import { BREAKER_OPEN } from '../core/campaign-machine.ts';
import type { EventBus } from '../events.ts';
import { inParallel } from '../in-parallel.ts';
import type { Logger } from '../logger.ts';
import {
  type HeldCampaign,
  type PauseReason,
  pauseForBreaker,
  resumeForBreaker,
} from '../store/campaign-transitions.ts';
import type { Journal } from '../store/journal.ts';
import type { Store } from '../store/store.ts';

export interface BreakerCampaignsOptions {
  readonly store: Store;
  readonly journal: Journal;
  readonly events: EventBus;
  readonly logger: Logger;
  /** Rings the alarm of a recurring campaign, whose rule stood still. */
  readonly wake: (campaign: HeldCampaign) => Promise<void>;
  /** Runs need attention. */
  readonly nudge: () => void;
}

const TELLING_AT_ONCE = 8;

/** Why campaigns are paused by a breaker that is not closed. */
export function whyPaused(breaker: Exclude<Breaker, { state: 'closed' }>): PauseReason {
  const { detail } = breaker;
  const openedBy = breaker.state === 'open' ? breaker.manual?.by : undefined;
  return openedBy === undefined ? { detail } : { detail, openedBy };
}

export async function pauseCampaigns(
  options: BreakerCampaignsOptions,
  messenger: string,
  because: PauseReason,
): Promise<void> {
  const found = await pauseForBreaker(options.store, messenger, because);
  if (found.length === 0) return;
  options.nudge();
  const { detail } = because;
  const reason = { code: BREAKER_OPEN, detail, by: 'breaker' };
  await tell(options, found, 'paused', { messenger, reason: detail, by: 'breaker' }, (campaign) =>
    options.events.emit('campaign:paused', { campaign, reason }),
  );
  options.logger.warn(
    { messenger, campaigns: found.length },
    because.openedBy === undefined
      ? 'campaigns paused: their messenger does not work'
      : 'campaigns paused: their breaker was opened by hand',
  );
}

export async function resumeCampaigns(options: BreakerCampaignsOptions, messenger: string): Promise<void> {
  const found = await resumeForBreaker(options.store, messenger);
  if (found.length === 0) return;
  options.nudge();
  const recurring = found.filter(({ schedule }) => schedule.recurrence !== undefined);
  await eachAlone(options, recurring, (campaign) => options.wake(campaign));
  await tell(options, found, 'resumed', { messenger, by: 'breaker' }, (campaign, { openRuns }) =>
    options.events.emit('campaign:resumed', {
      campaign,
      status: openRuns.length > 0 ? 'processing' : 'scheduled',
    }),
  );
  options.logger.info({ messenger, campaigns: found.length }, 'campaigns go on: their messenger works');
}

/** Two workers may have found the same ones: the journal takes each once, and who wrote it tells of it. */
async function tell(
  options: BreakerCampaignsOptions,
  found: readonly HeldCampaign[],
  kind: 'paused' | 'resumed',
  detail: Record<string, unknown>,
  emit: (about: { id: string; name: string }, campaign: HeldCampaign) => void,
): Promise<void> {
  await eachAlone(options, found, async (campaign) => {
    const id = campaign._id.toHexString();
    const entry = { campaignId: campaign._id, kind, detail };
    if (await options.journal.writeOnce(`${id}:breaker-${kind}:${campaign.rev}`, entry)) {
      emit({ id, name: campaign.name }, campaign);
    }
  });
}

/** What goes wrong with one must not keep the others from being told: nobody comes back to what is done. */
async function eachAlone(
  { logger }: BreakerCampaignsOptions,
  campaigns: readonly HeldCampaign[],
  work: (campaign: HeldCampaign) => Promise<void>,
): Promise<void> {
  await inParallel(campaigns, TELLING_AT_ONCE, async (campaign) => {
    try {
      await work(campaign);
    } catch (error) {
      logger.warn({ error, campaign: campaign.name }, 'what the breaker did to a campaign could not be told');
    }
  });
}
