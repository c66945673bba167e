/**
 * What the watchdog looks at, in a few bounded questions; and the two writes that are its own. Invariant: what changes
 * here names what was read, so that a watchdog that was stopped for an hour and wakes up changes nothing.
 */
import type { ObjectId } from 'mongodb';
import type { Counts } from '../core/ledger-page.ts';
import type { AudienceDoc, Claim, LedgerPageDoc, RunDoc, WorkerDoc } from './documents.ts';
import { MAJORITY, type Store } from './store.ts';

const MOST_WORKERS = 500;
const MOST_CLAIMS = 5_000;
const MOST_FREEZES = 500;
const MOST_CAMPAIGNS = 2_000;

export type SeenWorker = WorkerDoc & {
  /** How long ago its last sign of life was, by the server's clock, ms. */
  readonly silentMs: number;
};

/** Those that were not stopped, those heard of last first. */
export async function seenWorkers(store: Store): Promise<SeenWorker[]> {
  return store.workers
    .aggregate<SeenWorker>([
      { $sort: { heartbeatAt: -1 } },
      { $match: { state: { $ne: 'stopped' } } },
      { $limit: MOST_WORKERS },
      { $addFields: { silentMs: { $subtract: ['$$NOW', '$heartbeatAt'] } } },
    ])
    .toArray();
}

/** It is known that it does nothing any more. */
export function isGone({ state }: Pick<WorkerDoc, 'state'>): boolean {
  return state === 'offline' || state === 'crashed';
}

/**
 * Marks a worker offline. Filter: its heartbeat as read, silent for so long by the server's clock. False: it has given a
 * sign of life, or somebody else was first.
 */
export async function markOffline(
  store: Store,
  { _id, heartbeatAt }: Pick<WorkerDoc, '_id' | 'heartbeatAt'>,
  silentMs: number,
): Promise<boolean> {
  const result = await store.workers.updateOne(
    {
      _id,
      heartbeatAt,
      state: { $in: ['running', 'stopping'] },
      $expr: { $lte: ['$heartbeatAt', { $subtract: ['$$NOW', silentMs] }] },
    },
    { $set: { state: 'offline' } },
  );
  return result.matchedCount === 1;
}

export interface ClaimProgress {
  readonly pageId: string;
  readonly runId: string;
  readonly claim: Claim;
  /** Changes with every outcome. */
  readonly sign: string;
  /** How long it waits for the sends of earlier holders, ms. */
  readonly waitMs: number;
}

/** All claims, with what changes when something becomes of their pages. */
export async function claimProgress(store: Store): Promise<ClaimProgress[]> {
  const pages = await store.ledgerPages
    .find(
      { status: 'claimed' },
      { projection: { runId: 1, claim: 1, counts: 1, orderNo: 1, unsettled: { waitMs: 1, token: 1 } } },
    )
    .limit(MOST_CLAIMS)
    .toArray();
  return pages.flatMap((page) => {
    const { _id: pageId, runId, claim, unsettled = [] } = page;
    if (claim === undefined) return [];
    const waitMs = Math.max(0, ...unsettled.map((entry) => entry.waitMs));
    return { pageId, runId, claim, sign: signOf(page), waitMs };
  });
}

export function signOf(page: Pick<LedgerPageDoc, 'counts' | 'orderNo' | 'unsettled'>): string {
  const { counts, orderNo, unsettled = [] } = page;
  return JSON.stringify([counts ?? null, orderNo, unsettled.map(({ token }) => token)]);
}

/** Sources of runs that are being read. */
export async function freezes(store: Store): Promise<AudienceDoc[]> {
  return store.audiences
    .find({ state: 'freezing', 'owner.kind': 'run' }, { ...MAJORITY, projection: { rejected: 0 } })
    .limit(MOST_FREEZES)
    .toArray();
}

/** Pages of these runs that were put aside. */
export async function parkedPages(
  store: Store,
  runIds: readonly string[],
  limit: number,
): Promise<Pick<LedgerPageDoc, '_id' | 'runId' | 'n'>[]> {
  if (runIds.length === 0) return [];
  return store.ledgerPages
    .find({ runId: { $in: [...runIds] }, status: 'parked' }, { projection: { runId: 1, n: 1 } })
    .limit(limit)
    .toArray();
}

/** Those of these pages that are put aside. */
export async function stillParked(store: Store, pageIds: readonly string[]): Promise<string[]> {
  if (pageIds.length === 0) return [];
  return store.ledgerPages.distinct('_id', { _id: { $in: [...pageIds] }, status: 'parked' });
}

export interface OpenRunRow {
  readonly campaignId: ObjectId;
  readonly runId: string;
}

/** The first open run of each campaign that is being processed, at most 2,000. */
export async function openRunRows(store: Store): Promise<OpenRunRow[]> {
  const campaigns = await store.campaigns
    .find(
      { status: 'processing', 'openRuns.0': { $exists: true } },
      { projection: { openRuns: { $slice: 1 } } },
    )
    .limit(MOST_CAMPAIGNS)
    .toArray();
  return campaigns.flatMap(({ _id, openRuns: [first] }) =>
    first === undefined ? [] : [{ campaignId: _id, runId: first.runId }],
  );
}

export type RunProgress = Pick<
  RunDoc,
  | '_id'
  | 'campaignId'
  | 'name'
  | 'status'
  | 'orderNo'
  | 'freezeBase'
  | 'total'
  | 'pages'
  | 'openedAt'
  | 'checkpoint'
  | 'report'
  | 'heartbeat'
>;

const PROGRESS = {
  campaignId: 1,
  name: 1,
  status: 1,
  orderNo: 1,
  freezeBase: 1,
  total: 1,
  pages: 1,
  openedAt: 1,
  checkpoint: 1,
  report: 1,
  heartbeat: 1,
} as const;

export async function runProgress(store: Store, runIds: readonly string[]): Promise<RunProgress[]> {
  if (runIds.length === 0) return [];
  return store.runs
    .find({ _id: { $in: [...runIds] } }, { ...MAJORITY, projection: PROGRESS })
    .toArray() as Promise<RunProgress[]>;
}

/** Finished runs after this one, in the order of their keys. */
export async function finishedRuns(store: Store, after: string, limit: number): Promise<RunProgress[]> {
  return store.runs
    .find({ _id: { $gt: after }, status: 'finished' }, { ...MAJORITY, projection: PROGRESS })
    .sort({ _id: 1 })
    .limit(limit)
    .toArray() as Promise<RunProgress[]>;
}

/** Campaigns that should have begun so long ago, by the server's clock; the earliest first. */
export async function overdueCampaigns(store: Store, lateMs: number, limit: number): Promise<ObjectId[]> {
  const found = await store.campaigns
    .find(
      {
        status: 'scheduled',
        nextRunAt: { $gt: new Date(0) },
        $expr: { $lt: ['$nextRunAt', { $subtract: ['$$NOW', lateMs] }] },
      },
      { projection: { _id: 1 } },
    )
    .sort({ nextRunAt: 1 })
    .limit(limit)
    .toArray();
  return found.map(({ _id }) => _id);
}

export type PageBooks = Pick<LedgerPageDoc, '_id' | 'runId' | 'states'> & { readonly counts?: Counts };

/** Pages after this one, in the order of their keys, and these ones. */
export async function pageBooks(
  store: Store,
  after: string,
  limit: number,
  also: readonly string[],
): Promise<{ rolling: PageBooks[]; also: PageBooks[] }> {
  const projection = { runId: 1, states: 1, counts: 1 };
  const [rolling, those] = await Promise.all([
    store.ledgerPages
      .find({ _id: { $gt: after } }, { projection })
      .sort({ _id: 1 })
      .limit(limit)
      .toArray(),
    also.length === 0 ? [] : store.ledgerPages.find({ _id: { $in: [...also] } }, { projection }).toArray(),
  ]);
  return { rolling, also: those };
}
