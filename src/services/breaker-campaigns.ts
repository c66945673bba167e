/**
 * Makes the campaigns of a messenger match its breaker, and tells of it. Invariant: only what is in progress is paused, and
 * only what the breaker has paused goes on; each of both is repeatable and may be done by anybody at any time.
 */

import { BREAKER_OPEN } from '../core/campaign-machine.ts';
import type { EventBus } from '../events.ts';
import { inParallel } from '../in-parallel.ts';
import type { Logger } from '../logger.ts';
import { type HeldCampaign, pauseForBreaker, resumeForBreaker } from '../store/campaign-transitions.ts';
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

export async function pauseCampaigns(
  options: BreakerCampaignsOptions,
  messenger: string,
  detail: string,
): Promise<void> {
  const found = await pauseForBreaker(options.store, messenger, detail);
  if (found.length === 0) return;
  options.nudge();
  const reason = { code: BREAKER_OPEN, detail, by: 'breaker' };
  await tell(options, found, 'paused', { messenger, reason: detail, by: 'breaker' }, (campaign) =>
    options.events.emit('campaign:paused', { campaign, reason }),
  );
  options.logger.warn(
    { messenger, campaigns: found.length },
    'campaigns paused: their messenger does not work',
  );
}

export async function resumeCampaigns(options: BreakerCampaignsOptions, messenger: string): Promise<void> {
  const found = await resumeForBreaker(options.store, messenger);
  if (found.length === 0) return;
  options.nudge();
  const recurring = found.filter(({ schedule }) => schedule.recurrence !== undefined);
  await inParallel(recurring, TELLING_AT_ONCE, (campaign) => options.wake(campaign));
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
  { journal }: BreakerCampaignsOptions,
  found: readonly HeldCampaign[],
  kind: 'paused' | 'resumed',
  detail: Record<string, unknown>,
  emit: (about: { id: string; name: string }, campaign: HeldCampaign) => void,
): Promise<void> {
  await inParallel(found, TELLING_AT_ONCE, async (campaign) => {
    const id = campaign._id.toHexString();
    const entry = { campaignId: campaign._id, kind, detail };
    if (await journal.writeOnce(`${id}:breaker-${kind}:${campaign.rev}`, entry)) {
      emit({ id, name: campaign.name }, campaign);
    }
  });
}
