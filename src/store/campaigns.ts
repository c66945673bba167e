/**
 * The campaigns: every write is guarded by what was read (status, rev), so two people, two workers or a person and a worker
 * never undo each other. `null` or `false` means that the guard did not match: read again and decide anew.
 */
import { type Filter, MongoServerError, ObjectId, type UpdateFilter } from 'mongodb';
import { CAMPAIGN_STATUSES, type CampaignStatus } from '../core/campaign-machine.ts';
import type { SkippedOccurrences } from '../core/misfire.ts';
import type { Order } from '../core/orders.ts';
import { type CampaignDoc, type OpenRunRef, SCHEMA_VERSION, type StatusReason } from './documents.ts';
import { isDuplicateKey, MAJORITY, type Store } from './store.ts';

/** What a poll reads of a campaign that has an open run. */
export type OpenCampaign = Pick<
  CampaignDoc,
  | '_id'
  | 'name'
  | 'status'
  | 'messenger'
  | 'priority'
  | 'rev'
  | 'order'
  | 'openRuns'
  | 'nextRunAt'
  | 'schedule'
  | 'pauseOnFailure'
  | 'schemaVersion'
>;
/** What recovery reads. Documents of another program may lack all but `_id` and `status`. */
export type CampaignHead = Pick<CampaignDoc, '_id' | 'status'> &
  Partial<
    Pick<
      CampaignDoc,
      'name' | 'rev' | 'nextRunAt' | 'openRuns' | 'agendaJobId' | 'schemaVersion' | 'messenger' | 'schedule'
    >
  >;

const HEAD = {
  name: 1,
  status: 1,
  rev: 1,
  nextRunAt: 1,
  openRuns: 1,
  agendaJobId: 1,
  schemaVersion: 1,
  messenger: 1,
  schedule: 1,
};
const OPEN = {
  name: 1,
  status: 1,
  messenger: 1,
  priority: 1,
  rev: 1,
  order: 1,
  openRuns: 1,
  nextRunAt: 1,
  schedule: 1,
  pauseOnFailure: 1,
  schemaVersion: 1,
};

const INSERT_REPEATS = 3;
const INSERT_PAUSE_MS = 500;

export const newId = (): ObjectId => new ObjectId();
export const parseId = (id: string): ObjectId | undefined =>
  /^[0-9a-f]{24}$/i.test(id) ? new ObjectId(id) : undefined;

/**
 * Inserts a campaign under its own id. Repeated where the answer may have been lost: whoever is told that it failed would
 * create it again, and everybody would get it twice.
 */
export async function insertCampaign(store: Store, campaign: CampaignDoc): Promise<void> {
  for (let failures = 0; ; failures += 1) {
    try {
      await store.campaigns.insertOne(campaign);
      return;
    } catch (error) {
      if (failures > 0 && isDuplicateKey(error)) return; // the first try had been applied
      if (error instanceof MongoServerError || failures === INSERT_REPEATS) throw error;
      await new Promise((resolve) => setTimeout(resolve, INSERT_PAUSE_MS));
    }
  }
}

export async function readCampaign(store: Store, id: ObjectId): Promise<CampaignDoc | null> {
  return store.campaigns.findOne({ _id: id }, MAJORITY);
}

export async function listCampaigns(
  store: Store,
  filter: { status?: CampaignStatus; name?: string; after?: ObjectId },
  limit: number,
): Promise<CampaignDoc[]> {
  return store.campaigns
    .find(
      {
        schemaVersion: { $exists: true }, // another program's is shown when it was adopted
        ...(filter.status === undefined ? {} : { status: filter.status }),
        ...(filter.name === undefined ? {} : { name: filter.name }),
        ...(filter.after === undefined ? {} : { _id: { $gt: filter.after } }),
      },
      { ...MAJORITY, projection: { content: 0 } },
    )
    .sort({ _id: 1 })
    .limit(limit)
    .toArray();
}

/** All campaigns with an open run: one query a second for all of them together. */
export async function openCampaigns(store: Store): Promise<OpenCampaign[]> {
  // The statuses are all there are: named, they let the server use the index, whose first key they are.
  return store.campaigns
    .find({ status: { $in: [...CAMPAIGN_STATUSES] }, 'openRuns.0': { $exists: true } }, { projection: OPEN })
    .toArray();
}

export interface CampaignChange {
  readonly status?: CampaignStatus;
  readonly statusReason?: StatusReason;
  readonly sendAt?: Date;
  readonly order?: Order;
  /** Runs that become open: asked for by a person, or closed ones on which an order has to act. */
  readonly open?: readonly OpenRunRef[];
  /** What later runs are made of. */
  readonly fields?: Readonly<Record<string, unknown>>;
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

/** Keeps the id of the campaigns' alarms true. */
export async function setAgendaJobIds(
  store: Store,
  entries: readonly { id: ObjectId; agendaJobId: string }[],
): Promise<void> {
  if (entries.length === 0) return;
  await store.campaigns.bulkWrite(
    entries.map(({ id, agendaJobId }) => ({
      updateOne: {
        // One that has ended meanwhile has no alarm any more.
        filter: {
          _id: id,
          agendaJobId: { $ne: agendaJobId },
          $or: [{ status: { $in: ['scheduled', 'processing'] } }, { 'openRuns.0': { $exists: true } }],
        },
        update: { $set: { agendaJobId } },
      },
    })),
    { ordered: false },
  );
}

/** Nothing is left to ring for. Filter: status and rev as read, so that a campaign woken meanwhile keeps its alarm's id. */
export async function clearAgendaJobId(
  store: Store,
  read: Pick<CampaignDoc, '_id' | 'status' | 'rev'>,
): Promise<void> {
  await store.campaigns.updateOne(
    { _id: read._id, status: read.status, rev: read.rev },
    { $unset: { agendaJobId: '' } },
  );
}

/** Recovery's look at all campaigns of one status (due before an instant; null: without one), in batches, by an index. */
export async function* headBatches(
  store: Store,
  status: CampaignStatus,
  dueBefore: Date | null | undefined,
  size: number,
): AsyncGenerator<CampaignHead[]> {
  const due = dueBefore === null ? null : { $lte: dueBefore };
  const filter = dueBefore === undefined ? { status } : { status, nextRunAt: due };
  const order = dueBefore === undefined ? { status: 1, _id: 1 } : { status: 1, nextRunAt: 1 };
  const cursor = store.campaigns
    .find<CampaignHead>(filter as Filter<CampaignDoc>, { projection: HEAD, ...MAJORITY })
    .sort(order as Record<string, 1>)
    .batchSize(size);
  let batch: CampaignHead[] = [];
  for await (const head of cursor) {
    batch.push(head);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

/** The next campaigns of a status after a position, for a look that rolls over all of them. */
export async function headsAfter(
  store: Store,
  status: CampaignStatus,
  after: ObjectId | undefined,
  limit: number,
): Promise<CampaignHead[]> {
  return store.campaigns
    .find<CampaignHead>(
      { status, _id: { $gt: after ?? FIRST_ID } }, // compared with ObjectIds only: other programs may use other ids
      { projection: HEAD, ...MAJORITY },
    )
    .sort({ status: 1, _id: 1 })
    .limit(limit)
    .toArray();
}

export async function readHeadsById(store: Store, ids: readonly ObjectId[]): Promise<CampaignHead[]> {
  return store.campaigns.find({ _id: { $in: [...ids] } }, { projection: HEAD, ...MAJORITY }).toArray();
}

const FIRST_ID = new ObjectId('000000000000000000000000');
/** Other programs may use ids of any type. */
export const hasObjectId = (head: { _id: unknown }): boolean => head._id instanceof ObjectId;
export const isForeign = (head: { schemaVersion?: number }): boolean => head.schemaVersion === undefined;
export const isNewer = (head: { schemaVersion?: number }): boolean =>
  (head.schemaVersion ?? 0) > SCHEMA_VERSION;

/** Makes a document that another program wrote ours. Filter: nobody has done so yet, status as read. */
export async function adoptCampaign(
  store: Store,
  read: { _id: ObjectId; status: CampaignStatus },
  fields: Omit<CampaignDoc, '_id' | 'name'>,
): Promise<boolean> {
  const result = await store.campaigns.updateOne(
    { _id: read._id, status: read.status, schemaVersion: { $exists: false } },
    { $set: fields },
  );
  return result.matchedCount === 1;
}

/** A raw document, as another program may have written it. */
export async function readRaw(store: Store, id: ObjectId): Promise<Record<string, unknown> | null> {
  return (await store.campaigns.findOne({ _id: id })) as Record<string, unknown> | null;
}

export async function namesAudience(store: Store, audienceId: string): Promise<boolean> {
  return (
    (await store.campaigns.countDocuments({ 'audience.audienceId': audienceId }, { limit: 1, ...MAJORITY })) >
    0
  );
}
