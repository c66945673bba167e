/**
 * What one answer of a messenger makes of a recipient. Pure: changes the page value, says what the holder has to do next.
 */
import { keptDetail, type LedgerPage } from './ledger-page.ts';
import { type FailureKind, retryDelayMs } from './retry.ts';
import { abandon, type OnUnknown } from './settlement.ts';

export interface Failure {
  readonly kind: FailureKind;
  readonly code?: string;
  readonly reason: string;
  readonly retryAfterMs?: number | undefined;
}

export type SendOutcome =
  | { readonly kind: 'sent'; readonly providerId?: string }
  | { readonly kind: 'skipped'; readonly reason: string }
  | Failure;

export interface OutcomeRules {
  readonly retry: {
    readonly maxAttempts: number;
    readonly firstDelayMs: number;
    readonly maxDelayMs: number;
  };
  readonly onUnknown: OnUnknown;
  /** The claim under which the hand-over had begun. */
  readonly token: string;
  /** Had other recipients succeeded since the messenger's failure before? Then this recipient may be what makes it fail. */
  readonly othersSucceeded: boolean;
  /** How long the messenger rests after this outcome, ms. */
  readonly restMs: number;
  readonly random: () => number;
}

/** `unsettled`: somebody has to wait until the send can no longer be under way. */
export type AfterOutcome = 'recorded' | 'unsettled';

const PROVIDER_FAILURES_LIMIT = 5;
/** How much later than the others a recipient comes whose messenger failed: as long again as the rest, within these, ms. */
const LATER_MS = { least: 1_000, most: 30_000 };

export function recordOutcome(
  page: LedgerPage,
  index: number,
  outcome: SendOutcome,
  now: number,
  rules: OutcomeRules,
): AfterOutcome {
  switch (outcome.kind) {
    case 'sent': {
      const { providerId } = outcome;
      page.set(index, 'sent', now, providerId === undefined ? undefined : { providerId });
      return 'recorded';
    }
    case 'skipped':
      page.set(index, 'skipped', now, { reason: outcome.reason });
      return 'recorded';
    case 'permanent':
      page.set(index, 'failed', now, reasonOf(outcome));
      return 'recorded';
    case 'transient':
      retryLater(page, index, outcome, now, rules);
      return 'recorded';
    case 'provider':
      providerFailed(page, index, outcome, now, rules);
      return 'recorded';
    case 'unknown':
      abandon(page, [index], rules.token, rules.onUnknown, { code: 'unknown', ...reasonOf(outcome) }, now);
      return 'unsettled';
  }
}

/** Takes an intent back that never began: no attempt is counted, and what was known of failures and deaths is kept. */
export function withdrawIntent(page: LedgerPage, index: number, now: number): void {
  const kept = keptDetail(page.detail(index));
  const isRetry = page.attempts(index) > 1;
  page.withdraw(index, now, isRetry ? { dueAt: 0, ...kept } : kept);
}

function reasonOf(outcome: Failure): { code?: string; reason: string } {
  return outcome.code === undefined
    ? { reason: outcome.reason }
    : { code: outcome.code, reason: outcome.reason };
}

function retryLater(
  page: LedgerPage,
  index: number,
  outcome: Failure,
  now: number,
  rules: OutcomeRules,
): void {
  const { maxAttempts, ...delays } = rules.retry;
  const attempt = page.attempts(index);
  if (attempt >= maxAttempts) return page.set(index, 'failed', now, reasonOf(outcome));
  const { retryAfterMs } = outcome;
  const delayMs = retryDelayMs({ attempt, ...delays, random: rules.random, retryAfterMs });
  page.set(index, 'retrying', now, { ...reasonOf(outcome), dueAt: now + delayMs });
}

/**
 * The messenger is sick: costs this recipient no attempt, unless it is the recipient that makes it sick. When the messenger
 * has rested, others are tried first: or one such recipient, tried again and again, would keep everybody waiting for ever.
 */
function providerFailed(
  page: LedgerPage,
  index: number,
  outcome: Failure,
  now: number,
  rules: OutcomeRules,
): void {
  const failures = (page.detail(index)?.providerFailures ?? 0) + (rules.othersSucceeded ? 1 : 0);
  if (failures >= PROVIDER_FAILURES_LIMIT) return retryLater(page, index, outcome, now, rules);
  const laterMs = Math.min(LATER_MS.most, Math.max(LATER_MS.least, rules.restMs));
  const dueAt = now + Math.ceil(rules.restMs + laterMs);
  // It has come to an end, so it is no suspect any more.
  const counted = failures === 0 ? {} : { providerFailures: failures };
  page.withdraw(index, now, { ...reasonOf(outcome), dueAt, ...counted });
}
