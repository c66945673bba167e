/**
 * Ledger pages seen from above: which runs have work, and how far a run is. Invariant: reads only; pages beyond the run's
 * audience (left by an abandoned freezing attempt) never count, and recipients of untouched pages are pending.
 */
import type { Filter } from 'mongodb';
import { addCounts, type Counts, emptyCounts } from '../core/ledger-page.ts';
import type { LedgerPageDoc } from './documents.ts';
import type { RunSize } from './ledger-claims.ts';
import { MAJORITY, type Store } from './store.ts';

export interface RunPages {
  readonly runId: string;
  readonly pending: boolean;
  /** Where only some zones are open: those of them that have a free page. */
  readonly zones: readonly string[];
  readonly due: boolean;
  readonly behind: boolean;
  readonly unfinished: boolean;
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
    zonesWithPages(store, zoned(runs)),
  ]);
  return new Map(
    runs.map((run) => {
      // Pages that a freezing attempt left without being adopted do not count.
      const rows = open.filter((row) => row._id.runId === run.runId && row.first < run.pages);
      const has = (status: string): boolean => rows.some((row) => row._id.status === status);
      const { runId } = run;
      const behind =
        lateRuns.has(runId) || rows.some((row) => row._id.status !== 'claimed' && row.orderNo < run.orderNo);
      const zones = freeInZones.get(runId) ?? [];
      const inSomeZones = (run.zones?.length ?? 0) > 0;
      const pending = inSomeZones ? zones.length > 0 : has('pending');
      return [runId, { runId, pending, zones, due: due.has(runId), behind, unfinished: rows.length > 0 }];
    }),
  );
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

/** In which of these zones each run has a free page. */
async function zonesWithPages(
  store: Store,
  runs: readonly { runId: string; zones: readonly string[] }[],
): Promise<Map<string, string[]>> {
  if (runs.length === 0) return new Map();
  const free = runs.map(({ runId, zones }) => {
    return { runId, status: 'pending' as const, timezone: { $in: [...zones] } };
  });
  const rows = await store.ledgerPages
    .aggregate<{ _id: string; zones: string[] }>([
      { $match: { $or: free } },
      { $group: { _id: '$runId', zones: { $addToSet: '$timezone' } } },
    ])
    .toArray();
  return new Map(rows.map(({ _id, zones }) => [_id, zones]));
}

/** The runs of the pages that fit one of these. */
async function runsMatching(store: Store, matches: readonly Filter<LedgerPageDoc>[]): Promise<Set<string>> {
  if (matches.length === 0) return new Set();
  const rows = await store.ledgerPages
    .aggregate<{ _id: string }>([{ $match: { $or: [...matches] } }, { $group: { _id: '$runId' } }])
    .toArray();
  return new Set(rows.map((row) => row._id));
}

/** Sums the counts of all pages of a run. `pages` are those that count; recipients of untouched pages are pending. */
export async function sumPages(
  store: Store,
  run: { runId: string; pages: number; total: number },
): Promise<{ counts: Counts; donePages: number; minOrderNo: number; late: boolean; parked: number }> {
  const [row] = await store.ledgerPages
    .aggregate<Counts & { done: number; parked: number; minOrderNo: number; late: number }>(
      [
        { $match: { runId: run.runId, n: { $lt: run.pages } } },
        {
          $group: {
            _id: null,
            ...COUNT_SUMS,
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
  return {
    counts: totalCounts(row === undefined ? [] : [row], run.total),
    donePages: row?.done ?? 0,
    parked: row?.parked ?? 0,
    minOrderNo: row?.minOrderNo ?? 0,
    late: (row?.late ?? 0) > 0,
  };
}

/** Sums of all counts, for a `$group` over pages. */
export const COUNT_SUMS = Object.fromEntries(
  Object.keys(emptyCounts()).map((state) => [state, { $sum: `$counts.${state}` }]),
);

/** The sums of groups of pages as the counts of a run of `total` recipients. */
export function totalCounts(rows: readonly Counts[], total: number): Counts {
  const counts = emptyCounts();
  for (const row of rows) addCounts(counts, row);
  const counted = Object.values(counts).reduce((sum, value) => sum + value, 0);
  counts.pending += Math.max(0, total - counted);
  return counts;
}
