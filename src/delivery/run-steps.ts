/**
 * The steps of an open run that are single guarded writes: insert it, copy an order down, end it. Each may be taken by any
 * worker and repeated after a crash; `true` means that something changed and the run should be looked at again.
 */
import { orderSends } from '../core/orders.ts';
import { decideEnd } from '../core/run-step.ts';
import type { EventBus } from '../events.ts';
import type { Logger } from '../logger.ts';
import { closeRunOnCampaign, type OpenCampaign, readCampaign } from '../store/campaigns.ts';
import type { OpenRunRef, RunDoc, RunReport } from '../store/documents.ts';
import type { Journal } from '../store/journal.ts';
import { skipOrder } from '../store/ledger-pages.ts';
import { copyOrder, insertRun, newRun } from '../store/runs.ts';
import type { Store } from '../store/store.ts';
import { closeRun, ordersBehind, recountReport } from './closing.ts';
import { mergeAllUnheld } from './late-truths.ts';

export interface RunStepsOptions {
  readonly store: Store;
  readonly serverNow: () => Date;
  readonly journal: Journal;
  readonly events: EventBus;
  readonly logger: Logger;
  /** The campaign has no open run any more: its alarm can go. */
  readonly onClosed: (campaignId: string) => Promise<void>;
}

/** The campaign names a run that does not exist: whoever opened it died before inserting it. */
export async function insertMissingRun(
  options: RunStepsOptions,
  campaign: OpenCampaign,
  ref: OpenRunRef,
): Promise<void> {
  const whole = await readCampaign(options.store, campaign._id);
  if (whole?.openRuns.some((open) => open.runId === ref.runId) !== true) return;
  await insertRun(options.store, newRun(whole, ref, options.serverNow()));
}

/** Copies the campaign's last order to its run and gives its number to the pages that it does not name. */
export async function copyOrderDown(
  options: RunStepsOptions,
  campaign: Pick<OpenCampaign, 'order'>,
): Promise<void> {
  const { order } = campaign;
  if (order === undefined) return;
  const run = await copyOrder(options.store, order, orderSends(order));
  // Only speed: pages that are still behind are claimed one by one and skip the order themselves.
  if (run !== null && order.targets !== 'all') {
    await skipOrder(
      options.store,
      run._id,
      order.n,
      order.targets.map((target) => target.n),
    );
  }
}

export type EndAnswer = 'ended' | 'orders-behind' | 'not-yet';

/** Closes the books of a run without unfinished pages, and takes it out of its campaign. */
export async function endRun(
  options: RunStepsOptions,
  campaign: OpenCampaign,
  run: RunDoc,
): Promise<EndAnswer> {
  const { store, serverNow } = options;
  const decision = decideEnd(campaign.status, run.status);
  if (decision === 'wait') return 'not-yet';
  let report: RunReport | undefined;
  if (decision === 'close') {
    const answer = await closeRun(store, run, campaign.status === 'cancelled', serverNow());
    if (!answer.closed) {
      // Whoever brought these truths died before merging them.
      if (answer.because === 'late-truths') await mergeAllUnheld(store, run._id);
      return answer.because === 'orders-behind' ? 'orders-behind' : 'not-yet';
    }
    report = answer.report;
  } else {
    if (await ordersBehind(store, run)) return 'orders-behind';
    report = await recountReport(store, run._id);
  }
  const closed = await closeRunOnCampaign(
    store,
    campaign,
    { runId: run._id, orderNo: run.orderNo },
    serverNow(),
  );
  if (!closed) return 'not-yet';
  const campaignId = campaign._id.toHexString();
  await options.onClosed(campaignId);
  await announceEnd(options, campaign, run, report);
  return 'ended';
}

async function announceEnd(
  { journal, events, logger }: RunStepsOptions,
  campaign: OpenCampaign,
  run: RunDoc,
  report: RunReport | undefined,
): Promise<void> {
  const campaignId = campaign._id.toHexString();
  const books =
    report === undefined
      ? {}
      : {
          sent: report.sent,
          failed: report.failed,
          skipped: report.skipped,
          unknown: report.unknown,
          total: report.total,
        };
  await journal.write({
    campaignId,
    runId: run._id,
    kind: 'run-closed',
    detail: { status: campaign.status, ...books },
  });
  if (campaign.status !== 'processing' || report === undefined) return;
  logger.info({ campaign: run.name, ...books }, 'campaign completed');
  events.emit('campaign:completed', {
    campaign: { id: campaignId, name: run.name },
    run: { id: run._id, occurrence: run.occurrence },
    report,
  });
}
