/**
 * What a worker has to do next about an open run. Pure: the same documents always give the same step, so every worker
 * repeats a step that another began and did not finish.
 */
import type { CampaignStatus, RunStatus } from './campaign-machine.ts';

export interface RunSituation {
  readonly campaignStatus: CampaignStatus;
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
  const { campaignStatus, orderNo, run, hasMessenger } = situation;
  if (run === undefined) return 'insert-run';
  if (orderNo > run.orderNo) return 'copy-order';
  if (run.status === 'freezing') {
    if (campaignStatus === 'cancelled') return 'cancel-freezing';
    return campaignStatus === 'processing' ? 'freeze' : 'wait';
  }
  if (run.status === 'sending' && campaignStatus === 'processing' && hasMessenger) return 'send';
  return 'apply-orders';
}

/** What to do with a run none of whose pages is left to work on. */
export function decideEnd(
  campaignStatus: CampaignStatus,
  runStatus: RunStatus,
): 'close' | 'take-out' | 'wait' {
  if (runStatus === 'freezing') return 'wait';
  if (campaignStatus === 'paused') return 'wait'; // closed when it is resumed, so that a pause always ends in processing
  return runStatus === 'sending' ? 'close' : 'take-out';
}
