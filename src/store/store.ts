/**
 * The connection, the collections and their indexes. Everything the rest of the package knows of MongoDB goes through the
 * modules of this folder. All writes are majority and journalled; reads that conclude something ask for majority too.
 */
import type {
  Collection,
  CreateIndexesOptions,
  Db,
  Document,
  IndexSpecification,
  OptionalUnlessRequiredId,
} from 'mongodb';
import mongoose, { type Connection } from 'mongoose';
import { systemClock } from '../clock.ts';
import { BREAKER_OPEN } from '../core/campaign-machine.ts';
import { withoutSecrets } from '../core/redaction.ts';
import { orAtDeadline } from '../deadline.ts';
import { CampaignSchedulerError } from '../errors.ts';
import { bounded } from './bounded.ts';
import type {
  AlertDoc,
  AudienceDoc,
  AudiencePageDoc,
  BreakerDoc,
  CampaignDoc,
  JournalDoc,
  LeaseDoc,
  LedgerPageDoc,
  RateDoc,
  RunDoc,
  WorkerDoc,
} from './documents.ts';

export interface Store {
  readonly connection: Connection;
  readonly db: Db;
  readonly campaigns: Collection<CampaignDoc>;
  readonly runs: Collection<RunDoc>;
  readonly audiences: Collection<AudienceDoc>;
  readonly audiencePages: Collection<AudiencePageDoc>;
  readonly ledgerPages: Collection<LedgerPageDoc>;
  readonly workers: Collection<WorkerDoc>;
  readonly leases: Collection<LeaseDoc>;
  readonly rates: Collection<RateDoc>;
  readonly breakers: Collection<BreakerDoc>;
  readonly journal: Collection<JournalDoc>;
  readonly alerts: Collection<AlertDoc>;
  /** Name of the collection of alarms. */
  readonly alarmsName: string;
  /** A replica set survives the loss of a server; a standalone does not. */
  readonly replicaSet: boolean;
  /** Closes the connection if this package opened it. */
  close(): Promise<void>;
}

export const DUPLICATE_KEY = 11000;
const CLOSE_MS = 5000;
export const MAJORITY = { readConcern: { level: 'majority' } } as const;

const DRIVER_OPTIONS = {
  appName: 'campaign-scheduler',
  serverSelectionTimeoutMS: 5000,
  connectTimeoutMS: 5000,
  socketTimeoutMS: 10_000,
  // A server that is back is seen within this time, not only when the next question has waited its full time for it.
  heartbeatFrequencyMS: 2000,
  autoIndex: false,
  autoCreate: false,
} as const;

export interface StoreOptions {
  readonly mongo: string | Connection;
  readonly collectionPrefix: string;
  readonly journalDays: number;
}

export function isDuplicateKey(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === DUPLICATE_KEY;
}

/** Inserts the documents that are not there yet, whoever made the others. Returns how many were new. */
export async function insertMissing<T extends Document>(
  collection: Collection<T>,
  documents: readonly OptionalUnlessRequiredId<T>[],
): Promise<number> {
  try {
    return (await collection.insertMany(documents as OptionalUnlessRequiredId<T>[], { ordered: false }))
      .insertedCount;
  } catch (error) {
    const failures = (error as { writeErrors?: { code?: number }[] }).writeErrors;
    if (!Array.isArray(failures) || failures.length === 0 || !failures.every(isDuplicateKey)) throw error;
    return documents.length - failures.length;
  }
}

/** Connects (or takes the host's connection), makes the indexes, and says clearly what is wrong when it cannot. */
export async function openStore(options: StoreOptions): Promise<Store> {
  const own = typeof options.mongo === 'string';
  const connection = await connect(options.mongo);
  try {
    const store = await describeStore(connection, options, own);
    await ensureIndexes(store, options.journalDays);
    return store;
  } catch (error) {
    if (own) await connection.close().catch(() => undefined);
    throw explain(error);
  }
}

async function connect(mongo: string | Connection): Promise<Connection> {
  if (typeof mongo !== 'string') {
    try {
      return await mongo.asPromise();
    } catch (error) {
      throw explain(error);
    }
  }
  let connection: Connection | undefined;
  try {
    connection = mongoose.createConnection(mongo, optionsFor(mongo));
    connection.on('error', () => undefined); // every operation reports its own failure
    return await connection.asPromise();
  } catch (error) {
    await connection?.close().catch(() => undefined);
    const told = explain(error);
    throw told instanceof CampaignSchedulerError ? told : unreachable(error); // no such host, no such file of keys, …
  }
}

/** Our time-outs, but for those that the connection string sets itself. */
function optionsFor(mongo: string): object {
  const named = mongo.toLowerCase();
  return Object.fromEntries(
    Object.entries(DRIVER_OPTIONS).filter(([name]) => !new RegExp(`[?&]${name.toLowerCase()}=`).test(named)),
  );
}

async function describeStore(connection: Connection, options: StoreOptions, own: boolean): Promise<Store> {
  const connected = connection.db as unknown as Db | undefined;
  if (connected === undefined) {
    throw new CampaignSchedulerError('mongo_unreachable', 'The mongoose connection is not connected.');
  }
  let closed = false;
  const db = bounded(connected, undefined, () => {
    if (closed) throw new CampaignSchedulerError('stopped', 'This scheduler has been stopped.');
  });
  const hello = await db.command({ hello: 1 });
  const collection = <T extends Document>(name: string): Collection<T> =>
    db.collection<T>(options.collectionPrefix + name, {
      writeConcern: { w: 'majority', journal: true },
      readPreference: 'primary', // whatever the connection's own settings are
      readConcern: { level: 'local' },
      promoteBuffers: true,
    });
  return {
    connection,
    db,
    campaigns: collection<CampaignDoc>('campaigns'),
    runs: collection<RunDoc>('campaign_runs'),
    audiences: collection<AudienceDoc>('audiences'),
    audiencePages: collection<AudiencePageDoc>('audience_pages'),
    ledgerPages: collection<LedgerPageDoc>('ledger_pages'),
    workers: collection<WorkerDoc>('workers'),
    leases: collection<LeaseDoc>('leases'),
    rates: collection<RateDoc>('rates'),
    breakers: collection<BreakerDoc>('breakers'),
    journal: collection<JournalDoc>('journal'),
    alerts: collection<AlertDoc>('alerts'),
    alarmsName: `${options.collectionPrefix}agendaJobs`,
    replicaSet: typeof hello.setName === 'string' || hello.msg === 'isdbgrid',
    close: async () => {
      closed = true;
      // The driver ends its sessions first, and may wait for ever for the answer (see `bounded.ts`).
      if (own) await orAtDeadline(connection.close(), CLOSE_MS, systemClock, () => undefined);
    },
  };
}

/** The index of ledger pages that have a zone. */
export const ZONE_INDEX = { runId: 1, status: 1, timezone: 1, orderNo: 1, n: 1 } as const;

async function ensureIndexes(store: Store, journalDays: number): Promise<void> {
  const make = async <T extends Document>(
    collection: Collection<T>,
    name: string,
    keys: IndexSpecification,
    options: CreateIndexesOptions = {},
  ): Promise<void> => {
    try {
      await collection.createIndex(keys, { name, ...options });
    } catch (error) {
      throw indexProblem(error, collection.collectionName, name);
    }
  };
  await Promise.all([
    make(store.campaigns, 'campaigns_due', { status: 1, nextRunAt: 1 }),
    make(store.campaigns, 'campaigns_status', { status: 1, _id: 1 }),
    make(
      store.campaigns,
      'campaigns_open',
      { status: 1, messenger: 1, priority: 1, rev: 1 },
      { partialFilterExpression: { 'openRuns.0': { $exists: true } } },
    ),
    make(
      store.campaigns,
      'campaigns_breaker',
      { 'statusReason.code': 1, status: 1, messenger: 1 },
      { partialFilterExpression: { 'statusReason.code': BREAKER_OPEN } },
    ),
    make(
      store.campaigns,
      'campaigns_audience',
      { 'audience.audienceId': 1 },
      { partialFilterExpression: { 'audience.audienceId': { $exists: true } } },
    ),
    make(store.runs, 'runs_audience', { audienceId: 1 }),
    make(store.runs, 'runs_campaign', { campaignId: 1, openedAt: -1, _id: -1 }),
    make(
      store.runs,
      'runs_unbegun',
      { unbegunAt: 1 },
      { partialFilterExpression: { unbegunAt: { $exists: true } } },
    ),
    make(store.audiences, 'audiences_owner', { 'owner.runId': 1, 'owner.attempt': 1 }),
    make(store.audiences, 'audiences_state', { state: 1, touchedAt: 1 }),
    make(
      store.audiencePages,
      'audience_recipient',
      { audienceId: 1, 'recipients.id': 1 },
      { unique: true, partialFilterExpression: { 'recipients.0': { $exists: true } } },
    ),
    make(store.audiencePages, 'audience_pages', { audienceId: 1, n: 1 }),
    make(
      store.audiencePages,
      'audience_zones',
      { audienceId: 1, timezone: 1, n: 1 },
      { partialFilterExpression: { timezone: { $exists: true } } },
    ),
    make(store.ledgerPages, 'ledger_pages', { runId: 1, n: 1 }),
    make(store.ledgerPages, 'ledger_claim', { runId: 1, status: 1, orderNo: 1, n: 1 }),
    make(store.ledgerPages, 'ledger_zones', ZONE_INDEX, {
      partialFilterExpression: { timezone: { $exists: true } },
    }),
    make(
      store.ledgerPages,
      'ledger_due',
      { runId: 1, dueAt: 1 },
      { partialFilterExpression: { status: 'waiting' } },
    ),
    make(
      store.ledgerPages,
      'ledger_claimed',
      { status: 1 },
      { partialFilterExpression: { status: 'claimed' } },
    ),
    make(
      store.ledgerPages,
      'ledger_late',
      { 'late.token': 1 },
      { partialFilterExpression: { 'late.0': { $exists: true } } },
    ),
    make(store.workers, 'workers_heartbeat', { heartbeatAt: 1 }, { expireAfterSeconds: 7 * 24 * 3600 }),
    make(store.rates, 'rates_ttl', { expiresAt: 1 }, { expireAfterSeconds: 0 }),
    make(store.journal, 'journal_campaign', { campaignId: 1, at: 1 }),
    make(store.alerts, 'alerts_raised', { raisedAt: -1, _id: -1 }),
    make(store.alerts, 'alerts_state', { state: 1, raisedAt: -1, _id: -1 }),
    make(store.alerts, 'alerts_campaign', { campaignId: 1, raisedAt: -1, _id: -1 }),
    make(store.alerts, 'alerts_ttl', { clearedAt: 1 }, { expireAfterSeconds: journalDays * 24 * 3600 }),
    make(store.journal, 'journal_ttl', { at: 1 }, { expireAfterSeconds: journalDays * 24 * 3600 }),
  ]);
}

function indexProblem(error: unknown, collection: string, name: string): unknown {
  const { code, codeName } = (error ?? {}) as { code?: unknown; codeName?: unknown };
  const conflicts = code === 85 || code === 86 || code === DUPLICATE_KEY;
  if (!conflicts) return error;
  const why =
    code === DUPLICATE_KEY
      ? 'the documents there break it'
      : 'an index with the same name or keys but other options exists';
  return new CampaignSchedulerError(
    'index_conflict',
    `The index \`${name}\` of the collection \`${collection}\` cannot be made: ${why} (${String(codeName ?? code)}). Drop the other index or set \`collectionPrefix\`.`,
    { cause: error },
  );
}

/** A driver error in our words. Never repeats the connection string. */
function explain(error: unknown): unknown {
  if (error instanceof CampaignSchedulerError) return error;
  const { name, code } = (error ?? {}) as { name?: string; code?: unknown };
  if (code === 18 || code === 8000 || /auth/i.test(String((error as { codeName?: unknown })?.codeName))) {
    return new CampaignSchedulerError('mongo_auth', 'MongoDB refused the user name or password.');
  }
  if (code === 13) {
    return new CampaignSchedulerError(
      'mongo_auth',
      'MongoDB requires authentication, or the user lacks a permission.',
    );
  }
  const away =
    name !== undefined && /ServerSelection|Network|Mongo(Parse|InvalidArgument|Timeout)/i.test(name);
  return away ? unreachable(error) : error;
}

function unreachable(error: unknown): CampaignSchedulerError {
  const [line = ''] = String((error as { message?: unknown } | null)?.message ?? error).split('\n');
  return new CampaignSchedulerError(
    'mongo_unreachable',
    `MongoDB cannot be reached: ${withoutSecrets(line)}`,
  );
}
