/** The journal: what happened to a campaign, and why. For people; nothing is decided by it. Kept for `journalDays`. */
import { ObjectId } from 'mongodb';
import type { Logger } from '../logger.ts';
import { type JournalDoc, SCHEMA_VERSION } from './documents.ts';
import type { Store } from './store.ts';

export type JournalEntry = Pick<JournalDoc, 'kind'> & {
  readonly campaignId?: ObjectId | string | undefined;
  readonly runId?: string;
  readonly detail?: Record<string, unknown>;
};

export interface Journal {
  /** Writes entries. Never throws: an entry that cannot be written is logged instead. */
  write(...entries: JournalEntry[]): Promise<void>;
  read(campaignId: ObjectId, limit: number): Promise<JournalDoc[]>;
}

export function createJournal(store: Store, workerId: string, logger: Logger, now: () => Date): Journal {
  return {
    write: async (...entries) => {
      if (entries.length === 0) return;
      try {
        await store.journal.insertMany(
          entries.map(({ kind, campaignId, runId, detail }) => ({
            at: now(),
            campaignId: campaignId === undefined ? null : new ObjectId(campaignId),
            ...(runId === undefined ? {} : { runId }),
            kind,
            ...(detail === undefined ? {} : { detail }),
            workerId,
            schemaVersion: SCHEMA_VERSION,
          })),
          { ordered: false },
        );
      } catch (error) {
        logger.warn({ error, kinds: entries.map((entry) => entry.kind) }, 'journal entry not written');
      }
    },
    read: (campaignId, limit) =>
      store.journal.find({ campaignId }).sort({ at: 1, _id: 1 }).limit(limit).toArray(),
  };
}
