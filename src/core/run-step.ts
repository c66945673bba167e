/**
 * What a worker has to do next about an open run. Pure: the same documents always give the same step, so every worker
 * repeats a step that another began and did not finish.
 */
import type { CampaignStatus, RunStatus } from './campaign-machine.ts';
import type { Counts } from './ledger-page.ts';
import { type Order, orderSends } from './orders.ts';

export interface RunSituation {
  readonly campaignStatus: CampaignStatus;
  /** It is paused by the breaker of its messenger, and by nobody else. */
  readonly heldByBreaker?: boolean;
  /** This worker holds the breaker's probe and tries a few recipients. */
  readonly onTrial?: boolean;
  /** It is the oldest open run of its campaign: the runs of one campaign send one after another. */
  readonly isFirst: boolean;
  /** Number of the campaign's last order, if it is about this run. */
  readonly orderNo: number;
  readonly run: { readonly status: RunStatus; readonly orderNo: number } | undefined;
  readonly hasMessenger: boolean;
}

export type RunStep =
  /** The campaign names a run that does not exist. */
  | 'insert-run'
  /** The campaign has an order that the run has not. */
  | 'copy-order'
  | 'freeze'
  | 'cancel-freezing'
  /** Claim pages and send. */
  | 'send'
  /** Claim only pages that are behind the run's orders; nothing is sent. */
  | 'apply-orders'
  | 'wait';

export function decideRunStep(situation: RunSituation): RunStep {
  const { campaignStatus, heldByBreaker = false, onTrial = false } = situation;
  const { isFirst, orderNo, run, hasMessenger } = situation;
  if (run === undefined) return 'insert-run';
  if (orderNo > run.orderNo) return 'copy-order';
  if (run.status === 'freezing') {
    if (campaignStatus === 'cancelled') return 'cancel-freezing';
    // No messenger is needed to read an audience.
    return (campaignStatus === 'processing' || heldByBreaker) && isFirst ? 'freeze' : 'wait';
  }
  const goesOut = campaignStatus === 'processing' || (heldByBreaker && onTrial);
  return run.status === 'sending' && goesOut && isFirst && hasMessenger ? 'send' : 'apply-orders';
}

/**
 * Does an open run hold up the next occurrence? One that has ended does not, unless an order makes it send again: it is
 * open only until it is taken out of its campaign, or until its pages have had an order that sends nothing.
 */
export function holdsUpOthers(
  runId: string,
  run: { readonly status: RunStatus; readonly orderNo: number } | undefined,
  order: Order | undefined,
): boolean {
  if (run === undefined || run.status === 'freezing' || run.status === 'sending') return true;
  return order !== undefined && order.runId === runId && order.n > run.orderNo && orderSends(order);
}

/** What to do with a run none of whose pages is left to work on. */
export function decideEnd(
  campaignStatus: CampaignStatus,
  runStatus: RunStatus,
  heldByBreaker = false,
): 'close' | 'take-out' | 'wait' {
  if (runStatus === 'freezing') return 'wait';
  // Closed when a person resumes it, so that such a pause always ends in processing. What has nobody left to send to waits
  // for no messenger: a breaker that has nobody left to try would never let it go.
  if (campaignStatus === 'paused' && !heldByBreaker) return 'wait';
  return runStatus === 'sending' ? 'close' : 'take-out';
}

/** Of a run whose books are closed, and of its campaign. */
export interface RunEnd {
  readonly campaignStatus: CampaignStatus;
  readonly heldByBreaker: boolean;
  readonly runStatus: RunStatus;
  readonly othersOpen: boolean;
  readonly isRecurring: boolean;
  /** An occurrence comes after it. */
  readonly hasNext: boolean;
  readonly pauseOnFailure: boolean;
  readonly report:
    | (Pick<Counts, 'sent' | 'failed' | 'skipped' | 'unknown'> & { readonly total: number })
    | undefined;
}

/** What becomes of the campaign when one of its runs has ended. `because` is given where it pauses itself. */
export function statusAfter(end: RunEnd): { status: CampaignStatus; because?: string } {
  if (end.campaignStatus !== 'processing' && !end.heldByBreaker) return { status: end.campaignStatus };
  const failure = end.isRecurring && end.pauseOnFailure ? failureOf(end) : undefined;
  if (failure !== undefined) return { status: 'paused', because: failure };
  if (end.othersOpen) return { status: end.campaignStatus };
  return { status: end.isRecurring && end.hasNext ? 'scheduled' : 'completed' };
}

function failureOf({ runStatus, report }: RunEnd): string | undefined {
  if (runStatus === 'failed') return 'the audience of a run could not be read';
  if (report === undefined || report.total === report.skipped || report.sent > 0) return undefined;
  const { failed, unknown } = report;
  // Who is unknown may have been reached: nobody can say that nobody was.
  if (unknown === 0) return `a run reached nobody: ${failed} failed`;
  return `nobody was surely reached: ${unknown} unknown${failed === 0 ? '' : `, ${failed} failed`}`;
}
