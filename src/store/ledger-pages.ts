/**
 * The ledger pages as documents: making those of a run, reading them, and decoding one into a value. Claims are in
 * `ledger-claims.ts`, what a holder writes in `ledger-flushes.ts`, sums over pages in `ledger-sums.ts`. Invariant: a page
 * that is there is never made anew, and an untouched one reads as if everybody on it were pending.
 */
import type { Filter } from 'mongodb';
import { type DeliveryState, type Detail, LedgerPage } from '../core/ledger-page.ts';
import { type LedgerPageDoc, pageIdOf, SCHEMA_VERSION } from './documents.ts';
import { insertMissing, MAJORITY, type Store } from './store.ts';

const INSERT_BATCH = 1000;

/**
 * Inserts the missing ledger pages of a run; those already there are left alone, whoever made them. `zoneOf`: whose hours
 * hold for a page, where that differs from page to page.
 */
export async function insertLedgerPages(
  store: Store,
  runId: string,
  pages: number,
  zoneOf?: (n: number) => string,
): Promise<void> {
  for (let first = 0; first < pages; first += INSERT_BATCH) {
    const length = Math.min(INSERT_BATCH, pages - first);
    const documents = Array.from({ length }, (_, offset): LedgerPageDoc => {
      const n = first + offset;
      return {
        _id: pageIdOf(runId, n),
        runId,
        n,
        ...(zoneOf === undefined ? {} : { timezone: zoneOf(n) }),
        status: 'pending',
        orderNo: 0,
        deaths: 0,
        schemaVersion: SCHEMA_VERSION,
      };
    });
    await insertMissing(store.ledgerPages, documents);
  }
}

/** Deletes the pages of these runs that nobody has ever held. Only for runs that ended without an audience. */
export async function deleteUntouchedPages(store: Store, runIds: readonly string[]): Promise<number> {
  const { deletedCount } = await store.ledgerPages.deleteMany({
    runId: { $in: [...runIds] },
    status: 'pending',
    claim: { $exists: false },
    states: { $exists: false },
    late: { $exists: false },
  });
  return deletedCount;
}

export async function readPage(store: Store, pageId: string): Promise<LedgerPageDoc | null> {
  return store.ledgerPages.findOne({ _id: pageId }, MAJORITY);
}

/** All pages of a run that count, in order. */
export function readPages(store: Store, runId: string, pages: number): AsyncIterable<LedgerPageDoc> {
  return store.ledgerPages
    .find({ runId, n: { $lt: pages } }, MAJORITY)
    .sort({ n: 1 })
    .batchSize(200);
}

/** The first page from `n` on that has a recipient in this state; undefined state: any. */
export async function nextPageWith(
  store: Store,
  run: { runId: string; pages: number },
  n: number,
  state: DeliveryState | undefined,
): Promise<LedgerPageDoc | null> {
  const has: Filter<LedgerPageDoc> =
    state === undefined
      ? {}
      : state === 'pending'
        ? { $or: [{ counts: { $exists: false } }, { 'counts.pending': { $gt: 0 } }] }
        : { [`counts.${state}`]: { $gt: 0 } };
  const cursor = store.ledgerPages.find(
    { runId: run.runId, n: { $gte: n, $lt: run.pages }, ...has },
    MAJORITY,
  );
  const [page] = await cursor.sort({ n: 1 }).limit(1).toArray();
  return page ?? null;
}

/**
 * The pages of a run that have failed or unknown recipients, in order, with nothing of the details but what was said of
 * somebody.
 */
export async function* failedPages(
  store: Store,
  run: { runId: string; pages: number },
): AsyncGenerator<{ n: number; page: LedgerPage }> {
  const said = {
    $filter: {
      input: { $objectToArray: { $ifNull: ['$details', {}] } },
      cond: { $or: ['$$this.v.reason', '$$this.v.code'] },
    },
  };
  const cursor = store.ledgerPages.aggregate<
    Pick<LedgerPageDoc, 'n' | 'states' | 'at'> & { details: Record<string, Detail> }
  >(
    [
      {
        $match: {
          runId: run.runId,
          n: { $lt: run.pages },
          $or: [{ 'counts.failed': { $gt: 0 } }, { 'counts.unknown': { $gt: 0 } }],
        },
      },
      { $sort: { n: 1 } },
      { $project: { _id: 0, n: 1, states: 1, at: 1, details: { $arrayToObject: said } } },
    ],
    { ...MAJORITY, batchSize: 200 },
  );
  for await (const { n, states, at, details } of cursor) {
    if (states === undefined || at === undefined) continue;
    yield { n, page: new LedgerPage(states.length, { states, at }, details) };
  }
}

/** The page as a value. An untouched page has no columns yet: its size is that of its audience page. */
export function decodePage(document: LedgerPageDoc, size: number): LedgerPage {
  const { states, at, attempts, generations, details } = document;
  if (states === undefined || at === undefined || attempts === undefined) return new LedgerPage(size);
  return new LedgerPage(
    size,
    { states, at, attempts, ...(generations === undefined ? {} : { generations }) },
    details,
  );
}
