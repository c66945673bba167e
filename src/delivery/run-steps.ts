/**
 * The steps of an open run that are single guarded writes: insert it, copy an order down, end it. Each may be taken by any
 * worker and repeated after a crash; `true` means that something changed and the run should be looked at again.
 */
import { type CampaignStatus, isHeldByBreaker } from '../core/campaign-machine.ts';
import { orderSends } from '../core/orders.ts';
import { decideEnd, statusAfter } from '../core/run-step.ts';
import { aboutRun } from '../events.ts';
import { closeRunOnCampaign } from '../store/campaign-transitions.ts';
import { type OpenCampaign, readCampaign } from '../store/campaigns.ts';
import type { OpenRunRef, RunDoc, RunReport, StatusReason } from '../store/documents.ts';
import { skipOrder } from '../store/ledger-claims.ts';
import { copyOrder } from '../store/runs.ts';
import { closeRun, ordersBehind, recountReport } from './closing.ts';
import { mergeAllUnheld } from './late-truths.ts';
import { insertOpenRun, type OpenRunOptions } from './open-run.ts';

export interface RunStepsOptions extends OpenRunOptions {
  readonly workerId: string;
  /** The campaign has no open run any more: its alarm can go. */
  readonly onClosed: (campaign: OpenCampaign) => Promise<void>;
}

/** The campaign names a run that does not exist: a person asked for it, or whoever opened it died before inserting it. */
export async function insertMissingRun(
  options: RunStepsOptions,
  campaign: OpenCampaign,
  ref: OpenRunRef,
): Promise<void> {
  const whole = await readCampaign(options.store, campaign._id);
  if (whole?.openRuns.some((open) => open.runId === ref.runId) !== true) return;
  await insertOpenRun(options, whole, ref);
}

/** Copies the campaign's last order to its run and gives its number to the pages that it does not name. */
export async function copyOrderDown(
  options: RunStepsOptions,
  campaign: Pick<OpenCampaign, 'order'>,
  runId: string,
): Promise<void> {
  const { order } = campaign;
  if (order === undefined) return;
  const run = await copyOrder(options.store, order, orderSends(order), runId);
  // Only speed: pages that are still behind are claimed one by one and skip the order themselves.
  if (run !== null && order.targets !== 'all') {
    await skipOrder(
      options.store,
      run._id,
      { n: order.n, after: run.orders.at(-2)?.n ?? 0 },
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
  const heldByBreaker = isHeldByBreaker(campaign);
  const decision = decideEnd(campaign.status, run.status, heldByBreaker);
  if (decision === 'wait') return 'not-yet';
  let report: RunReport | undefined;
  if (decision === 'close') {
    const answer = await closeRun(store, run, campaign.status === 'cancelled', serverNow(), options.workerId);
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
  await tellFailure(options, run);
  const now = serverNow();
  const { status, because } = statusAfter({
    campaignStatus: campaign.status,
    heldByBreaker,
    runStatus: run.status,
    othersOpen: campaign.openRuns.some((open) => open.runId !== run._id),
    isRecurring: campaign.schedule.recurrence !== undefined,
    hasNext: campaign.nextRunAt !== null,
    pauseOnFailure: campaign.pauseOnFailure === true && !wasCompleted(run),
    report,
  });
  const statusReason: StatusReason | undefined =
    because === undefined ? undefined : { code: 'run_failed', detail: because, at: now, by: 'scheduler' };
  const then = { status, ...(statusReason === undefined ? {} : { statusReason }) };
  const closed = await closeRunOnCampaign(
    store,
    campaign,
    { runId: run._id, orderNo: run.orderNo },
    then,
    now,
  );
  if (!closed) return 'not-yet';
  try {
    await options.onClosed(campaign);
  } finally {
    await announceEnd(options, campaign, run, report, then); // nobody comes back to a run that was taken out
  }
  return 'ended';
}

/** Its books were closed before: it is only open because of a person's order, and that makes nothing go out. */
function wasCompleted({ status, orders }: RunDoc): boolean {
  const order = orders.at(-1);
  return status === 'finished' && order !== undefined && !orderSends(order);
}

/** A failed run stays open until the journal has it, so that no crash makes its reason vanish. */
async function tellFailure({ journal, events }: RunStepsOptions, run: RunDoc): Promise<void> {
  const { failure, campaignId } = run;
  if (failure === undefined) return;
  const entry = { campaignId, runId: run._id, kind: 'run-failed', detail: { reason: failure } };
  if (!(await journal.writeOnce(`${run._id}:failed`, entry))) return;
  events.emit('run:failed', {
    ...aboutRun(run),
    reason: { code: 'freezing_failed', detail: failure, by: 'scheduler' },
  });
}

async function announceEnd(
  { journal, events, logger }: RunStepsOptions,
  campaign: OpenCampaign,
  run: RunDoc,
  report: RunReport | undefined,
  then: { status: CampaignStatus; statusReason?: StatusReason },
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
    detail: { status: then.status, ...books },
  });
  const about = aboutRun(run);
  if (then.statusReason !== undefined) {
    const { detail } = then.statusReason;
    logger.error({ campaign: run.name, occurrence: run.occurrence }, `campaign paused itself: ${detail}`);
    await journal.write({ campaignId, runId: run._id, kind: 'paused', detail: { reason: detail } });
    events.emit('campaign:paused', { campaign: about.campaign, reason: then.statusReason });
  }
  const wasInProgress = campaign.status === 'processing' || isHeldByBreaker(campaign);
  if (!wasInProgress || report === undefined) return;
  const recurring = campaign.schedule.recurrence !== undefined;
  if (recurring) logger.info({ campaign: run.name, occurrence: run.occurrence, ...books }, 'run completed');
  if (!wasCompleted(run)) events.emit('run:completed', { ...about, report });
  if (then.status !== 'completed') return;
  logger.info({ campaign: run.name, ...(recurring ? {} : books) }, 'campaign completed');
  events.emit('campaign:completed', { ...about, report });
}
