/**
 * The alerts, one document a key. Invariant: every change names the `rev` it was decided on, so of two workers that see
 * the same trouble one writes and the other finds that it has been written; `token` names the change itself, so whoever
 * lost the answer knows its own write again.
 */
import type { Filter } from 'mongodb';
import type { AlertLevel, AlertNews } from '../core/alert-policy.ts';
import { type AlertDoc, SCHEMA_VERSION } from './documents.ts';
import { isDuplicateKey, MAJORITY, type Store } from './store.ts';

/** An alert as it is shown, and handed to listeners and sinks. All times are the server's. */
export interface Alert {
  readonly key: string;
  readonly kind: string;
  readonly level: AlertLevel;
  readonly message: string;
  readonly detail?: Readonly<Record<string, unknown>>;
  readonly campaignId?: string;
  readonly state: 'raised' | 'cleared';
  readonly raisedAt: Date;
  /** At most a minute behind while it is raised. */
  readonly lastSeenAt: Date;
  readonly clearedAt: Date | null;
  /** How often it has been raised. */
  readonly count: number;
  readonly acknowledged?: { readonly by: string; readonly at: Date };
}

export function alertOf(document: AlertDoc): Alert {
  const { _id, detail, campaignId, acknowledged } = document;
  return {
    key: _id,
    kind: document.kind,
    level: document.level,
    message: document.message,
    ...(detail === undefined ? {} : { detail }),
    ...(campaignId === undefined ? {} : { campaignId }),
    state: document.state,
    raisedAt: document.raisedAt,
    lastSeenAt: document.lastSeenAt,
    clearedAt: document.clearedAt,
    count: document.count,
    ...(acknowledged === undefined ? {} : { acknowledged }),
  };
}

export async function readAlert(store: Store, key: string): Promise<AlertDoc | null> {
  return store.alerts.findOne({ _id: key }, MAJORITY);
}

export async function readAlerts(store: Store, keys: readonly string[]): Promise<AlertDoc[]> {
  return store.alerts.find({ _id: { $in: [...keys] } }, MAJORITY).toArray();
}

/** The raised ones of these kinds, and those of any kind that nobody has been told of. */
export async function raisedAlerts(store: Store, kinds: readonly string[]): Promise<AlertDoc[]> {
  return store.alerts
    .find(
      { state: 'raised', $or: [{ kind: { $in: [...kinds] } }, { quietUntil: { $exists: true } }] },
      MAJORITY,
    )
    .toArray();
}

/** How many are raised; counted up to `most`. */
export async function countRaised(store: Store, most: number): Promise<number> {
  return store.alerts.countDocuments({ state: 'raised' }, { limit: most });
}

/** What a change is decided on, and its own name. */
export interface AlertChange {
  /** As read; null: there is none. */
  readonly read: AlertDoc | null;
  readonly token: string;
  readonly tell: boolean;
}

/**
 * Raises an alert. Filter: `rev` as read, or that there is none. Null: somebody else changed it meanwhile. A new round
 * that is told forgets who acknowledged the last one.
 */
export async function raiseAlert(
  store: Store,
  news: AlertNews,
  { read, token, tell }: AlertChange,
): Promise<AlertDoc | null> {
  return change(store, news.key, read, {
    ...contentOf(news),
    state: 'raised',
    raisedAt: '$$NOW',
    lastSeenAt: '$$NOW',
    clearedAt: null,
    count: (read?.count ?? 0) + 1,
    token,
    ...(tell ? { quietUntil: '$$REMOVE', acknowledged: '$$REMOVE' } : {}),
  });
}

/** Writes what was seen last of a raised alert. Filter: `rev` as read. Null: somebody else changed it meanwhile. */
export async function updateAlert(
  store: Store,
  news: AlertNews,
  { read, token, tell }: AlertChange,
): Promise<AlertDoc | null> {
  const told = tell ? { quietUntil: '$$REMOVE' } : {};
  return change(store, news.key, read, { ...contentOf(news), lastSeenAt: '$$NOW', token, ...told });
}

/**
 * Clears an alert. Filter: `rev` as read. Null: somebody else changed it meanwhile. Where its end is told the cool-down
 * begins.
 */
export async function clearAlert(
  store: Store,
  key: string,
  { read, token, tell }: AlertChange,
  cooldownMs: number,
): Promise<AlertDoc | null> {
  return change(store, key, read, {
    state: 'cleared',
    clearedAt: '$$NOW',
    token,
    ...(tell ? { quietUntil: { $add: ['$$NOW', cooldownMs] } } : {}),
  });
}

/** Nothing of it is read as an expression of the server. */
function contentOf({ kind, level, message, detail, campaignId }: AlertNews) {
  return {
    kind,
    level,
    message: { $literal: message },
    detail: detail === undefined ? '$$REMOVE' : { $literal: detail },
    campaignId: campaignId === undefined ? '$$REMOVE' : { $literal: campaignId },
  };
}

async function change(
  store: Store,
  key: string,
  read: AlertDoc | null,
  fields: Record<string, unknown>,
): Promise<AlertDoc | null> {
  const rev = read?.rev ?? 0;
  const filter: Filter<AlertDoc> = { _id: key, ...(read === null ? { rev: { $exists: false } } : { rev }) };
  try {
    return await store.alerts.findOneAndUpdate(
      filter,
      [{ $set: { ...fields, rev: rev + 1, schemaVersion: SCHEMA_VERSION } }],
      { upsert: read === null, returnDocument: 'after' },
    );
  } catch (error) {
    if (read === null && isDuplicateKey(error)) return null; // it is there by now
    throw error;
  }
}

export type AlertFilter = Partial<Pick<AlertDoc, 'state' | 'level' | 'campaignId'>>;

/** A place in the list: the latest raised come first. */
export interface AlertPosition {
  readonly raisedAt: Date;
  readonly key: string;
}

export async function listAlerts(
  store: Store,
  filter: AlertFilter,
  after: AlertPosition | undefined,
  limit: number,
): Promise<AlertDoc[]> {
  const earlier: Filter<AlertDoc> =
    after === undefined
      ? {}
      : {
          raisedAt: { $lte: after.raisedAt },
          $or: [{ raisedAt: { $lt: after.raisedAt } }, { _id: { $lt: after.key } }],
        };
  return store.alerts
    .find({ ...filter, ...earlier }, MAJORITY)
    .sort({ raisedAt: -1, _id: -1 })
    .limit(limit)
    .toArray();
}

/** Those of these campaigns, the latest raised first. `state` undefined: any. */
export async function alertsOfCampaigns(
  store: Store,
  campaignIds: readonly string[],
  state: AlertDoc['state'] | undefined,
  limit: number,
): Promise<Alert[]> {
  if (campaignIds.length === 0) return [];
  const found = await store.alerts
    .find({ campaignId: { $in: [...campaignIds] }, ...(state === undefined ? {} : { state }) })
    .sort({ raisedAt: -1, _id: -1 })
    .limit(limit)
    .toArray();
  return found.map(alertOf);
}

/** Filter: raised, and nobody has acknowledged it. Null: one of the two is not so; nothing has changed. */
export async function acknowledgeAlert(store: Store, key: string, by: string): Promise<AlertDoc | null> {
  return store.alerts.findOneAndUpdate(
    { _id: key, state: 'raised', acknowledged: { $exists: false } },
    [{ $set: { acknowledged: { by: { $literal: by }, at: '$$NOW' } } }],
    { returnDocument: 'after' },
  );
}
