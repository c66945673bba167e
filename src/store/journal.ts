/** The journal: what happened to a campaign, and why. For people; nothing is decided by it. Kept for `journalDays`. */
import { ObjectId } from 'mongodb';
import type { Logger } from '../logger.ts';
import { type JournalDoc, SCHEMA_VERSION } from './documents.ts';
import { isDuplicateKey, type Store } from './store.ts';

export type JournalEntry = Pick<JournalDoc, 'kind'> & {
  readonly campaignId?: ObjectId | string | undefined;
  readonly runId?: string;
  readonly detail?: Record<string, unknown>;
};

export interface Journal {
  /** Writes entries. Never throws: an entry that cannot be written is logged instead. */
  write(...entries: JournalEntry[]): Promise<void>;
  /** Writes an entry under a key of its own. False: it is there already. Throws where it cannot be written. */
  writeOnce(key: string, entry: JournalEntry): Promise<boolean>;
  read(campaignId: ObjectId, limit: number): Promise<JournalDoc[]>;
}

export function createJournal(store: Store, workerId: string, logger: Logger, now: () => Date): Journal {
  const documentOf = ({ kind, campaignId, runId, detail }: JournalEntry): JournalDoc => ({
    at: now(),
    campaignId: campaignId === undefined ? null : new ObjectId(campaignId),
    ...(runId === undefined ? {} : { runId }),
    kind,
    ...(detail === undefined ? {} : { detail }),
    workerId,
    schemaVersion: SCHEMA_VERSION,
  });
  return {
    writeOnce: async (key, entry) => {
      try {
        await store.journal.insertOne({ _id: key, ...documentOf(entry) });
        return true;
      } catch (error) {
        if (isDuplicateKey(error)) return false;
        throw error;
      }
    },
    write: async (...entries) => {
      if (entries.length === 0) return;
      try {
        await store.journal.insertMany(entries.map(documentOf), { ordered: false });
      } catch (error) {
        logger.warn({ error, kinds: entries.map((entry) => entry.kind) }, 'journal entry not written');
      }
    },
    read: (campaignId, limit) =>
      store.journal.find({ campaignId }).sort({ at: 1, _id: 1 }).limit(limit).toArray(),
  };
}

/** The latest entries of one kind of a campaign, the latest first. */
export async function latestEntries(
  store: Store,
  campaignId: ObjectId,
  kind: string,
  limit: number,
): Promise<JournalDoc[]> {
  return store.journal.find({ campaignId, kind }).sort({ at: -1, _id: -1 }).limit(limit).toArray();
}
