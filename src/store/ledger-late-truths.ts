/**
 * What is learnt of a send after its claim was gone: kept in a field of the page that no flush touches, merged by whoever
 * holds the page next, or by anybody where nobody does. Invariant: a truth leaves the page only after it was taken in, and
 * only the ones that were seen.
 */
import type { UpdateFilter } from 'mongodb';
import type { LedgerPage } from '../core/ledger-page.ts';
import type { LateTruth } from '../core/settlement.ts';
import type { LedgerPageDoc } from './documents.ts';
import { NOT_CLAIMED } from './ledger-claims.ts';
import { addDetails } from './ledger-flushes.ts';
import { MAJORITY, type Store } from './store.ts';

/** Late truths go to a field that no flush touches. Nothing matched: the run was deleted. */
export async function pushLateTruths(
  store: Store,
  pageId: string,
  truths: readonly LateTruth[],
): Promise<LedgerPageDoc | null> {
  return store.ledgerPages.findOneAndUpdate(
    { _id: pageId },
    { $push: { late: { $each: [...truths] } } },
    { returnDocument: 'after' },
  );
}

/**
 * Merges late truths into a page that nobody holds. They stay in the document until the report was recounted, so that
 * whoever comes after a crash does it again. Filter: status, outcomes and the list of truths exactly as read. Nothing
 * matched: somebody changed or claimed it meanwhile; read again.
 */
export async function mergeLateTruths(store: Store, read: LedgerPageDoc, page: LedgerPage): Promise<boolean> {
  const set: Record<string, unknown> = { ...page.columns(), counts: page.counts };
  const unset: Record<string, ''> = {};
  addDetails(page.takeChangedDetails(), set, unset);
  const result = await store.ledgerPages.updateOne(
    {
      _id: read._id,
      status: read.status,
      claim: { $exists: false },
      orderNo: read.orderNo,
      late: read.late ?? { $exists: false },
      ...(read.states === undefined ? {} : { states: read.states }),
    },
    {
      $set: set,
      ...(Object.keys(unset).length > 0 ? { $unset: unset } : {}),
    } as UpdateFilter<LedgerPageDoc>,
  );
  return result.matchedCount === 1;
}

/** These late truths were taken in (or no longer matter). Only what was seen is removed. */
export async function removeLateTruths(
  store: Store,
  pageId: string,
  seen: readonly LateTruth[],
): Promise<void> {
  await store.ledgerPages.updateOne({ _id: pageId }, {
    $pull: { late: { $or: seen.map(({ token, recipient, attempt }) => ({ token, recipient, attempt })) } },
  } as unknown as UpdateFilter<LedgerPageDoc>);
  await store.ledgerPages.updateOne({ _id: pageId, late: { $size: 0 } }, { $unset: { late: '' } });
}

/** Pages with late truths that nobody holds: whoever brought the truth died before merging it. */
export async function unheldLateTruths(
  store: Store,
  limit: number,
  runId?: string,
): Promise<LedgerPageDoc[]> {
  return store.ledgerPages
    .find(
      {
        'late.0': { $exists: true },
        'late.token': { $gt: '' },
        status: NOT_CLAIMED,
        ...(runId === undefined ? {} : { runId }),
      },
      MAJORITY,
    )
    .limit(limit)
    .toArray();
}
