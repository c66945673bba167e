/**
 * What the holder of a ledger page writes: the whole state of the page as it knows it, under its claim. Invariant: all
 * values are absolute and carry the holder's token and a growing seq, so repeating a write is harmless and a late one never
 * undoes a newer one.
 */
import type { Filter, UpdateFilter } from 'mongodb';
import type { Columns, Counts, Detail } from '../core/ledger-page.ts';
import type { Release } from '../core/page-release.ts';
import type { Unsettled } from '../core/settlement.ts';
import type { LedgerPageDoc } from './documents.ts';
import { MAJORITY, type Store } from './store.ts';

/** What a flush writes: the whole state of the page as its holder knows it. */
export interface PageImage {
  readonly columns: Columns;
  readonly counts: Counts;
  readonly details: ReadonlyMap<number, Detail | undefined>;
  readonly unsettled: readonly Unsettled[];
  readonly orderNo: number;
  readonly deaths: number;
}

export interface Flush {
  readonly pageId: string;
  readonly token: string;
  readonly seq: number;
  readonly image: PageImage;
  /** Given with the last flush. A page with late truths to merge is not let go of as `done`. */
  readonly release?: Release;
}

export type FlushAnswer = 'applied' | 'lost' | 'late-truth';

/**
 * The one write of a holder. Filter: its token, and a seq older than this flush, so that a late or repeated flush never
 * undoes a newer one. Nothing matched: applied already (the answer was lost), a late truth came first, or the claim is gone.
 */
export async function flushPage(store: Store, flush: Flush): Promise<FlushAnswer> {
  const { pageId, token, seq, release } = flush;
  const filter: Filter<LedgerPageDoc> = { _id: pageId, 'claim.token': token, 'claim.seq': { $lt: seq } };
  if (release?.status === 'done') filter['late.0'] = { $exists: false };
  const result = await store.ledgerPages.updateOne(filter, flushUpdate(flush));
  if (result.matchedCount === 1) return 'applied';

  const found = await store.ledgerPages.findOne(
    { _id: pageId },
    { projection: { claim: 1, late: 1 }, ...MAJORITY },
  );
  if (found?.claim?.token === token) return found.claim.seq >= seq ? 'applied' : 'late-truth';
  // A release takes the claim away: only the holder itself knows whether this flush was the one that did.
  return 'lost';
}

/** The write of a page's state; the seq goes with it unless the page is let go of. */
export function flushUpdate({ seq, image, release }: Flush): UpdateFilter<LedgerPageDoc> {
  const set: Record<string, unknown> = {
    ...image.columns,
    counts: image.counts,
    orderNo: image.orderNo,
    deaths: image.deaths,
  };
  const unset: Record<string, ''> = {};
  addDetails(image.details, set, unset);
  if (image.unsettled.length > 0) set.unsettled = image.unsettled;
  else unset.unsettled = '';
  if (release === undefined) set['claim.seq'] = seq;
  else {
    set.status = release.status;
    unset.claim = '';
    if (release.status === 'waiting') set.dueAt = release.dueAt;
  }
  return {
    $set: set,
    ...(Object.keys(unset).length > 0 ? { $unset: unset } : {}),
  } as UpdateFilter<LedgerPageDoc>;
}

/** Only the details that have changed are written, each under its own index. */
export function addDetails(
  details: ReadonlyMap<number, Detail | undefined>,
  set: Record<string, unknown>,
  unset: Record<string, ''>,
): void {
  for (const [index, detail] of details) {
    if (detail === undefined) unset[`details.${index}`] = '';
    else set[`details.${index}`] = detail;
  }
}
