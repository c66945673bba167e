/**
 * Creating a campaign, and making one that another program wrote ours. Invariant: a campaign becomes visible only when its
 * audience is frozen (or named) and its content was accepted; what fails before leaves nothing but an audience to sweep.
 */
import { randomUUID } from 'node:crypto';
import type { ObjectId } from 'mongodb';
import { beginningOf, type CampaignInput, type ParsedCampaign, parseCampaign } from './campaign-input.ts';
import type { ResolvedOptions } from './config.ts';
import { nextRinging } from './core/misfire.ts';
import { describeError } from './core/retry.ts';
import { keepLease } from './delivery/audience-lease.ts';
import { type Frozen, freezeRows } from './delivery/freeze-audience.ts';
import { CampaignSchedulerError, ValidationError } from './errors.ts';
import type { Content } from './messengers/messenger.ts';
import { beginAudience, endAudience } from './store/audiences.ts';
import { adoptCampaign, type CampaignHead, readRaw } from './store/campaign-heads.ts';
import { insertCampaign, newId } from './store/campaigns.ts';
import { type AudienceSpec, type CampaignDoc, SCHEMA_VERSION } from './store/documents.ts';
import type { Store } from './store/store.ts';
import { announced } from './store/workers.ts';
import { suggestionSentence } from './suggestion.ts';

export interface CreationOptions {
  readonly store: Store;
  readonly options: ResolvedOptions;
  readonly workerId: string;
  readonly serverNow: () => Date;
}

/** Stores a new campaign. Returns it as stored. */
export async function createCampaign(
  context: CreationOptions,
  input: CampaignInput,
): Promise<{ campaign: CampaignDoc; frozen?: Frozen }> {
  const { store, serverNow } = context;
  const now = serverNow();
  const parsed = await check(context, input, now);
  const { audience, frozen } = await freeze(context, parsed);
  const id = newId();
  const campaign: CampaignDoc = {
    _id: id,
    name: parsed.name,
    status: parsed.draft ? 'draft' : 'scheduled',
    ...fieldsOf(id, parsed, audience, now),
  };
  await insertCampaign(store, campaign);
  return frozen === undefined ? { campaign } : { campaign, frozen };
}

/** What is read of a document that another program wrote. */
const FOREIGN_FIELDS = [
  'name',
  'messenger',
  'audience',
  'content',
  'sendAt',
  'recurrence',
  'window',
  'rate',
  'concurrency',
  'retry',
  'onUnknown',
  'priority',
] as const satisfies readonly (keyof CampaignInput)[];

/** Makes a document of another program ours by one guarded write. Returns the reason where that is not possible. */
export async function adoptForeignCampaign(
  context: CreationOptions,
  head: CampaignHead,
): Promise<string | undefined> {
  const { store, serverNow } = context;
  const raw = await readRaw(store, head._id);
  if (raw === null) return 'it is gone';
  if (raw.schemaVersion !== undefined) return undefined; // another worker was faster
  try {
    const now = serverNow();
    const present = Object.fromEntries(
      FOREIGN_FIELDS.map((field) => [field, raw[field]]).filter(([, value]) => value != null),
    );
    if (raw.status === 'scheduled' && present.sendAt === undefined && present.recurrence === undefined) {
      return 'it is scheduled, but has neither `sendAt` nor `recurrence`';
    }
    const parsed = await check(context, present as unknown as CampaignInput, now);
    const { audience: frozen } = await freeze(context, parsed);
    // What another program had begun has no ledger: its run is opened like that of a campaign that is due.
    await adoptCampaign(store, head, { ...fieldsOf(head._id, parsed, frozen, now), status: 'scheduled' });
    return undefined;
  } catch (error) {
    if (!(error instanceof CampaignSchedulerError)) throw error;
    return error instanceof ValidationError
      ? error.problems.map((problem) => problem.message).join('; ')
      : error.message;
  }
}

async function check(
  { store, options }: CreationOptions,
  input: CampaignInput,
  now: Date,
): Promise<ParsedCampaign> {
  const elsewhere = await announced(store);
  const remote = Object.fromEntries(
    elsewhere.messengers.map(({ name, idempotent, reconciles }) => [
      name,
      { idempotent, ...(reconciles ? { reconcile: () => Promise.resolve([]) } : {}) },
    ]),
  );
  const messengers = { ...remote, ...options.messengers };
  const sources = [...new Set([...Object.keys(options.audiences), ...elsewhere.sources])];
  const parsed = parseCampaign(input, { now, messengers, sources });
  if (!Object.hasOwn(messengers, parsed.messenger)) {
    throw new CampaignSchedulerError(
      'unknown_messenger',
      `Unknown messenger \`${parsed.messenger}\`. ${suggestionSentence(parsed.messenger, Object.keys(messengers), 'messengers')}`,
    );
  }
  await checkContent(options, parsed.messenger, parsed.content);
  return parsed;
}

/** Asks the messenger, where it is one of this process. */
export async function checkContent(
  options: Pick<ResolvedOptions, 'messengers'>,
  messenger: string,
  content: Content,
): Promise<void> {
  try {
    await options.messengers[messenger]?.checkContent?.(content);
  } catch (error) {
    throw new CampaignSchedulerError(
      'invalid_content',
      `The messenger \`${messenger}\` refuses the content: ${describeError(error).reason}`,
      { cause: error },
    );
  }
}

async function freeze(
  context: CreationOptions,
  { audience }: ParsedCampaign,
): Promise<{ audience: AudienceSpec; frozen?: Frozen }> {
  if (audience.kind === 'source') {
    const { source, params } = audience;
    return { audience: params === undefined ? { source } : { source, params } };
  }
  const { store, options, workerId } = context;
  const audienceId = randomUUID();
  const token = randomUUID();
  await beginAudience(store, {
    _id: audienceId,
    owner: { kind: 'create' },
    lease: { token, seq: 0, workerId, ttlMs: options.claimTtlMs },
  });
  const controller = new AbortController();
  const stopRenewing = keepLease(
    { store, clock: options.clock, claimTtlMs: options.claimTtlMs },
    audienceId,
    token,
    controller,
  );
  try {
    const frozen = await freezeRows(audience.rows, {
      store,
      audienceId,
      pageSize: options.pageSize,
      assertAlive: () => controller.signal.throwIfAborted(),
    });
    if (!(await endAudience(store, audienceId, token, { state: 'ready', ...frozen }))) {
      throw new Error('freezing took so long without a sign of life that it was given up');
    }
    return { audience: { audienceId }, frozen };
  } catch (error) {
    const { reason } = describeError(error);
    await endAudience(store, audienceId, token, { state: 'failed', error: reason }).catch(() => undefined);
    throw new CampaignSchedulerError(
      'audience_failed',
      `The audience could not be frozen: ${reason}. Nothing was created.`,
      { cause: error },
    );
  } finally {
    stopRenewing();
  }
}

function fieldsOf(
  id: ObjectId,
  parsed: ParsedCampaign,
  audience: AudienceSpec,
  now: Date,
): Omit<CampaignDoc, '_id' | 'name' | 'status'> {
  const { sendAt, messenger, content, limits, priority, metadata, recurrence } = parsed;
  const before = recurrence === undefined ? now : beginningOf(recurrence, now);
  const first = recurrence === undefined ? undefined : nextRinging(recurrence, before, id.toHexString());
  return {
    rev: 1,
    schedule: { sendAt, ...(recurrence === undefined ? {} : { recurrence }) },
    nextRunAt: first === undefined ? sendAt : (first?.ringAt ?? null),
    ...(first === undefined ? {} : { lastOccurrence: before, nextOccurrence: first?.nominal ?? null }),
    ...(parsed.pauseOnFailure ? { pauseOnFailure: true } : {}),
    openRuns: [],
    audience,
    messenger,
    content: { ...content },
    limits,
    priority,
    ...(metadata === undefined ? {} : { metadata: { ...metadata } }),
    createdAt: now,
    updatedAt: now,
    schemaVersion: SCHEMA_VERSION,
  };
}
