/**
 * Audiences and their pages. An audience document exists before its first page and is written by one freezing attempt
 * only, fenced by its lease; pages never change after they were written.
 */
import type { Recipient } from '../core/recipient.ts';
import {
  type AudienceDoc,
  type AudiencePageDoc,
  type AudienceState,
  pageIdOf,
  SCHEMA_VERSION,
} from './documents.ts';
import { DUPLICATE_KEY, isDuplicateKey, MAJORITY, type Store } from './store.ts';

export type NewAudience = Pick<AudienceDoc, '_id' | 'owner' | 'lease'>;

/** Begins an attempt. False: somebody has begun it. */
export async function beginAudience(store: Store, audience: NewAudience): Promise<boolean> {
  try {
    // An update, because only the server can write its own time; as an upsert by `_id` it is as unique as an insert.
    const result = await store.audiences.updateOne(
      { _id: audience._id },
      [
        {
          $set: {
            owner: { $ifNull: ['$owner', { $literal: audience.owner }] },
            state: { $ifNull: ['$state', 'freezing'] },
            lease: { $ifNull: ['$lease', { $literal: audience.lease }] },
            pages: { $ifNull: ['$pages', 0] },
            total: { $ifNull: ['$total', 0] },
            duplicates: { $ifNull: ['$duplicates', 0] },
            rejected: { $ifNull: ['$rejected', { count: 0, first: [] }] },
            touchedAt: { $ifNull: ['$touchedAt', '$$NOW'] },
            schemaVersion: { $ifNull: ['$schemaVersion', SCHEMA_VERSION] },
          },
        },
      ],
      { upsert: true },
    );
    if (result.upsertedCount === 1) return true;
    const found = await store.audiences.findOne(
      { _id: audience._id, 'lease.token': audience.lease.token },
      MAJORITY,
    );
    return found !== null; // ours after all: the answer to the first try was lost
  } catch (error) {
    if (isDuplicateKey(error)) return false;
    throw error;
  }
}

/** Renews the lease. Filter: our token, still freezing. False: the attempt was declared dead. */
export async function touchAudience(
  store: Store,
  audienceId: string,
  token: string,
  seq: number,
  rowsRead?: number,
): Promise<boolean> {
  const result = await store.audiences.updateOne(
    { _id: audienceId, state: 'freezing', 'lease.token': token, 'lease.seq': { $lte: seq } },
    {
      $set: { 'lease.seq': seq, ...(rowsRead === undefined ? {} : { rowsRead }) },
      $currentDate: { touchedAt: true },
    },
  );
  return result.matchedCount === 1;
}

/** Ends an attempt. Filter: our token, still freezing (or, after a lost answer, ended just so). */
export async function endAudience(
  store: Store,
  audienceId: string,
  token: string,
  end:
    | ({ state: 'ready' } & Pick<AudienceDoc, 'pages' | 'total' | 'duplicates' | 'rejected'>)
    | { state: 'failed'; error: string }
    | { state: 'dead' },
): Promise<boolean> {
  const result = await store.audiences.updateOne(
    { _id: audienceId, state: { $in: ['freezing', end.state] }, 'lease.token': token },
    { $set: end, $currentDate: { touchedAt: true } },
  );
  return result.matchedCount === 1;
}

/** Declares an attempt dead whose holder showed no sign of life. Filter: token and seq as watched. */
export async function declareDead(
  store: Store,
  read: Pick<AudienceDoc, '_id' | 'lease'>,
  error: string,
): Promise<boolean> {
  const result = await store.audiences.updateOne(
    { _id: read._id, state: 'freezing', 'lease.token': read.lease.token, 'lease.seq': read.lease.seq },
    { $set: { state: 'failed', error }, $currentDate: { touchedAt: true } },
  );
  return result.matchedCount === 1;
}

export interface FreezingAttempts {
  readonly latest: AudienceDoc;
  /** Its number: the first one is 1. */
  readonly number: number;
  /** Numbers of those that failed; the ones that ended with their worker's stop did not. */
  readonly failed: readonly number[];
}

/** The freezing attempts of each of these runs. */
export async function freezingAttempts(
  store: Store,
  runIds: readonly string[],
): Promise<Map<string, FreezingAttempts>> {
  const attempts = new Map<string, FreezingAttempts>();
  if (runIds.length === 0) return attempts;
  const found = await store.audiences
    .find({ 'owner.runId': { $in: [...runIds] } }, MAJORITY)
    .sort({ 'owner.runId': 1, 'owner.attempt': 1 })
    .toArray();
  for (const latest of found) {
    if (latest.owner.kind !== 'run') continue;
    const { runId, attempt: number } = latest.owner;
    const before = attempts.get(runId)?.failed ?? [];
    attempts.set(runId, { latest, number, failed: latest.state === 'failed' ? [...before, number] : before });
  }
  return attempts;
}

export async function readAudience(store: Store, audienceId: string): Promise<AudienceDoc | null> {
  return store.audiences.findOne({ _id: audienceId }, MAJORITY);
}

export function audiencePage(
  audienceId: string,
  n: number,
  recipients: Recipient[],
  bytes: number,
  timezone?: string,
): AudiencePageDoc {
  return {
    _id: pageIdOf(audienceId, n),
    audienceId,
    n,
    ...(timezone === undefined ? {} : { timezone }),
    recipients,
    bytes,
    schemaVersion: SCHEMA_VERSION,
  };
}

/** Writes pages. Returns those that the unique index refused because a recipient is on an earlier page. */
export async function insertAudiencePages(
  store: Store,
  pages: readonly AudiencePageDoc[],
): Promise<AudiencePageDoc[]> {
  try {
    await store.audiencePages.insertMany([...pages], { ordered: false });
    return [];
  } catch (error) {
    const failures = (error as { writeErrors?: { code?: number; index?: number }[] }).writeErrors;
    if (!Array.isArray(failures) || failures.length === 0) throw error;
    if (failures.some((failure) => failure.code !== DUPLICATE_KEY)) throw error;
    const refused = failures.flatMap((failure) => pages[failure.index ?? -1] ?? []);
    // A refused page may be our own, written by a first try whose answer was lost.
    const there = await store.audiencePages
      .find({ _id: { $in: refused.map((page) => page._id) } }, { projection: { _id: 1 }, ...MAJORITY })
      .toArray();
    const written = new Set(there.map((page) => page._id));
    return refused.filter((page) => !written.has(page._id));
  }
}

/** Which of these recipient ids the audience already has. */
export async function knownRecipients(
  store: Store,
  audienceId: string,
  ids: readonly string[],
): Promise<Set<string>> {
  const wanted = new Set(ids);
  const known = new Set<string>();
  const pages = store.audiencePages.find(
    { audienceId, 'recipients.id': { $in: [...ids] }, 'recipients.0': { $exists: true } },
    { projection: { 'recipients.id': 1 }, ...MAJORITY },
  );
  for await (const page of pages) {
    for (const { id } of page.recipients) if (wanted.has(id)) known.add(id);
  }
  return known;
}

export async function readAudiencePage(
  store: Store,
  audienceId: string,
  n: number,
): Promise<AudiencePageDoc | null> {
  return store.audiencePages.findOne({ _id: pageIdOf(audienceId, n) });
}

/** The zones of those pages whose recipients have one, by page number. */
export async function audienceZones(store: Store, audienceId: string): Promise<Map<number, string>> {
  const zones = new Map<number, string>();
  const pages = store.audiencePages.find(
    { audienceId, timezone: { $gt: '' } },
    { projection: { _id: 0, n: 1, timezone: 1 }, ...MAJORITY },
  );
  for await (const { n, timezone } of pages) if (timezone !== undefined) zones.set(n, timezone);
  return zones;
}

/** Where these recipients stand: page number and position, by id. */
export async function locateRecipients(
  store: Store,
  audienceId: string,
  ids: readonly string[],
): Promise<Map<string, { n: number; index: number }>> {
  const wanted = new Set(ids);
  const places = new Map<string, { n: number; index: number }>();
  const pages = store.audiencePages.find(
    { audienceId, 'recipients.id': { $in: [...ids] }, 'recipients.0': { $exists: true } },
    { projection: { n: 1, 'recipients.id': 1 } },
  );
  for await (const page of pages) {
    for (const [index, { id }] of page.recipients.entries())
      if (wanted.has(id)) places.set(id, { n: page.n, index });
  }
  return places;
}

/** Number of recipients of each page. */
export async function audienceSizes(store: Store, audienceId: string): Promise<Map<number, number>> {
  const sizes = new Map<number, number>();
  const pages = store.audiencePages.aggregate<{ n: number; size: number }>(
    [{ $match: { audienceId } }, { $project: { _id: 0, n: 1, size: { $size: '$recipients' } } }],
    MAJORITY,
  );
  for await (const { n, size } of pages) sizes.set(n, size);
  return sizes;
}

// ---- sweeping -------------------------------------------------------------------------------------------------------

const SWEPT_AT_ONCE = 200;
const olderThan = (ms: number) => ({ $expr: { $lte: ['$touchedAt', { $subtract: ['$$NOW', ms] }] } });

/** Lists whose freezing gave no sign of life for this long, by server time. */
export async function silentAudiences(store: Store, silentMs: number): Promise<AudienceDoc[]> {
  return store.audiences
    .find({ state: 'freezing', 'owner.kind': 'create', ...olderThan(silentMs) })
    .limit(SWEPT_AT_ONCE)
    .toArray();
}

/** Audiences in this state that nobody touched for this long, by server time. */
export async function staleAudiences(
  store: Store,
  state: AudienceState,
  ms: number,
  swept?: boolean,
): Promise<AudienceDoc[]> {
  return store.audiences
    .find({
      state,
      ...(swept === undefined ? {} : { swept: swept ? true : { $ne: true } }),
      ...olderThan(ms),
    })
    .sort({ touchedAt: 1 })
    .limit(SWEPT_AT_ONCE)
    .toArray();
}

/** Declares an audience dead. Filter: state and lease as read, so that one being revived or finished stays. */
export async function sweepAudience(store: Store, read: AudienceDoc): Promise<void> {
  await store.audiences.updateOne(
    { _id: read._id, state: read.state, 'lease.seq': read.lease.seq, touchedAt: read.touchedAt },
    { $set: { state: 'dead' }, $currentDate: { touchedAt: true } },
  );
}

/** It is named: look again in a day. */
export async function touchNamed(store: Store, read: AudienceDoc): Promise<void> {
  await store.audiences.updateOne({ _id: read._id, state: 'ready' }, { $currentDate: { touchedAt: true } });
}

export async function deleteAudiencePages(store: Store, audienceId: string): Promise<void> {
  await store.audiencePages.deleteMany({ audienceId });
}

export async function markSwept(store: Store, read: AudienceDoc): Promise<void> {
  await store.audiences.updateOne(
    { _id: read._id, state: 'dead' },
    { $set: { swept: true }, $currentDate: { touchedAt: true } },
  );
}

export async function deleteAudience(store: Store, read: AudienceDoc): Promise<void> {
  await store.audiences.deleteOne({ _id: read._id, state: 'dead', swept: true });
}

/** The ids of the recipients of these pages, in the order of the page. */
export async function* recipientIds(
  store: Store,
  audienceId: string,
  pages: readonly number[],
): AsyncGenerator<{ n: number; ids: string[] }> {
  if (pages.length === 0) return;
  const cursor = store.audiencePages
    .find({ audienceId, n: { $in: [...pages] } }, { projection: { n: 1, 'recipients.id': 1 } })
    .batchSize(50);
  for await (const { n, recipients } of cursor) yield { n, ids: recipients.map(({ id }) => id) };
}
