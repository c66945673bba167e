/**
 * Who holds a ledger page: claiming a free one, watching the claims of others, taking a page from a dead holder, and what
 * may be done to pages that nobody holds. Invariant: a page has at most one claim, and a claim changes hands in the one
 * write whose filter still finds the page as it was read.
 */
import type { Filter, UpdateFilter } from 'mongodb';
import { type Claim, type LedgerPageDoc, SCHEMA_VERSION } from './documents.ts';
import { flushUpdate, type PageImage } from './ledger-flushes.ts';
import { type Store, ZONE_INDEX } from './store.ts';

/** Every status but `claimed`: named, they let the server use the indexes that begin with the status. */
export const NOT_CLAIMED = { $in: ['pending', 'waiting', 'done', 'parked'] } as const;

export type ClaimKind = 'due' | 'behind' | 'pending';

export interface RunSize {
  readonly runId: string;
  readonly pages: number;
  readonly orderNo: number;
  /** Only pages of these zones may send now; none: the window is closed. Default: all pages may. */
  readonly zones?: readonly string[];
}

/**
 * Claims one page of a run. Filter: the page is free in the way asked for, and its window open unless it is only behind;
 * pages beyond the run's audience (left by an abandoned freezing attempt) do not count. Nothing matched: there is none, or
 * another worker has it.
 */
export async function claimPage(
  store: Store,
  run: RunSize,
  kind: ClaimKind,
  claim: Claim,
  now: Date,
): Promise<LedgerPageDoc | null> {
  const { filter, sort } = claimQuery(run, kind, now);
  return store.ledgerPages.findOneAndUpdate(
    filter,
    { $set: { status: 'claimed', claim }, $unset: { dueAt: '' } },
    // Zone by zone there are few plans, and the one that sorts all pages of a run is not among them.
    { sort, returnDocument: 'after', ...(filter.timezone && kind === 'pending' ? { hint: ZONE_INDEX } : {}) },
  );
}

function claimQuery(
  run: RunSize,
  kind: ClaimKind,
  now: Date,
): { filter: Filter<LedgerPageDoc>; sort: Record<string, 1> } {
  const mine = { runId: run.runId, n: { $lt: run.pages }, schemaVersion: { $lte: SCHEMA_VERSION } };
  const open = run.zones === undefined ? {} : { timezone: { $in: [...run.zones] } };
  if (kind === 'due') {
    return { filter: { ...mine, ...open, status: 'waiting', dueAt: { $lte: now } }, sort: { dueAt: 1 } };
  }
  if (kind === 'behind') {
    return {
      filter: { ...mine, status: NOT_CLAIMED, orderNo: { $lt: run.orderNo } },
      sort: { orderNo: 1, n: 1 },
    };
  }
  return { filter: { ...mine, ...open, status: 'pending' }, sort: { orderNo: 1, n: 1 } };
}

export interface WatchedClaim {
  readonly pageId: string;
  readonly runId: string;
  readonly claim: Claim;
}

/** Every claim in the cluster but the caller's own. Read from the primary; a caller watches whether they change. */
export async function readClaims(store: Store, ownTokens: readonly string[]): Promise<WatchedClaim[]> {
  const found = await store.ledgerPages
    .find({ status: 'claimed', 'claim.token': { $nin: ownTokens } }, { projection: { runId: 1, claim: 1 } })
    .toArray();
  return found.flatMap((page) =>
    page.claim === undefined ? [] : [{ pageId: page._id, runId: page.runId, claim: page.claim }],
  );
}

/** Runs a page of which is claimed by one of these workers. */
export async function heldRuns(store: Store, workerIds: readonly string[]): Promise<Set<string>> {
  const runs = await store.ledgerPages.distinct('runId', {
    status: 'claimed',
    'claim.workerId': { $in: [...workerIds] },
  });
  return new Set(runs);
}

/**
 * Takes a page from a holder that showed no sign of life. Filter: token and seq as watched, so a holder that was only slow
 * keeps it. Nothing matched: not dead after all, or another worker was first.
 */
export async function takeOverPage(
  store: Store,
  watched: { pageId: string; token: string; seq: number },
  claim: Claim,
  image: PageImage,
): Promise<LedgerPageDoc | null> {
  const update = flushUpdate({ pageId: watched.pageId, token: claim.token, seq: claim.seq, image });
  const { 'claim.seq': _seq, ...set } = update.$set as Record<string, unknown>;
  return store.ledgerPages.findOneAndUpdate(
    { _id: watched.pageId, status: 'claimed', 'claim.token': watched.token, 'claim.seq': watched.seq },
    { ...update, $set: { ...set, claim } } as UpdateFilter<LedgerPageDoc>,
    { returnDocument: 'after' },
  );
}

/** Pages that an order does not name get its number without being held. Only those that had the order before it. */
export async function skipOrder(
  store: Store,
  runId: string,
  order: { n: number; after: number },
  named: readonly number[],
): Promise<void> {
  await store.ledgerPages.updateMany(
    { runId, status: NOT_CLAIMED, orderNo: order.after, n: { $nin: [...named] } },
    { $set: { orderNo: order.n } },
  );
}
