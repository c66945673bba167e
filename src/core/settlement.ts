/**
 * What happens to recipients whose hand-over had begun under a claim that is gone. Pure.
 * Invariant: nobody is sent to again by policy before the earlier holder's last possible send has ended, and nobody
 * whose hand-over may have happened ever counts as sent or failed without somebody having said so.
 */
import { DEATHS_TO_PARK, QUARANTINED } from './crash-loop.ts';
import type { Detail, LedgerPage } from './ledger-page.ts';

/** What becomes of a recipient when nobody can know whether the message left. */
export type OnUnknown = 'hold' | 'resend' | 'reconcile' | 'give-up';

/** Recipients that an earlier holder may still be handing over, until somebody has counted `waitMs` since taking over. */
export interface Unsettled {
  readonly token: string;
  readonly recipients: readonly number[];
  readonly waitMs: number;
}

/** A holder that lost its page tells what it knows of a send it had begun. */
export interface LateTruth {
  readonly token: string;
  readonly recipient: number;
  readonly attempt: number;
  readonly state: 'sent' | 'failed' | 'skipped';
  readonly at: number;
  readonly detail?: Detail;
  /** It did not leave, and another attempt may succeed: a resend that is planned anyway goes ahead. */
  readonly retryable?: boolean;
}

export const GAVE_UP = 'gave_up';

const NOBODY: ReadonlyMap<number, number> = new Map();

/**
 * Gives the recipients in flight under `token` the state that the policy asks for. `since`: the present, server time.
 * `suspicion`: deaths that those who go out again may be to blame for.
 */
export function abandon(
  page: LedgerPage,
  recipients: readonly number[],
  token: string,
  policy: OnUnknown,
  why: { code: string; reason: string },
  since: number,
  suspicion: ReadonlyMap<number, number> = NOBODY,
): void {
  for (const index of recipients) {
    const deaths = suspicion.get(index);
    // The instant of the intent stays: it is what an idempotency window is measured from.
    const at = page.at(index);
    if (policy === 'hold') page.set(index, 'unknown', at, { ...why, token, since });
    else if (policy === 'give-up') page.set(index, 'failed', at, { ...why, code: GAVE_UP, token, since });
    else {
      const suspected = deaths === undefined ? {} : { deaths };
      page.set(index, 'unsettled', at, { ...why, token, settle: policy, ...suspected });
    }
  }
}

export interface ResendLimits {
  readonly maxAttempts: number;
  /** How long the provider remembers an idempotency key; undefined: for ever. */
  readonly windowMs: number | undefined;
}

/** The recipients among `recipients` that still wait to be settled, by what is to be done with them. */
export function waiting(page: LedgerPage, entry: Unsettled): { resend: number[]; reconcile: number[] } {
  const result: { resend: number[]; reconcile: number[] } = { resend: [], reconcile: [] };
  for (const index of entry.recipients) {
    if (page.letter(index) !== 'unsettled' || page.detail(index)?.token !== entry.token) continue;
    result[page.detail(index)?.settle === 'reconcile' ? 'reconcile' : 'resend'].push(index);
  }
  return result;
}

/**
 * Resends one unsettled recipient, or holds it: when it has stopped its workers too often, or attempts or the provider's
 * memory are used up.
 */
export function resend(page: LedgerPage, index: number, now: number, limits: ResendLimits): void {
  const detail = page.detail(index) ?? {};
  if (detail.settle === 'retry') return page.renew(index, page.generation(index), now);
  const { deaths = 0 } = detail;
  if (deaths >= DEATHS_TO_PARK) {
    const reason = `put aside: ${deaths} workers in a row were lost while it was being handed over, at last with nobody else of its page`;
    return hold(page, index, reason, now, QUARANTINED);
  }
  const forgotten = limits.windowMs !== undefined && now - page.at(index) > limits.windowMs;
  if (forgotten) hold(page, index, 'the provider no longer remembers the idempotency key', now);
  else if (page.attempts(index) >= limits.maxAttempts) hold(page, index, 'no attempts left', now);
  else {
    const suspected = detail.deaths === undefined ? {} : { deaths };
    page.set(index, 'retrying', now, { dueAt: 0, code: detail.code ?? 'resend', ...suspected });
  }
}

/** Keeps one unsettled recipient as unknown. */
export function hold(page: LedgerPage, index: number, reason: string, since: number, code?: string): void {
  const { settle: _settle, deaths: _deaths, ...detail } = page.detail(index) ?? {};
  page.set(index, 'unknown', page.at(index), {
    ...detail,
    ...(code === undefined ? {} : { code }),
    reason,
    since,
  });
}

/** Takes in late truths where the outcome is still that claim's and that attempt's. Returns how many changed something. */
export function applyLateTruths(page: LedgerPage, truths: readonly LateTruth[]): number {
  let changed = 0;
  for (const truth of truths) {
    const index = truth.recipient;
    const letter = page.letter(index);
    const detail = page.detail(index);
    const open =
      letter === 'unknown' || letter === 'unsettled' || (letter === 'failed' && detail?.code === GAVE_UP);
    if (!open || detail?.token !== truth.token || page.attempts(index) !== truth.attempt) continue;
    // What is planned anyway goes ahead, unless it turns out to have been sent.
    const again = truth.retryable === true || (detail.settle === 'retry' && truth.state === 'failed');
    if (letter === 'unsettled' && again) continue;
    page.set(index, truth.state, truth.at, truth.detail);
    changed += 1;
  }
  return changed;
}
