/**
 * What a worker tells of runs: deliveries, pages put aside, runs and campaigns whose audience could not be frozen.
 * Invariant: what is told is durable before; a loss of the audience is written under the guards of the store first, then
 * comes the log, the journal and the event.
 */
import { DEATHS_TO_PARK, parkedNews, quarantinedNews } from './core/crash-loop.ts';
import { aboutRun, type DeliveryEvent, type EventBus } from './events.ts';
import type { Logger } from './logger.ts';
import type { Alerter } from './services/alerter.ts';
import { failCampaign } from './store/campaign-transitions.ts';
import { readCampaign } from './store/campaigns.ts';
import type { RunDoc } from './store/documents.ts';
import type { Journal } from './store/journal.ts';
import { failRun } from './store/runs.ts';
import type { Store } from './store/store.ts';

export interface RunNewsOptions {
  readonly store: Store;
  readonly serverNow: () => Date;
  readonly journal: Journal;
  readonly events: EventBus;
  readonly logger: Logger;
}

export interface AlarmingNewsOptions extends RunNewsOptions {
  readonly alerter: Pick<Alerter, 'raise'>;
}

const DELIVERY_EVENTS = [
  'delivery:sent',
  'delivery:failed',
  'delivery:skipped',
  'delivery:unknown',
  'delivery:retrying',
] as const;

export function wantsDeliveries(events: EventBus): boolean {
  return DELIVERY_EVENTS.some((name) => events.has(name));
}

export function tellDeliveries(events: EventBus, run: RunDoc, deliveries: readonly DeliveryEvent[]): void {
  for (const delivery of deliveries) {
    events.emit(`delivery:${delivery.state}`, { ...aboutRun(run), delivery });
  }
}

/** Ends the campaign, or of a recurring one this run only, after its last attempt to freeze the audience. */
export async function freezingFailed(options: RunNewsOptions, run: RunDoc, detail: string): Promise<void> {
  const { store, serverNow, journal, events, logger } = options;
  const reason = { code: 'freezing_failed', detail, at: serverNow(), by: 'scheduler' };
  const campaign = await readCampaign(store, run.campaignId);
  if (campaign === null) return;
  const { recurrence } = campaign.schedule;
  // A recurring campaign gives up this run only; whether it then pauses is decided when the run is taken out.
  const failed =
    recurrence === undefined
      ? await failCampaign(store, campaign, reason)
      : await failRun(store, run._id, detail);
  if (!failed) return;
  if (recurrence !== undefined) {
    logger.error({ campaign: run.name, occurrence: run.occurrence, detail }, 'run failed: no audience');
    return; // told when the run is taken out of its campaign
  }
  const about = { campaignId: run.campaignId, runId: run._id };
  logger.error({ campaign: run.name, detail }, 'campaign failed: its audience could not be frozen');
  await journal.write({ ...about, kind: 'failed', detail: { reason: detail } });
  events.emit('campaign:failed', { ...aboutRun(run), reason });
}

/** Recipients that stop their workers were put aside. */
export async function tellQuarantined(
  options: AlarmingNewsOptions,
  run: RunDoc,
  deliveries: readonly DeliveryEvent[],
): Promise<void> {
  const { journal, events, logger, alerter } = options;
  const about = { runId: run._id, campaignId: run.campaignId.toHexString(), name: run.name };
  for (const delivery of deliveries) {
    const { recipientId, reason } = delivery;
    logger.error({ campaign: run.name, recipient: recipientId, reason }, 'a recipient was put aside');
    events.emit('delivery:quarantined', { ...aboutRun(run), delivery });
    await journal.write({
      campaignId: run.campaignId,
      runId: run._id,
      kind: 'recipient-quarantined',
      detail: { recipientId, reason },
    });
    await alerter.raise(quarantinedNews(about));
  }
}

/** A page was put aside. */
export async function tellParked(options: AlarmingNewsOptions, run: RunDoc, page: number): Promise<void> {
  const { journal, events, logger, alerter } = options;
  logger.error({ campaign: run.name, page }, 'a page was put aside: its holders died three times in a row');
  events.emit('page:parked', { ...aboutRun(run), page, deaths: DEATHS_TO_PARK });
  await journal.write({
    campaignId: run.campaignId,
    runId: run._id,
    kind: 'page-parked',
    detail: { page },
  });
  const about = { runId: run._id, campaignId: run.campaignId.toHexString(), name: run.name };
  await alerter.raise(parkedNews(about, page));
}
