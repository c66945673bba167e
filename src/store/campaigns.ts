/**
 * The campaigns as documents: their ids, creating one, and reading them. What changes one is in `campaign-transitions.ts`,
 * what recovery looks at in `campaign-heads.ts`. Invariant: a creation whose answer was lost never makes a second campaign;
 * people are shown only what is ours.
 */
import { MongoServerError, ObjectId } from 'mongodb';
import { CAMPAIGN_STATUSES, type CampaignStatus } from '../core/campaign-machine.ts';
import { type CampaignDoc, SCHEMA_VERSION } from './documents.ts';
import { isDuplicateKey, MAJORITY, type Store } from './store.ts';

const OPEN = {
  name: 1,
  status: 1,
  statusReason: 1,
  messenger: 1,
  priority: 1,
  rev: 1,
  order: 1,
  openRuns: 1,
  nextRunAt: 1,
  schedule: 1,
  pauseOnFailure: 1,
  schemaVersion: 1,
} as const satisfies Partial<Record<keyof CampaignDoc, 1>>;
/** What a poll reads of a campaign that has an open run. */
export type OpenCampaign = Pick<CampaignDoc, '_id' | keyof typeof OPEN>;

const INSERT_REPEATS = 3;
const INSERT_PAUSE_MS = 500;

export const newId = (): ObjectId => new ObjectId();
export const parseId = (id: string): ObjectId | undefined =>
  /^[0-9a-f]{24}$/i.test(id) ? new ObjectId(id) : undefined;

export const isForeign = (head: { schemaVersion?: number }): boolean => head.schemaVersion === undefined;
export const isNewer = (head: { schemaVersion?: number }): boolean =>
  (head.schemaVersion ?? 0) > SCHEMA_VERSION;

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

/** Campaigns in one of these statuses, whoever wrote them, without their content, in the order of creation. */
export async function campaignsInStatus(
  store: Store,
  statuses: readonly CampaignStatus[],
  after: ObjectId | undefined,
  limit: number,
): Promise<CampaignDoc[]> {
  return store.campaigns
    .find(
      { status: { $in: [...statuses] }, ...(after === undefined ? {} : { _id: { $gt: after } }) },
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

export async function namesAudience(store: Store, audienceId: string): Promise<boolean> {
  return (
    (await store.campaigns.countDocuments({ 'audience.audienceId': audienceId }, { limit: 1, ...MAJORITY })) >
    0
  );
}
