/**
 * The two indexes of the alarms' collection, and the words for what can go wrong when they are made. Agenda's own
 * index is not made: it reads every pending date of a name at each poll, and does not keep one alarm per campaign.
 */
import { type Collection, type IndexDescription, MongoError, MongoServerError } from 'mongodb';
import type { Clock } from '../clock.ts';
import { orAtDeadline } from '../deadline.ts';
import { CampaignSchedulerError } from '../errors.ts';
import type { AlarmDocument } from './alarm.ts';

/** One alarm per campaign. */
export const IDENTITY_INDEX = 'jobs_identity';

const INDEXES: IndexDescription[] = [
  { name: 'jobs_lock', key: { name: 1, lockedAt: 1, nextRunAt: 1, priority: -1 } },
  {
    name: IDENTITY_INDEX,
    key: { name: 1, 'data.campaignId': 1 },
    unique: true,
    partialFilterExpression: { 'data.campaignId': { $exists: true } },
  },
];

/** 85 and 86: an index of this name or key exists with other options; 11000 and 67: unique, but the data is not. */
const CONFLICTS = new Set<unknown>([85, 86, 67, 11000]);
const NOT_ALLOWED = new Set<unknown>([13, 18, 8000]);

/** Makes the indexes where they are missing. Throws `index_conflict`, `mongo_auth` or, at the deadline, `mongo_unreachable`. */
export async function ensureAlarmIndexes(
  collection: Collection<AlarmDocument>,
  options: { deadlineMs: number; clock: Clock },
): Promise<void> {
  const { deadlineMs, clock } = options;
  const work = collection.createIndexes(INDEXES).then(() => {});
  try {
    await orAtDeadline(work, deadlineMs, clock, () => {
      const message = `MongoDB gave no answer within ${deadlineMs} ms while the indexes of ${collection.collectionName} were made. Is the address right and the server up?`;
      throw new CampaignSchedulerError('mongo_unreachable', message);
    });
  } catch (error) {
    throw explain(error, collection.collectionName);
  }
}

function explain(error: unknown, collectionName: string): unknown {
  if (!(error instanceof MongoError)) return error;
  if (error instanceof MongoServerError) {
    if (CONFLICTS.has(error.code)) {
      const message = `The indexes of ${collectionName} cannot be made: ${error.message}. Remove the conflicting index or the duplicate jobs, or choose another collection.`;
      return new CampaignSchedulerError('index_conflict', message, { cause: error });
    }
    if (NOT_ALLOWED.has(error.code)) {
      const message = `MongoDB does not allow to make the indexes of ${collectionName}: ${error.message}`;
      return new CampaignSchedulerError('mongo_auth', message, { cause: error });
    }
  }
  const message = `MongoDB cannot be used for ${collectionName}: ${error.message}`;
  return new CampaignSchedulerError('mongo_unreachable', message, { cause: error });
}
