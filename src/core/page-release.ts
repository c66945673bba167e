/**
 * How a holder lets go of a page that has nothing in flight: done, parked, waiting for a retry, or free for anybody. Pure:
 * the holder writes it together with the last outcomes.
 */
import { DEATHS_TO_PARK } from './crash-loop.ts';
import type { LedgerPage } from './ledger-page.ts';
import { roundUpDue } from './retry.ts';

export type Release =
  | { readonly status: 'pending' | 'parked' | 'done' }
  | { readonly status: 'waiting'; readonly dueAt: Date };

export interface HoldSituation {
  /** Holders that died in a row without naming the recipient that may be to blame. */
  readonly deaths: number;
  /** Recipients that may be sent to now. */
  readonly queued: number;
  readonly lettingGo: boolean;
  /** Server time, ms since the epoch. */
  readonly now: number;
  /** When the page's window is open next, from this instant on; it may be open then. */
  readonly openFrom: (at: number) => number;
}

const DUE_STEP_MS = 5000;

/** Undefined while something is still to be done with the page. */
export function decideRelease(
  page: LedgerPage,
  { deaths, queued, lettingGo, now, openFrom }: HoldSituation,
): Release | undefined {
  if (page.settled) return { status: 'done' };
  if (deaths >= DEATHS_TO_PARK) return { status: 'parked' };
  const waitsForEarlierSends = page.counts.sending > 0;
  if (!lettingGo && (queued > 0 || waitsForEarlierSends)) return undefined;
  if (page.counts.pending > 0 || waitsForEarlierSends) return { status: 'pending' };
  const due = Math.max(page.nextDueAt() ?? 0, now);
  // A retry that falls due outside the window waits for it.
  const startsAt = openFrom(due);
  if (startsAt <= now) return { status: 'pending' };
  return { status: 'waiting', dueAt: new Date(startsAt > due ? startsAt : roundUpDue(due, DUE_STEP_MS)) };
}
