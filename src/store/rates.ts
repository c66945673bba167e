/**
 * Token buckets that all servers share, one document per campaign or messenger with a rate, by the server's time.
 * Each operation is one atomic update whose values are computed from the document itself (the same sums as `core/rate.ts`),
 * so a restart, a second server or a lost answer never grants a token twice: a lost answer wastes its block. Two buckets
 * are never taken together: a sender holds blocks of both and uses one token of each.
 */
import { randomUUID } from 'node:crypto';
import type { Document } from 'mongodb';
import {
  AHEAD_MS,
  BLOCK_LIFE_MS,
  type Bucket,
  blockTokens,
  CLOCK_SET_MS,
  type Grant,
  highestLevel,
  lowestLevel,
  type Rate,
  spacingMs,
  tokenCost,
  tokensPerMs,
} from '../core/rate.ts';
import { type RateDoc, SCHEMA_VERSION } from './documents.ts';
import { isDuplicateKey, type Store } from './store.ts';

/** A grant, and the server's time at which it was made. */
export interface TakenBlock extends Grant {
  readonly takenAt: Date;
}

export const campaignRateKey = (campaignId: string): string => `campaign:${campaignId}`;
export const messengerRateKey = (name: string): string => `messenger:${name}`;

/** An untouched bucket is as good as none; kept for a while, because people look at it. */
const KEEP_MS = 7 * 86_400_000;

/** Answers that a bucket keeps: as many may ask it while one of them comes back to read its own. */
const ANSWERS_KEPT = 8;

export interface TokenQuestion {
  readonly key: string;
  readonly rate: Rate;
  readonly wanted: number;
}

/**
 * Takes a block of at most `wanted` tokens, fewer where a block is smaller, none where the next is too far away.
 * Filter: the key, made if missing. Every call finds its document, so there is no "nothing matched".
 */
export async function takeTokens(store: Store, key: string, rate: Rate, wanted: number): Promise<TakenBlock> {
  return takenBlock(await upsert(store, key, taking(rate, wanted)));
}

/**
 * Takes blocks of many buckets in two round trips; the answers by key. Filter: the keys, those that exist. The answers are
 * read back under a token of this question. A key without one was not there yet, or so many others asked it meanwhile that
 * its answer is gone, and its block is wasted like that of any lost answer: ask it alone.
 */
export async function takeTokensOfMany(
  store: Store,
  questions: readonly TokenQuestion[],
): Promise<Map<string, TakenBlock>> {
  const by = randomUUID();
  const alike = new Map<string, TokenQuestion[]>();
  for (const question of questions) {
    const kind = JSON.stringify([question.rate, question.wanted]);
    const known = alike.get(kind);
    if (known === undefined) alike.set(kind, [question]);
    else known.push(question);
  }
  await store.rates.bulkWrite(
    [...alike.values()].flatMap(([first, ...others]) => {
      if (first === undefined) return [];
      const filter = { _id: { $in: [first, ...others].map(({ key }) => key) } };
      return { updateMany: { filter, update: [...taking(first.rate, first.wanted), answering(by)] } };
    }),
    { ordered: false },
  );
  const found = await store.rates
    .find(
      { _id: { $in: questions.map(({ key }) => key) }, 'answers.by': by },
      { projection: { answers: { $elemMatch: { by } } } },
    )
    .toArray();
  return new Map(
    found.flatMap(({ _id, answers = [] }) => answers.map((answer) => [_id, takenBlock(answer)])),
  );
}

/** What a bucket grants, and what is left in it. */
function taking(rate: Rate, wanted: number): Document[] {
  const spacing = spacingMs(rate);
  return [
    toPresent(rate),
    {
      $set: {
        firstInMs: { $subtract: [{ $subtract: ['$at', '$$NOW'] }, { $multiply: ['$tokens', spacing] }] },
        blockedForMs: { $max: [0, { $subtract: [{ $ifNull: ['$blockedUntil', '$$NOW'] }, '$$NOW'] }] },
      },
    },
    {
      $set: {
        granted: {
          $cond: [
            { $or: [{ $gt: ['$blockedForMs', 0] }, { $gt: ['$firstInMs', AHEAD_MS] }] },
            0,
            Math.max(1, Math.min(wanted, blockTokens(rate))),
          ],
        },
      },
    },
    {
      $set: {
        tokens: { $subtract: ['$tokens', { $multiply: ['$granted', tokenCost(rate)] }] },
        waitMs: {
          $cond: [
            { $gt: ['$granted', 0] },
            0,
            { $max: ['$blockedForMs', { $subtract: ['$firstInMs', AHEAD_MS] }] },
          ],
        },
        rate: { $literal: rate },
        takenAt: '$$NOW',
        expiresAt: { $add: [{ $max: ['$at', '$blockedUntil'] }, keepMs(rate)] },
        schemaVersion: SCHEMA_VERSION,
      },
    },
  ];
}

/** Leaves the answer in the bucket, for whoever asked for many. */
function answering(by: string): Document {
  const answer = {
    by,
    granted: '$granted',
    firstInMs: '$firstInMs',
    waitMs: '$waitMs',
    blockedForMs: '$blockedForMs',
    takenAt: '$takenAt',
  };
  const all = { $concatArrays: [[answer], { $ifNull: ['$answers', []] }] };
  return { $set: { answers: { $slice: [all, ANSWERS_KEPT] } } };
}

function takenBlock(answer: Partial<TakenBlock>): TakenBlock {
  const { granted = 0, firstInMs = 0, waitMs = 0, blockedForMs = 0, takenAt = new Date(0) } = answer;
  return { granted, firstInMs, waitMs, blockedForMs, takenAt };
}

/**
 * Gives unused tokens of a block back, never above what idle time gives. Filter: the key, before the block's end by the
 * server's time. False, nothing matched: it has expired, and its tokens with it. Never repeated by the caller.
 */
export async function returnTokens(
  store: Store,
  key: string,
  rate: Rate,
  count: number,
  takenAt: Date,
): Promise<boolean> {
  const endsAt = new Date(takenAt.getTime() + BLOCK_LIFE_MS);
  const returned = await store.rates.updateOne({ _id: key, $expr: { $lt: ['$$NOW', endsAt] } }, [
    toPresent(rate),
    {
      $set: {
        tokens: { $min: [highestLevel(rate), { $add: ['$tokens', count * tokenCost(rate)] }] },
      },
    },
  ]);
  return returned.matchedCount === 1;
}

/** Nobody gets a token of this key for `forMs` from the server's now. A longer rest that stands already stays. */
export async function slowDown(store: Store, key: string, forMs: number): Promise<void> {
  await upsert(store, key, [
    { $set: { blockedUntil: { $max: ['$blockedUntil', { $add: ['$$NOW', Math.ceil(forMs)] }] } } },
    {
      $set: {
        expiresAt: { $max: ['$expiresAt', { $add: ['$blockedUntil', KEEP_MS] }] },
        schemaVersion: SCHEMA_VERSION,
      },
    },
  ]);
}

/** Which of these keys have to rest, and for how long yet, ms. */
export async function restingKeys(store: Store, keys: readonly string[]): Promise<Map<string, number>> {
  if (keys.length === 0) return new Map();
  const resting = await store.rates
    .find(
      { _id: { $in: [...keys] }, $expr: { $gt: ['$blockedUntil', '$$NOW'] } },
      { projection: { blockedForMs: { $subtract: ['$blockedUntil', '$$NOW'] } } },
    )
    .toArray();
  return new Map(resting.map(({ _id, blockedForMs }) => [_id, blockedForMs ?? 0]));
}

/** The buckets of these keys as they are stored: for people who look, nothing is taken. */
export async function readBuckets(
  store: Store,
  keys: readonly string[],
): Promise<Map<string, { rate: Rate | undefined; bucket: Bucket }>> {
  const found = await store.rates.find({ _id: { $in: [...keys] } }).toArray();
  return new Map(
    found.map(({ _id, rate, tokens = 0, at, blockedUntil }) => {
      const bucket = { tokens, at: at?.getTime() ?? 0, blockedUntil: blockedUntil?.getTime() ?? 0 };
      return [_id, { rate, bucket }];
    }),
  );
}

/** The level at the server's now: `bucketAt` of `core/rate.ts`. A new bucket begins with its first token at once. */
function toPresent(rate: Rate): Document {
  const since = { $ifNull: ['$at', '$$NOW'] };
  const elapsedMs = { $max: [0, { $subtract: ['$$NOW', since] }] };
  const level = {
    $add: [{ $ifNull: ['$tokens', 0] }, { $multiply: [elapsedMs, tokensPerMs(rate)] }],
  };
  const clockWasSet = { $lt: ['$$NOW', { $subtract: [since, CLOCK_SET_MS] }] };
  return {
    $set: {
      tokens: { $min: [highestLevel(rate), { $max: [lowestLevel(rate), level] }] },
      at: { $cond: [clockWasSet, '$$NOW', { $max: ['$$NOW', since] }] },
    },
  };
}

/** Until then every level is 0 again, whatever was taken: deleting the document grants nothing. */
function keepMs(rate: Rate): number {
  return Math.ceil(Math.max(KEEP_MS, -2 * lowestLevel(rate) * spacingMs(rate)));
}

async function upsert(store: Store, key: string, update: Document[]): Promise<RateDoc> {
  for (let tries = 0; ; tries += 1) {
    try {
      const after = await store.rates.findOneAndUpdate({ _id: key }, update, {
        upsert: true,
        returnDocument: 'after',
        projection: { answers: 0 },
      });
      if (after !== null) return after;
    } catch (error) {
      // Two first takers at once: the other one has made it.
      if (!isDuplicateKey(error) || tries > 0) throw error;
    }
  }
}
