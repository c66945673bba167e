/**
 * Leases: a duty that one worker does for the whole cluster. Taken and judged by the server's time. A lease only avoids
 * doing the same work twice; nothing may depend on it for correctness, because a holder can stall at any moment.
 */
import { type LeaseDoc, SCHEMA_VERSION } from './documents.ts';
import { isDuplicateKey, MAJORITY, type Store } from './store.ts';

/** Takes the lease if it is free or has run out. Returns false where somebody holds it. */
export async function takeLease(
  store: Store,
  name: string,
  holder: string,
  token: string,
  ttlMs: number,
): Promise<boolean> {
  try {
    // `$expr` is not allowed in the filter of an upsert, so the judgement stands in the update itself.
    const free = {
      $or: [
        { $not: ['$expiresAt'] },
        { $lte: ['$expiresAt', '$$NOW'] },
        { $eq: ['$token', { $literal: token }] },
      ],
    };
    const unlessHeld = (field: string, value: unknown): unknown => ({ $cond: [free, value, `$${field}`] });
    const taken = await store.leases.findOneAndUpdate(
      { _id: name },
      [
        {
          $set: {
            holder: unlessHeld('holder', { $literal: holder }),
            token: unlessHeld('token', { $literal: token }),
            expiresAt: unlessHeld('expiresAt', { $add: ['$$NOW', ttlMs] }),
            report: unlessHeld('report', null), // what the holder before left is no news of this one
            schemaVersion: SCHEMA_VERSION,
          },
        },
      ],
      { upsert: true, returnDocument: 'after' },
    );
    return taken?.token === token;
  } catch (error) {
    if (isDuplicateKey(error)) return false; // two first takers at once: the other one has it
    throw error;
  }
}

/** Lets go of the lease and leaves the result for those who waited. Filter: our token. */
export async function releaseLease(
  store: Store,
  name: string,
  token: string,
  report: unknown,
): Promise<void> {
  await store.leases.updateOne({ _id: name, token }, [
    { $set: { expiresAt: '$$NOW', report: { $literal: report } } },
  ]);
}

export async function readLease(store: Store, name: string): Promise<LeaseDoc | null> {
  return store.leases.findOne({ _id: name }, MAJORITY);
}
