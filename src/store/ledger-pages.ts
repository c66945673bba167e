/**
 * The ledger pages: claims and everything written under them. Every write names its filter (who may do it) and what it
 * means when nothing matched. All values are absolute, so repeating a write is harmless.
 */
import type { Filter, UpdateFilter } from 'mongodb';
import {
  addCounts,
  type Columns,
  type Counts,
  type DeliveryState,
  type Detail,
  emptyCounts,
  LedgerPage,
} from '../core/ledger-page.ts';
import type { Release } from '../core/page-release.ts';
import type { LateTruth, Unsettled } from '../core/settlement.ts';
import { type Claim, type LedgerPageDoc, type PageStatus, pageIdOf, SCHEMA_VERSION } from './documents.ts';
import { insertMissing, MAJORITY, type Store, ZONE_INDEX } from './store.ts';

const INSERT_BATCH = 1000;
const NOT_CLAIMED = { $in: ['pending', 'waiting', 'done', 'parked'] } as const;

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

function flushUpdate({ seq, image, release }: Flush): UpdateFilter<LedgerPageDoc> {
  const set: Record<string, unknown> = {
    ...image.columns,
    counts: image.counts,
    orderNo: image.orderNo,
    deaths: image.deaths,
  };
  const unset: Record<string, ''> = {};
  for (const [index, detail] of image.details) {
    if (detail === undefined) unset[`details.${index}`] = '';
    else set[`details.${index}`] = detail;
  }
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

export async function readPage(store: Store, pageId: string): Promise<LedgerPageDoc | null> {
  return store.ledgerPages.findOne({ _id: pageId }, MAJORITY);
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
  for (const [index, detail] of page.takeChangedDetails()) {
    if (detail === undefined) unset[`details.${index}`] = '';
    else set[`details.${index}`] = detail;
  }
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
  const status = { $in: ['pending', 'waiting', 'done', 'parked'] as PageStatus[] };
  return store.ledgerPages
    .find(
      {
        'late.0': { $exists: true },
        'late.token': { $gt: '' },
        status,
        ...(runId === undefined ? {} : { runId }),
      },
      MAJORITY,
    )
    .limit(limit)
    .toArray();
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

export interface RunPages {
  readonly runId: string;
  readonly pending: boolean;
  readonly due: boolean;
  readonly behind: boolean;
  readonly unfinished: boolean;
}

/** Those of these runs that have a page whose retries are due and whose window is open. */
export async function dueRuns(
  store: Store,
  runs: readonly Pick<RunSize, 'runId' | 'zones'>[],
  now: Date,
): Promise<Set<string>> {
  const ids = runs.flatMap(({ runId, zones }) => (zones === undefined ? [runId] : []));
  const matches = [
    ...(ids.length === 0 ? [] : [{ runId: { $in: ids } }]),
    ...zoned(runs).map(({ runId, zones }) => ({ runId, timezone: { $in: [...zones] } })),
  ].map((match) => ({ ...match, status: 'waiting' as const, dueAt: { $lte: now } }));
  return runsMatching(store, matches);
}

/** Those whose pages may send in some zones only. Where none is open there is nothing to look for. */
function zoned(
  runs: readonly Pick<RunSize, 'runId' | 'zones'>[],
): { runId: string; zones: readonly string[] }[] {
  return runs.flatMap(({ runId, zones = [] }) => (zones.length === 0 ? [] : [{ runId, zones }]));
}

/** The runs of the pages that fit one of these. */
async function runsMatching(store: Store, matches: readonly Filter<LedgerPageDoc>[]): Promise<Set<string>> {
  if (matches.length === 0) return new Set();
  const rows = await store.ledgerPages
    .aggregate<{ _id: string }>([{ $match: { $or: [...matches] } }, { $group: { _id: '$runId' } }])
    .toArray();
  return new Set(rows.map((row) => row._id));
}

/**
 * For each of these runs: does it have a free page, an unfinished page, a page due for a retry, a page behind its orders?
 * Where its window is closed, free pages of any zone count: they are what it waits with.
 */
export async function lookAtPages(
  store: Store,
  runs: readonly RunSize[],
  now: Date,
): Promise<Map<string, RunPages>> {
  const ids = runs.map((run) => run.runId);
  const ordered = runs.filter((run) => run.orderNo > 0);
  const [open, due, lateRuns, freeInZones] = await Promise.all([
    store.ledgerPages
      .aggregate<{ _id: { runId: string; status: string }; orderNo: number; first: number }>([
        { $match: { runId: { $in: ids }, status: { $in: ['pending', 'waiting', 'claimed', 'parked'] } } },
        {
          $group: {
            _id: { runId: '$runId', status: '$status' },
            orderNo: { $min: '$orderNo' },
            first: { $min: '$n' },
          },
        },
      ])
      .toArray(),
    dueRuns(store, runs, now),
    // Pages done by a holder that had not heard of the last order.
    runsMatching(
      store,
      ordered.map(({ runId, orderNo, pages }) => {
        return { runId, status: 'done' as const, orderNo: { $lt: orderNo }, n: { $lt: pages } };
      }),
    ),
    runsMatching(
      store,
      zoned(runs).map(({ runId, zones }) => {
        return { runId, status: 'pending' as const, timezone: { $in: [...zones] } };
      }),
    ),
  ]);
  return new Map(
    runs.map((run) => {
      // Pages that a freezing attempt left without being adopted do not count.
      const rows = open.filter((row) => row._id.runId === run.runId && row.first < run.pages);
      const has = (status: string): boolean => rows.some((row) => row._id.status === status);
      const { runId } = run;
      const behind =
        lateRuns.has(runId) || rows.some((row) => row._id.status !== 'claimed' && row.orderNo < run.orderNo);
      const inSomeZones = (run.zones?.length ?? 0) > 0;
      const pending = inSomeZones ? freeInZones.has(runId) : has('pending');
      return [runId, { runId, pending, due: due.has(runId), behind, unfinished: rows.length > 0 }];
    }),
  );
}

/** Sums the counts of all pages of a run. `pages` are those that count; recipients of untouched pages are pending. */
export async function sumPages(
  store: Store,
  run: { runId: string; pages: number; total: number },
): Promise<{ counts: Counts; donePages: number; minOrderNo: number; late: boolean; parked: number }> {
  const sums = Object.fromEntries(
    Object.keys(emptyCounts()).map((state) => [state, { $sum: `$counts.${state}` }]),
  );
  const [row] = await store.ledgerPages
    .aggregate<Counts & { done: number; parked: number; minOrderNo: number; late: number }>(
      [
        { $match: { runId: run.runId, n: { $lt: run.pages } } },
        {
          $group: {
            _id: null,
            ...sums,
            done: { $sum: { $cond: [{ $eq: ['$status', 'done'] }, 1, 0] } },
            parked: { $sum: { $cond: [{ $eq: ['$status', 'parked'] }, 1, 0] } },
            minOrderNo: { $min: '$orderNo' },
            late: { $sum: { $cond: [{ $gt: [{ $size: { $ifNull: ['$late', []] } }, 0] }, 1, 0] } },
          },
        },
      ],
      MAJORITY,
    )
    .toArray();
  const counts = addCounts(emptyCounts(), row);
  const counted = Object.values(counts).reduce((sum, value) => sum + value, 0);
  counts.pending += Math.max(0, run.total - counted);
  return {
    counts,
    donePages: row?.done ?? 0,
    parked: row?.parked ?? 0,
    minOrderNo: row?.minOrderNo ?? 0,
    late: (row?.late ?? 0) > 0,
  };
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
