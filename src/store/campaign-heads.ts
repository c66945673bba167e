/**
 * Campaigns as recovery sees them, in batches by an index, whoever wrote them; adopting what another program wrote, and the
 * ids of their alarms. Invariant: nothing here changes what a campaign is about, and a document is adopted only once.
 */
import { type Filter, ObjectId } from 'mongodb';
import type { CampaignStatus } from '../core/campaign-machine.ts';
import type { CampaignDoc } from './documents.ts';
import { MAJORITY, type Store } from './store.ts';

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
} as const satisfies Partial<Record<keyof CampaignDoc, 1>>;
/** What recovery reads. Documents of another program may lack all but `_id` and `status`. */
export type CampaignHead = Pick<CampaignDoc, '_id' | 'status'> &
  Partial<Pick<CampaignDoc, keyof typeof HEAD>>;

const FIRST_ID = new ObjectId('000000000000000000000000');

/** Other programs may use ids of any type. */
export const hasObjectId = (head: { _id: unknown }): boolean => head._id instanceof ObjectId;

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

/** A raw document, as another program may have written it. */
export async function readRaw(store: Store, id: ObjectId): Promise<Record<string, unknown> | null> {
  return (await store.campaigns.findOne({ _id: id })) as Record<string, unknown> | null;
}

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
