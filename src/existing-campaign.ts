/**
 * A campaign by the id that a person gave. Invariant: an id that cannot be one, and a document that is not there, are the
 * same refusal, `not_found`.
 */
import { CampaignSchedulerError } from './errors.ts';
import { parseId, readCampaign } from './store/campaigns.ts';
import type { CampaignDoc } from './store/documents.ts';
import type { Store } from './store/store.ts';

/** One of ours; null also for one of another program that was not adopted yet. */
export async function findCampaign(store: Store, id: string): Promise<CampaignDoc | null> {
  const found = await read(store, id);
  return found?.schemaVersion === undefined ? null : found;
}

/** One of ours. @throws CampaignSchedulerError `not_found`. */
export async function existingCampaign(store: Store, id: string): Promise<CampaignDoc> {
  return (await findCampaign(store, id)) ?? notFound(id);
}

/** Whoever wrote it: a document of another program may lack any field. @throws CampaignSchedulerError `not_found`. */
export async function anyCampaign(store: Store, id: string): Promise<CampaignDoc> {
  return (await read(store, id)) ?? notFound(id);
}

function notFound(id: string): never {
  throw new CampaignSchedulerError('not_found', `There is no campaign \`${String(id).slice(0, 100)}\`.`);
}

async function read(store: Store, id: string): Promise<CampaignDoc | null> {
  const objectId = parseId(id);
  return objectId === undefined ? null : readCampaign(store, objectId);
}
