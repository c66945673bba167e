/**
 * The runs. A run is inserted under its own key (a second insert is a no-op) and moves by guarded writes only; its orders
 * are copied down from the campaign by whoever sees that one is missing.
 */
import { type Checkpoint, checkpointOf } from '../core/checkpoint.ts';
import { emptyCounts } from '../core/ledger-page.ts';
import type { Order } from '../core/orders.ts';
import {
  type CampaignDoc,
  type OpenRunRef,
  type RunDoc,
  type RunReport,
  runIdOf,
  SCHEMA_VERSION,
} from './documents.ts';
import { heartbeatFields } from './run-heartbeats.ts';
import { isDuplicateKey, MAJORITY, type Store } from './store.ts';

/** A run opened later than this counts as late, ms. */
const LATE_MS = 60_000;
const SWEPT_AT_ONCE = 1_000;

/** The run of a campaign, with its own copy of content and limits. */
export function newRun(campaign: CampaignDoc, run: OpenRunRef, now: Date): RunDoc {
  const { sendAt } = campaign.schedule;
  const { nominalAt, missed } = run;
  // Of a recurring campaign's run it is known since it was opened, whoever inserts it.
  const lateMs = run.lateMs ?? (sendAt === null ? 0 : now.getTime() - sendAt.getTime());
  return {
    _id: run.runId,
    campaignId: campaign._id,
    occurrence: run.occurrence,
    status: 'freezing',
    orderNo: 0,
    orders: [],
    name: campaign.name,
    messenger: campaign.messenger,
    content: campaign.content,
    limits: campaign.limits,
    audience: campaign.audience,
    freezeBase: 0,
    openedAt: now,
    ...(lateMs > LATE_MS ? { lateMs } : {}),
    ...(nominalAt === undefined ? {} : { nominalAt }),
    ...(missed === undefined ? {} : { missed }),
    schemaVersion: SCHEMA_VERSION,
  };
}

/** Inserts a run. False: somebody did before. */
export async function insertRun(store: Store, run: RunDoc): Promise<boolean> {
  try {
    await store.runs.insertOne(run);
    return true;
  } catch (error) {
    if (isDuplicateKey(error)) return false;
    throw error;
  }
}

export async function readRuns(store: Store, runIds: readonly string[]): Promise<RunDoc[]> {
  if (runIds.length === 0) return [];
  return store.runs.find({ _id: { $in: [...runIds] } }, MAJORITY).toArray();
}

/** As `readRuns`, without the content: what may have changed since a run was read whole. */
export async function refreshRuns(
  store: Store,
  runIds: readonly string[],
): Promise<Omit<RunDoc, 'content'>[]> {
  if (runIds.length === 0) return [];
  return store.runs
    .find({ _id: { $in: [...runIds] } }, { ...MAJORITY, projection: { content: 0 } })
    .toArray();
}

/** How far runs are, by their ids. */
export async function runStates(
  store: Store,
  runIds: readonly string[],
): Promise<ReadonlyMap<string, Pick<RunDoc, 'status' | 'orderNo'>>> {
  if (runIds.length === 0) return new Map();
  const runs = await store.runs
    .find({ _id: { $in: [...runIds] } }, { ...MAJORITY, projection: { status: 1, orderNo: 1 } })
    .toArray();
  return new Map(runs.map((run) => [run._id, run]));
}

export async function readRun(store: Store, runId: string): Promise<RunDoc | null> {
  return store.runs.findOne({ _id: runId }, MAJORITY);
}

export async function findRun(
  store: Store,
  campaignId: CampaignDoc['_id'],
  occurrence: string,
): Promise<RunDoc | null> {
  return store.runs.findOne({ _id: runIdOf(campaignId, occurrence) }, MAJORITY);
}

/**
 * Copies an order down to its run (a cancellation to every open one). Filter: the run has not had it. `reopen`: its pages
 * must send, so a finished run sends again.
 */
export async function copyOrder(
  store: Store,
  order: Order,
  reopen: boolean,
  runId = order.runId,
): Promise<RunDoc | null> {
  const copied = await store.runs.findOneAndUpdate(
    {
      _id: runId,
      orderNo: { $lt: order.n },
      ...(reopen ? { status: { $in: ['sending', 'freezing'] } } : {}),
    },
    { $set: { orderNo: order.n }, $push: { orders: order } },
    { returnDocument: 'after' },
  );
  if (copied !== null || !reopen) return copied;
  return store.runs.findOneAndUpdate(
    { _id: runId, orderNo: { $lt: order.n }, status: 'finished' },
    { $set: { orderNo: order.n, status: 'sending' }, $push: { orders: order } },
    { returnDocument: 'after' },
  );
}

/** Adopts a frozen audience. Filter: still freezing (a cancelled run adopts nothing; a second attempt adopts nothing). */
export async function adoptAudience(
  store: Store,
  runId: string,
  audience: Required<Pick<RunDoc, 'audienceId' | 'pages' | 'total' | 'duplicates' | 'rejected'>> &
    Pick<RunDoc, 'zones'>,
): Promise<RunDoc | null> {
  return store.runs.findOneAndUpdate(
    { _id: runId, status: 'freezing' },
    { $set: { ...audience, status: 'sending' } },
    { returnDocument: 'after' },
  );
}

/** A cancelled campaign's run that never started to send. Filter: still freezing. */
export async function cancelFreezing(store: Store, runId: string): Promise<boolean> {
  const result = await store.runs.updateOne(
    { _id: runId, status: 'freezing' },
    { $set: { status: 'cancelled' }, $currentDate: { unbegunAt: true } },
  );
  return result.matchedCount === 1;
}

/** Gives a recurring campaign's run up whose audience could not be read. Filter: still freezing. */
export async function failRun(store: Store, runId: string, failure: string): Promise<boolean> {
  const result = await store.runs.updateOne(
    { _id: runId, status: 'freezing' },
    { $set: { status: 'failed', failure }, $currentDate: { unbegunAt: true } },
  );
  return result.matchedCount === 1;
}

/** Runs that ended without an audience so long ago, and whose pages have not been swept since. They never begin again. */
export async function unbegunRuns(store: Store, graceMs: number): Promise<string[]> {
  const found = await store.runs
    .find(
      { unbegunAt: { $exists: true }, $expr: { $lte: ['$unbegunAt', { $subtract: ['$$NOW', graceMs] }] } },
      { projection: { _id: 1 } },
    )
    .sort({ unbegunAt: 1 })
    .limit(SWEPT_AT_ONCE)
    .toArray();
  return found.map(({ _id }) => _id);
}

/** The pages laid for these were swept. */
export async function markUnbegunSwept(store: Store, runIds: readonly string[]): Promise<void> {
  await store.runs.updateMany({ _id: { $in: [...runIds] } }, { $unset: { unbegunAt: '' } });
}

/** Did it end without an audience? Then no page of it is anybody's. */
export async function hasNeverBegun(store: Store, runId: string): Promise<boolean> {
  const run = await readRun(store, runId);
  return run?.audienceId === undefined && (run?.status === 'cancelled' || run?.status === 'failed');
}

/** The runs of a campaign, the latest opened first. */
export async function latestRuns(
  store: Store,
  campaignId: CampaignDoc['_id'],
  before: { at: Date; id: string } | undefined,
  limit: number,
): Promise<Omit<RunDoc, 'content'>[]> {
  const earlier =
    before === undefined
      ? {}
      : { $or: [{ openedAt: { $lt: before.at } }, { openedAt: before.at, _id: { $lt: before.id } }] };
  return store.runs
    .find({ campaignId, ...earlier }, { ...MAJORITY, projection: { content: 0 } })
    .sort({ openedAt: -1, _id: -1 })
    .limit(limit)
    .toArray();
}

/** Lets freezing try again after it had failed for good. */
export async function resetFreezing(store: Store, runId: string, freezeBase: number): Promise<void> {
  await store.runs.updateOne({ _id: runId, status: 'freezing' }, { $set: { freezeBase } });
}

/** Closes the books. Filter: sending, and no order came since they were summed. */
export async function finishRun(
  store: Store,
  read: Pick<RunDoc, '_id' | 'orderNo'>,
  status: 'finished' | 'cancelled',
  report: RunReport,
  workerId: string,
): Promise<boolean> {
  const last = lastCheckpoint(report);
  const result = await store.runs.updateOne(
    { _id: read._id, status: 'sending', orderNo: read.orderNo },
    {
      $set: { status, report, checkpoint: last, ...heartbeatFields({ status, workerId }, last) },
      $currentDate: { 'heartbeat.at': true },
    },
  );
  return result.matchedCount === 1;
}

/**
 * Corrects the report of a closed run. Filter: closed, no order came since the recount, and the report is the one that was
 * read before it: of two recounts the one that began earlier must not undo the other's. While no order comes the ledger
 * only ever turns doubts into truths, so a report that has changed never comes back.
 */
export async function setReport(
  store: Store,
  read: Pick<RunDoc, '_id' | 'orderNo' | 'status'> & Required<Pick<RunDoc, 'report'>>,
  report: RunReport,
): Promise<boolean> {
  const { sent, failed, skipped, unknown } = read.report;
  const result = await store.runs.updateOne(
    {
      _id: read._id,
      status: read.status,
      orderNo: read.orderNo,
      'report.sent': sent,
      'report.failed': failed,
      'report.skipped': skipped,
      'report.unknown': unknown,
    },
    { $set: { report, checkpoint: lastCheckpoint(report) } },
  );
  return result.matchedCount === 1;
}

function lastCheckpoint({ total, ...settled }: RunReport): Checkpoint {
  return checkpointOf({ ...emptyCounts(), ...settled }, total);
}

export async function cacheProgress(
  store: Store,
  runId: string,
  progress: NonNullable<RunDoc['progress']>,
): Promise<void> {
  await store.runs.updateOne({ _id: runId }, { $set: { progress } }, { writeConcern: { w: 1 } });
}

export async function runNamesAudience(store: Store, audienceId: string): Promise<boolean> {
  return (await store.runs.countDocuments({ audienceId }, { limit: 1, ...MAJORITY })) > 0;
}

/** Is this run still waiting for its audience? */
export async function unfinishedFreezing(store: Store, runId: string): Promise<boolean> {
  return (await store.runs.countDocuments({ _id: runId, status: 'freezing' }, { limit: 1, ...MAJORITY })) > 0;
}
