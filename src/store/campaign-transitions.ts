/**
 * What changes a campaign: every write is guarded by what was read (status, rev), so two people, two workers or a person
 * and a worker never undo each other. `null` or `false` means that the guard did not match: read again and decide anew.
 */
import type { Filter, UpdateFilter } from 'mongodb';
import type { CampaignStatus } from '../core/campaign-machine.ts';
import type { SkippedOccurrences } from '../core/misfire.ts';
import type { Order } from '../core/orders.ts';
import type { Recurrence } from '../core/recurrence-rule.ts';
import type { CampaignDoc, OpenRunRef, StatusReason } from './documents.ts';
import type { Store } from './store.ts';

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

/** A worker's own verdict on a campaign (freezing failed for good). Filter: still processing, rev as read. */
export async function failCampaign(
  store: Store,
  read: Pick<CampaignDoc, '_id' | 'rev'>,
  reason: StatusReason,
): Promise<boolean> {
  const result = await store.campaigns.updateOne(
    { _id: read._id, status: 'processing', rev: read.rev },
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
