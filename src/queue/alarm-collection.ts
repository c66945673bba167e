/**
 * Writes to alarms from outside a run: wake, insert, release. Owns the collection handle, which always writes
 * with majority and reads from the primary, whatever the connection's own settings are.
 *
 * Invariant: nothing here touches the lock of a running alarm (except `release`, which names its token), and a wake-up
 * is never lost: it can only bring the date nearer, and `wakeRev` tells the run in progress that it came.
 */
import {
  type AnyBulkWriteOperation,
  type Collection,
  type Db,
  type Document,
  type Filter,
  MongoBulkWriteError,
  MongoServerError,
  ObjectId,
} from 'mongodb';
import {
  ALARM_NAMES,
  type AlarmDocument,
  type AlarmEntry,
  type AlarmName,
  type AlarmState,
  assertAlarmEntry,
  campaignIdOf,
} from './alarm.ts';
import { IDENTITY_INDEX } from './alarm-indexes.ts';

const DUPLICATE_KEY = 11000;
const MAX_COLLISIONS = 5;

export type AlarmCollection = ReturnType<typeof alarmCollection>;

export function alarmCollection(db: Db, collectionName: string) {
  const collection: Collection<AlarmDocument> = db.collection<AlarmDocument>(collectionName, {
    writeConcern: { w: 'majority' },
    readPreference: 'primary',
    readConcern: { level: 'local' },
  });

  /**
   * Filter: the whole key (so that the server itself repeats a colliding upsert). Change: the earlier date wins,
   * `wakeRev` + 1, nothing else of an existing alarm. Fence: none, it may be repeated. Zero matches: it is inserted.
   */
  async function wake(name: AlarmName, campaignId: string, at: Date): Promise<string> {
    assertAlarmEntry({ name, campaignId, at });
    const isEarlier = { $and: [{ $eq: [{ $type: '$nextRunAt' }, 'date'] }, { $lt: ['$nextRunAt', at] }] };
    const change = [
      {
        $set: {
          type: 'normal',
          priority: { $ifNull: ['$priority', 0] },
          lockedAt: { $ifNull: ['$lockedAt', null] },
          disabled: { $ifNull: ['$disabled', null] },
          nextRunAt: { $cond: [isEarlier, '$nextRunAt', at] },
          wakeRev: { $add: [{ $ifNull: ['$wakeRev', 0] }, 1] },
        },
      },
    ];
    for (let collisions = 0; ; collisions++) {
      try {
        const alarm = await collection.findOneAndUpdate(keyOf({ name, campaignId }), change, {
          upsert: true,
          returnDocument: 'after',
          projection: { _id: 1 },
        });
        if (alarm) return alarm._id.toHexString();
      } catch (error) {
        if (!isDuplicateKey(error) || collisions >= MAX_COLLISIONS) throw error;
      }
    }
  }

  /** The alarms of these campaigns, in one query. Meant for up to 1,000 ids at a time. */
  async function find(campaignIds: readonly string[]): Promise<AlarmState[]> {
    if (campaignIds.length === 0) return [];
    const filter: Filter<AlarmDocument> = {
      name: { $in: [...ALARM_NAMES] },
      'data.campaignId': { $in: [...campaignIds] },
    };
    // Named, because the server may judge a plan that reads every alarm by its first answers, which are just as good.
    return (await collection.find(filter, { hint: IDENTITY_INDEX }).toArray()).map(stateOf);
  }

  /**
   * Inserts the alarms that do not exist; the others stay as they are. For one caller at a time (under a lease): many
   * colliding callers are slow here, they take `upsertMissing`. Returns the job ids by campaign id, old ones included.
   */
  async function insertMissing(entries: readonly AlarmEntry[]): Promise<Map<string, string>> {
    entries.forEach(assertAlarmEntry);
    const ids = new Map<string, string>();
    if (entries.length === 0) return ids;
    const fresh = entries.map((entry) => ({
      _id: new ObjectId(),
      name: entry.name,
      data: { campaignId: entry.campaignId },
      ...fieldsOfNew(entry),
    }));
    const existing = new Set<number>();
    try {
      await collection.insertMany(fresh, { ordered: false });
    } catch (error) {
      for (const index of collidedIndexes(error)) existing.add(index);
    }
    fresh.forEach((alarm, index) => {
      if (!existing.has(index)) ids.set(alarm.data.campaignId, alarm._id.toHexString());
    });
    await addIds(
      ids,
      entries.filter((_, index) => existing.has(index)),
    );
    return ids;
  }

  /** As `insertMissing`, but several callers may do it at once. About six times slower when nobody else does. */
  async function upsertMissing(entries: readonly AlarmEntry[]): Promise<Map<string, string>> {
    entries.forEach(assertAlarmEntry);
    const ids = new Map<string, string>();
    let left = entries;
    for (let collisions = 0; left.length > 0; collisions++) {
      const batch = left;
      try {
        await collection.bulkWrite(batch.map(insertWhereMissing), { ordered: false });
        left = [];
      } catch (error) {
        const collided = collidedIndexes(error);
        if (collisions >= MAX_COLLISIONS) throw error;
        left = batch.filter((_, index) => collided.has(index));
      }
    }
    await addIds(ids, entries);
    return ids;
  }

  /**
   * Takes the alarm from a dead worker: it rings at once. Filter: id and the token as read. Zero matches: the worker
   * ended its run meanwhile, or another took the alarm; nothing is to be done.
   */
  async function release(jobId: string, lockToken: string): Promise<boolean> {
    const change = [{ $set: { lockedAt: null, lockToken: null, nextRunAt: '$$NOW' } }];
    const result = await collection.updateOne({ _id: new ObjectId(jobId), lockToken }, change);
    return result.matchedCount === 1;
  }

  /** The alarms that are held, at most `limit`: usually those of this moment. */
  async function locked(limit: number): Promise<AlarmState[]> {
    const filter: Filter<AlarmDocument> = { name: { $in: [...ALARM_NAMES] }, lockedAt: { $gt: new Date(0) } };
    const found = await collection.find(filter).limit(limit).toArray();
    return found.filter((alarm) => campaignIdOf(alarm.data) !== undefined).map(stateOf);
  }

  async function addIds(ids: Map<string, string>, entries: readonly AlarmEntry[]): Promise<void> {
    if (entries.length === 0) return;
    const wanted = new Set(entries.map((entry) => `${entry.name} ${entry.campaignId}`));
    for (const alarm of await find(entries.map((entry) => entry.campaignId))) {
      if (wanted.has(`${alarm.name} ${alarm.campaignId}`)) ids.set(alarm.campaignId, alarm.id);
    }
  }

  return { collection, wake, find, locked, insertMissing, upsertMissing, release };
}

function keyOf(alarm: { name: string; campaignId: string }): Filter<AlarmDocument> {
  return { name: alarm.name, 'data.campaignId': alarm.campaignId };
}

/** What `wake` writes for a new alarm, apart from the key. */
function fieldsOfNew(entry: AlarmEntry) {
  return {
    type: 'normal' as const,
    priority: 0,
    lockedAt: null,
    disabled: null,
    nextRunAt: entry.at,
    wakeRev: 1,
  };
}

function insertWhereMissing(entry: AlarmEntry): AnyBulkWriteOperation<AlarmDocument> {
  return { updateOne: { filter: keyOf(entry), update: { $setOnInsert: fieldsOfNew(entry) }, upsert: true } };
}

function stateOf(alarm: AlarmDocument): AlarmState {
  return {
    id: alarm._id.toHexString(),
    name: alarm.name as AlarmName,
    campaignId: alarm.data.campaignId,
    nextRunAt: alarm.nextRunAt ?? null,
    lockedAt: alarm.lockedAt ?? null,
    lockToken: alarm.lockToken ?? null,
    lastModifiedBy: alarm.lastModifiedBy ?? null,
  };
}

/** Judged by the code alone: the message of this error has more than one wording. */
function isDuplicateKey(error: unknown): boolean {
  return error instanceof MongoServerError && error.code === DUPLICATE_KEY;
}

/** The entries of a bulk write that exist already. Rethrows when anything else went wrong too. */
function collidedIndexes(error: unknown): Set<number> {
  if (!(error instanceof MongoBulkWriteError) || hasWriteConcernError(error)) throw error;
  const failures = [error.writeErrors].flat();
  if (failures.length === 0 || failures.some((failure) => failure.code !== DUPLICATE_KEY)) throw error;
  return new Set(failures.map((failure) => failure.index));
}

function hasWriteConcernError(error: MongoBulkWriteError): boolean {
  const details: Document | undefined = error.result?.getWriteConcernError();
  return details !== undefined;
}
