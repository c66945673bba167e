/**
 * The breakers, one document per messenger. What is written was decided by `core/breaker.ts` from what was read, with the
 * server's time of that read, so nobody's clock counts. Every transition is guarded by the term that was read: of two at
 * once one matches, and one that slept matches nothing.
 */
import type { Filter, UpdateFilter } from 'mongodb';
import type { Breaker, Evidence, HalfOpenBreaker } from '../core/breaker.ts';
import { documentOf, evidenceDocument } from '../core/breaker-document.ts';
import { type BreakerDoc, SCHEMA_VERSION } from './documents.ts';
import { isDuplicateKey, MAJORITY, type Store } from './store.ts';

/** As it is stored: anybody may have edited it. */
export type RawBreaker = { readonly _id: string; readonly schemaVersion?: number } & Readonly<
  Record<string, unknown>
>;

export interface ReadBreaker {
  readonly document: RawBreaker;
  /** The server's time of the read, ms. */
  readonly now: number;
}

/** The breakers of these messengers that have a document: one round trip for all. */
export async function readBreakers(
  store: Store,
  names: readonly string[],
): Promise<Map<string, ReadBreaker>> {
  const found = await store.breakers
    .find<RawBreaker & { now: Date }>(
      { _id: { $in: [...names] } },
      { projection: { _id: 1, all: '$$ROOT', now: '$$NOW' } },
    )
    .toArray();
  return new Map(
    found.map(({ _id, all, now }) => [_id, { document: all as RawBreaker, now: now.getTime() }]),
  );
}

/** Every breaker that has a document, for people who look. */
export async function allBreakers(store: Store): Promise<ReadBreaker[]> {
  const found = await store.breakers
    .find<{ all: RawBreaker; now: Date }>(
      {},
      { ...MAJORITY, projection: { _id: 0, all: '$$ROOT', now: '$$NOW' } },
    )
    .toArray();
  return found.map(({ all, now }) => ({ document: all, now: now.getTime() }));
}

/**
 * A transition. Filter: the term as read, and the probe's token where this worker holds it; one that has no document yet
 * (term 0) is made. False, nothing matched: somebody else changed it. The same write twice matches once.
 */
export async function turnBreaker(store: Store, name: string, from: Breaker, to: Breaker): Promise<boolean> {
  const token = from.state === 'half_open' ? { 'probe.token': from.probe.token } : {};
  const filter = { _id: name, term: from.term, ...token } as Filter<BreakerDoc>;
  const document = { ...documentOf(to), schemaVersion: SCHEMA_VERSION } as Omit<BreakerDoc, '_id'>;
  try {
    const result = await store.breakers.replaceOne(filter, document, { upsert: from.term === 0 });
    return result.modifiedCount + result.upsertedCount === 1;
  } catch (error) {
    if (isDuplicateKey(error)) return false; // somebody else has just made it
    throw error;
  }
}

/**
 * What this worker has seen, and out with what workers that are gone have. Filter: the term as read. Nothing matched: there
 * was a transition, before which it says nothing any more.
 */
export async function writeEvidence(
  store: Store,
  name: string,
  from: Pick<Breaker, 'term' | 'openings'>,
  workerId: string,
  mine: Evidence | undefined,
  gone: readonly string[],
): Promise<void> {
  const evidence = (id: string): string => `evidence.${id}`;
  const out = mine === undefined ? [...gone, workerId] : gone;
  const filter = { _id: name, term: from.term, state: 'closed' } as const;
  const update: UpdateFilter<BreakerDoc> = {
    $set: {
      ...(mine === undefined ? {} : { [evidence(workerId)]: evidenceDocument(mine) }),
      schemaVersion: SCHEMA_VERSION,
    },
    ...(out.length === 0 ? {} : { $unset: Object.fromEntries(out.map((id) => [evidence(id), '' as const])) }),
    $setOnInsert: { openings: from.openings },
  };
  // Whoever finds that another worker has just made the document adds to it; refused again, it has another term.
  for (let tries = 0; tries < 2; tries += 1) {
    try {
      await store.breakers.updateOne(filter, update, { upsert: from.term === 0 });
      return;
    } catch (error) {
      if (!isDuplicateKey(error)) throw error;
    }
  }
}

/** The prober lives. Filter: term and token. False, nothing matched: the probe is somebody else's. */
export async function renewProbe(
  store: Store,
  name: string,
  held: HalfOpenBreaker,
  until: Date,
): Promise<boolean> {
  const result = await store.breakers.updateOne(
    { _id: name, term: held.term, state: 'half_open', 'probe.token': held.probe.token },
    { $set: { 'probe.until': until } },
  );
  return result.matchedCount === 1;
}

/** Nonsense is replaced. Filter: term and state as they were read, whatever they are. */
export async function repairBreaker(store: Store, document: RawBreaker, to: Breaker): Promise<boolean> {
  const { _id, term = null, state = null } = document;
  const filter = { _id, term: { $eq: term }, state: { $eq: state } } as Filter<BreakerDoc>;
  const repaired = { ...documentOf(to), schemaVersion: SCHEMA_VERSION } as Omit<BreakerDoc, '_id'>;
  const result = await store.breakers.replaceOne(filter, repaired);
  return result.modifiedCount === 1;
}
