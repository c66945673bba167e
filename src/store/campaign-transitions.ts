/**
 * What changes a campaign: every write is guarded by what was read (status, rev), so two people, two workers or a person
 * and a worker never undo each other. `null` or `false` means that the guard did not match: read again and decide anew.
 */
import type { Document, Filter, UpdateFilter } from 'mongodb';
import { BREAKER_OPEN, type CampaignStatus, isHeldByBreaker } from '../core/campaign-machine.ts';
import type { SkippedOccurrences } from '../core/misfire.ts';
import type { Order } from '../core/orders.ts';
import type { Recurrence } from '../core/recurrence-rule.ts';
import { type CampaignDoc, type OpenRunRef, SCHEMA_VERSION, type StatusReason } from './documents.ts';
import type { Store } from './store.ts';

const HELD_BY_BREAKER = { status: 'paused', 'statusReason.code': BREAKER_OPEN } as const;
/** Of a change of many campaigns at once, so many are told by name. */
const TOLD = 500;

/** What a change may set beside its status: what later runs are made of, and when they come. */
export type ChangeableFields = Partial<
  Pick<
    CampaignDoc,
    | 'name'
    | 'content'
    | 'limits'
    | 'priority'
    | 'metadata'
    | 'pauseOnFailure'
    | 'runsOpened'
    | 'leftOut'
    | 'lastOccurrence'
    | 'nextOccurrence'
    | 'nextRunAt'
  >
> & { 'schedule.recurrence'?: Recurrence };

export interface CampaignChange {
  readonly status?: CampaignStatus;
  readonly statusReason?: StatusReason;
  readonly sendAt?: Date;
  readonly order?: Order;
  /** Runs that become open: asked for by a person, or closed ones on which an order has to act. */
  readonly open?: readonly OpenRunRef[];
  /** What later runs are made of. */
  readonly fields?: Readonly<ChangeableFields>;
  readonly now: Date;
}

/**
 * A change by a person. Filter: status and rev as read, and the last occurrence, since a step of the rule is no change by
 * a person: what is decided about occurrences must not undo it.
 */
export async function changeCampaign(
  store: Store,
  read: Pick<CampaignDoc, '_id' | 'status' | 'rev' | 'lastOccurrence'>,
  change: CampaignChange,
): Promise<CampaignDoc | null> {
  const { status, statusReason, sendAt, order, open, fields, now } = change;
  const update: UpdateFilter<CampaignDoc> = {
    $set: {
      rev: read.rev + 1,
      updatedAt: now,
      ...(status === undefined ? {} : { status }),
      ...(statusReason === undefined ? {} : { statusReason }),
      ...(sendAt === undefined ? {} : { 'schedule.sendAt': sendAt, nextRunAt: sendAt }),
      ...(order === undefined ? {} : { order }),
      ...fields,
    } as UpdateFilter<CampaignDoc>['$set'] & object,
    ...(open === undefined ? {} : { $addToSet: { openRuns: { $each: [...open] } } }),
    ...(statusReason === undefined && status !== undefined ? { $unset: { statusReason: '' } } : {}),
  };
  const { _id, lastOccurrence = { $exists: false } } = read;
  return store.campaigns.findOneAndUpdate(
    { _id, status: read.status, rev: read.rev, lastOccurrence },
    update,
    { returnDocument: 'after' },
  );
}

/** Opens the run of a bulk campaign. Filter: still scheduled, rev as read. Nothing matched: opened, paused or cancelled. */
export async function openBulkRun(
  store: Store,
  read: Pick<CampaignDoc, '_id' | 'rev'>,
  run: OpenRunRef,
  now: Date,
): Promise<boolean> {
  const result = await store.campaigns.updateOne(
    { _id: read._id, status: 'scheduled', rev: read.rev },
    { $set: { status: 'processing', nextRunAt: now, openRuns: [run], updatedAt: now } },
  );
  return result.matchedCount === 1;
}

/** What a rule's next step makes of its campaign. */
export interface OccurrenceStep {
  /** Opens this run. */
  readonly run?: OpenRunRef;
  readonly lastOccurrence?: Date;
  readonly nextOccurrence: Date | null;
  readonly nextRunAt: Date | null;
  readonly leftOut: readonly SkippedOccurrences[];
  readonly now: Date;
}

/**
 * The durable tick of a recurring campaign: which occurrence was opened or left out, and when it rings next, in one write.
 * Filter: status, rev and the last occurrence as read, so two workers, or one that slept, never open or skip one twice.
 * Nothing matched: another worker did it, or a person changed the campaign: read again.
 */
export async function stepOccurrence(
  store: Store,
  read: Pick<CampaignDoc, '_id' | 'status' | 'rev' | 'lastOccurrence' | 'runsOpened' | 'openRuns'>,
  step: OccurrenceStep,
): Promise<CampaignDoc | null> {
  const { run, lastOccurrence, nextOccurrence, nextRunAt, leftOut, now } = step;
  return store.campaigns.findOneAndUpdate(
    {
      _id: read._id,
      status: read.status,
      rev: read.rev,
      lastOccurrence: read.lastOccurrence ?? { $exists: false },
      openRuns: read.openRuns,
    },
    {
      $set: {
        nextOccurrence,
        nextRunAt,
        updatedAt: now,
        ...(lastOccurrence === undefined ? {} : { lastOccurrence }),
        ...(leftOut.length === 0 ? {} : { leftOut: [...leftOut] }),
        ...(run === undefined ? {} : { status: 'processing', runsOpened: (read.runsOpened ?? 0) + 1 }),
      } as UpdateFilter<CampaignDoc>['$set'] & object,
      ...(run === undefined ? {} : { $push: { openRuns: run } }),
      ...(leftOut.length === 0 ? { $unset: { leftOut: '' } } : {}),
    },
    { returnDocument: 'after' },
  );
}

/** A rule has ended and no run is open. Filter: still so. */
export async function completeRecurring(
  store: Store,
  read: Pick<CampaignDoc, '_id' | 'rev'>,
  now: Date,
): Promise<boolean> {
  const result = await store.campaigns.updateOne(
    { _id: read._id, rev: read.rev, status: 'scheduled', openRuns: { $size: 0 } },
    { $set: { status: 'completed', nextRunAt: null, nextOccurrence: null, updatedAt: now } },
  );
  return result.matchedCount === 1;
}

/** A worker's own verdict on a campaign (freezing failed for good). Filter: still to be sent, rev as read. */
export async function failCampaign(
  store: Store,
  read: Pick<CampaignDoc, '_id' | 'rev'>,
  reason: StatusReason,
): Promise<boolean> {
  const result = await store.campaigns.updateOne(
    { _id: read._id, $or: [{ status: 'processing' }, HELD_BY_BREAKER], rev: read.rev },
    { $set: { status: 'failed', statusReason: reason, updatedAt: reason.at } },
  );
  return result.matchedCount === 1;
}

/**
 * Takes a run with closed books out of the campaign. Filter: status, rev, open runs and next time as read, and no order
 * for the run that it has not had. `then` is what becomes of the campaign; a pause counts as a change (rev + 1).
 */
export async function closeRunOnCampaign(
  store: Store,
  read: Pick<CampaignDoc, '_id' | 'rev' | 'status' | 'openRuns' | 'nextRunAt'>,
  run: { runId: string; orderNo: number },
  then: { status: CampaignStatus; statusReason?: StatusReason },
  now: Date,
): Promise<boolean> {
  const { status, statusReason } = then;
  const concerned = { $or: [{ 'order.runId': run.runId }, { 'order.kind': 'cancel' }] };
  const filter = {
    _id: read._id,
    rev: read.rev,
    status: read.status,
    openRuns: read.openRuns,
    nextRunAt: read.nextRunAt,
    $nor: [{ ...concerned, 'order.n': { $gt: run.orderNo } }],
  } as Filter<CampaignDoc>;
  const changes = status !== read.status;
  const result = await store.campaigns.updateOne(filter, {
    $pull: { openRuns: { runId: run.runId } },
    $set: {
      updatedAt: now,
      status,
      ...(statusReason === undefined ? {} : { statusReason, rev: read.rev + 1 }),
    },
    ...(changes && statusReason === undefined ? { $unset: { statusReason: '' } } : {}),
  });
  return result.matchedCount === 1;
}

/** Why a breaker pauses its campaigns; `openedBy`: a person has opened it. */
export interface PauseReason {
  readonly detail: string;
  readonly openedBy?: string;
}

/** A campaign that the breaker has paused, or let go on; as it was before. */
export type HeldCampaign = Pick<CampaignDoc, '_id' | 'name' | 'rev' | 'openRuns' | 'schedule'>;

/**
 * Pauses what is in progress with a messenger that does not work. Filter: processing, with an open run. One write for all,
 * which may be repeated by anybody: what a person or a worker changed meanwhile is left as it is. Where a person has opened
 * the breaker, what it held already gets the new reason, because it does not go on by itself any more. Returns those that
 * were changed, at most 500 of them.
 */
export async function pauseForBreaker(
  store: Store,
  messenger: string,
  because: PauseReason,
): Promise<HeldCampaign[]> {
  const { openedBy } = because;
  const inProgress: Filter<CampaignDoc> = { status: 'processing', 'openRuns.0': { $exists: true } };
  const otherwise: Filter<CampaignDoc> = { ...HELD_BY_BREAKER, 'statusReason.openedBy': { $ne: openedBy } };
  const filter = openedBy === undefined ? inProgress : { $or: [inProgress, otherwise] };
  const reason = { code: BREAKER_OPEN, messenger, ...because, by: 'breaker' };
  return changeMany(store, { ...filter, messenger, schemaVersion: { $lte: SCHEMA_VERSION } }, true, [
    {
      $set: {
        status: 'paused',
        statusReason: { $mergeObjects: [{ $literal: reason }, { at: '$$NOW' }] },
        rev: { $add: ['$rev', 1] },
        updatedAt: '$$NOW',
      },
    },
  ]);
}

/** Lets exactly those go on that the breaker has paused. Filter: still paused by it. Otherwise like the pause. */
export async function resumeForBreaker(store: Store, messenger: string): Promise<HeldCampaign[]> {
  const isOpen = { $gt: [{ $size: { $ifNull: ['$openRuns', []] } }, 0] };
  const filter: Filter<CampaignDoc> = {
    ...HELD_BY_BREAKER,
    messenger,
    schemaVersion: { $lte: SCHEMA_VERSION },
  };
  return changeMany(store, filter, false, [
    {
      $set: {
        status: { $cond: [isOpen, 'processing', 'scheduled'] },
        rev: { $add: ['$rev', 1] },
        updatedAt: '$$NOW',
      },
    },
    { $unset: 'statusReason' },
  ]);
}

/** `isHeld`: does the breaker hold them after the change? Who was changed by somebody else in between is not returned. */
async function changeMany(
  store: Store,
  filter: Filter<CampaignDoc>,
  isHeld: boolean,
  update: Document[],
): Promise<HeldCampaign[]> {
  const found = await store.campaigns
    .find<HeldCampaign>(filter, { projection: { name: 1, rev: 1, openRuns: 1, schedule: 1 } })
    .limit(TOLD)
    .toArray();
  if (found.length === 0) return [];
  await store.campaigns.updateMany(filter, update);
  const after = await store.campaigns
    .find(
      { _id: { $in: found.map(({ _id }) => _id) } },
      { projection: { rev: 1, status: 1, statusReason: 1 } },
    )
    .toArray();
  const changed = new Map(
    after.flatMap((one) => (isHeldByBreaker(one) === isHeld ? [[one._id.toHexString(), one.rev]] : [])),
  );
  return found.filter(({ _id, rev }) => changed.get(_id.toHexString()) === rev + 1);
}

/** How many campaigns the breaker of each messenger holds. */
export async function heldByBreakers(store: Store): Promise<Map<string, number>> {
  const rows = await store.campaigns
    .aggregate<{ _id: string; count: number }>([
      { $match: HELD_BY_BREAKER },
      { $group: { _id: '$messenger', count: { $sum: 1 } } },
    ])
    .toArray();
  return new Map(rows.map(({ _id, count }) => [_id, count]));
}
