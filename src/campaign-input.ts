/**
 * The input of `campaigns.create()`, checked as a whole before anything is written. Invariant: what comes out can be
 * stored as it is, shares nothing mutable with what came in (but the audience, which is read once), and names one
 * instant, never a wall time without a place.
 */

import { z } from 'zod';
import { type AudienceOfSource, type AudienceRows, audienceProblem, isOfSource } from './audience-input.ts';
import { type InstantInput, instantOf, instantProblem } from './core/instant.ts';
import { ON_TIME_MS } from './core/misfire.ts';
import { copyPlain, isPlainObject } from './core/plain-data.ts';
import { checkRate, type Rate } from './core/rate.ts';
import { nextOccurrence } from './core/recurrence.ts';
import { checkRecurrence } from './core/recurrence-check.ts';
import type { Recurrence, RecurrenceInput } from './core/recurrence-rule.ts';
import { checkSendWindow, type SendWindow, type SendWindowInput } from './core/send-window-check.ts';
import type { OnUnknown } from './core/settlement.ts';
import { type Problem, ValidationError } from './errors.ts';
import { expectation, expecting, flag, integer, problemsOf, unobjectionable } from './input-checks.ts';
import type { Content, Messenger } from './messengers/messenger.ts';
import type { RunLimits } from './store/documents.ts';
import { suggestionSentence } from './suggestion.ts';

export interface CampaignInput {
  /** For people, 1 to 200 characters. */
  readonly name: string;
  /** Name of the messenger that sends it. */
  readonly messenger: string;
  /** What to send, as the messenger wants it: plain data of at most 1 MB as JSON. */
  readonly content: Content;
  /** Whom to send to: rows, read once and frozen before `create()` resolves, or a source, frozen by a worker at the start. */
  readonly audience: AudienceRows | AudienceOfSource;
  /**
   * When to start: a Date, a luxon DateTime, or an ISO string with offset (`2026-03-01T09:00:00+01:00`). A time that is
   * past starts at once. Default: now.
   */
  readonly sendAt?: InstantInput | undefined;
  /**
   * When it recurs. Each occurrence is a run of its own, with the content and limits that the campaign then has; a named
   * source is read anew for each, a list is frozen once. Not together with `sendAt`: the rule has a `start`. Default: once.
   */
  readonly recurrence?: RecurrenceInput | undefined;
  /** A recurring campaign pauses itself when a run reached nobody, or its audience could not be read. Default: false. */
  readonly pauseOnFailure?: boolean | undefined;
  /** The hours in which messages may leave; outside it waits and goes on by itself. Default: always. */
  readonly window?: SendWindowInput | undefined;
  /** How fast it may send, over all servers together. Default: as fast as its messenger allows. */
  readonly rate?: Rate | undefined;
  /** Created without being scheduled; `schedule()` does that later. Default: false. */
  readonly draft?: boolean | undefined;
  /** Sends in flight in one worker, 1 to 1000. Default: 10. */
  readonly concurrency?: number | undefined;
  /** How a recipient whose hand-over failed is tried again. */
  readonly retry?: RetryInput | undefined;
  /**
   * What becomes of recipients of whom nobody knows whether the message left. `hold`: they stay listed for a person.
   * `resend`: once more with the same idempotency key. `reconcile`: the messenger is asked. `give-up`: failed.
   * Default: `resend` when the messenger is idempotent, else `hold`.
   */
  readonly onUnknown?: OnUnknown | undefined;
  /** Campaigns of higher priority get their turn first, -100 to 100. Default: 0. */
  readonly priority?: number | undefined;
  /** Anything the host wants to find again: plain data of at most 16 KiB as JSON. */
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
}

export interface RetryInput {
  /** Hand-overs of one recipient in all, 1 to 50. Default: 5. */
  readonly maxAttempts?: number | undefined;
  /** Delay after the first failure; doubles from then on. 1 to 86400000 ms. Default: 30000. */
  readonly firstDelayMs?: number | undefined;
  /** Longest delay, 1 to 604800000 ms, not below `firstDelayMs`. Default: 3600000, or `firstDelayMs` if that is more. */
  readonly maxDelayMs?: number | undefined;
}

export type ParsedAudience =
  | { readonly kind: 'rows'; readonly rows: AudienceRows }
  | { readonly kind: 'source'; readonly source: string; readonly params: unknown };

/** A checked campaign with every default filled in. */
export interface ParsedCampaign {
  readonly name: string;
  readonly messenger: string;
  readonly content: Content;
  readonly audience: ParsedAudience;
  /** `null` only for a draft without a time. */
  readonly sendAt: Date | null;
  readonly recurrence?: Recurrence;
  readonly pauseOnFailure: boolean;
  readonly draft: boolean;
  readonly limits: RunLimits;
  readonly priority: number;
  readonly metadata?: Readonly<Record<string, unknown>>;
}

/** What `parseCampaign` needs to know of the world. */
export interface CampaignContext {
  /** Start of a campaign without `sendAt`. */
  readonly now: Date;
  /** The messengers of this process. A messenger that is not among them may live in another worker: the caller decides. */
  readonly messengers: Readonly<Record<string, Pick<Messenger, 'idempotent' | 'reconcile'>>>;
  /** Names of the audience sources known anywhere, for a refusal with a suggestion. */
  readonly sources: readonly string[];
}

const CAMPAIGN_DEFAULTS = Object.freeze({
  concurrency: 10,
  priority: 0,
  maxAttempts: 5,
  firstDelayMs: 30_000,
  maxDelayMs: 3_600_000,
});

const MAX_CONTENT_BYTES = 1_000_000;
const MAX_METADATA_BYTES = 16 * 1024;
const POLICIES = ['hold', 'resend', 'reconcile', 'give-up'] as const satisfies readonly OnUnknown[];

const retrySchema = z.strictObject(
  {
    maxAttempts: integer(1, 50).default(CAMPAIGN_DEFAULTS.maxAttempts),
    firstDelayMs: integer(1, 86_400_000).default(CAMPAIGN_DEFAULTS.firstDelayMs),
    maxDelayMs: integer(1, 604_800_000).optional(),
  },
  expecting('an object'),
);

const text = (what: string) => z.string(expecting(what)).regex(/\S/, expecting(what));

const schema = z.strictObject({
  name: text('text of 1 to 200 characters').max(200, expecting('text of 1 to 200 characters')),
  messenger: text('the name of a messenger').max(64, expecting('the name of a messenger')),
  content: unobjectionable<Content>((value, path) => plainObjectProblem(value, path, MAX_CONTENT_BYTES)),
  audience: unobjectionable<AudienceRows | AudienceOfSource>(audienceProblem),
  sendAt: unobjectionable<InstantInput>(instantProblem).optional(),
  draft: flag().default(false),
  concurrency: integer(1, 1_000).default(CAMPAIGN_DEFAULTS.concurrency),
  retry: retrySchema.prefault({}),
  onUnknown: z.enum(POLICIES, expecting(`one of ${POLICIES.join(', ')}`)).optional(),
  priority: integer(-100, 100).default(CAMPAIGN_DEFAULTS.priority),
  metadata: unobjectionable<object>((value, path) =>
    plainObjectProblem(value, path, MAX_METADATA_BYTES),
  ).optional(),
  pauseOnFailure: flag().default(false),
  // These have checks of their own, in core.
  recurrence: z.unknown().optional(),
  window: z.unknown().optional(),
  rate: z.unknown().optional(),
});

const KNOWN_KEYS = {
  '': Object.keys(schema.shape),
  retry: Object.keys(retrySchema.shape),
};

/**
 * Checks the input of `create()` and fills in the defaults. Whether the messenger exists anywhere, and whether it accepts
 * the content, is for the caller to find out.
 *
 * @throws ValidationError `invalid_campaign`, with every problem at once.
 */
export function parseCampaign(input: CampaignInput, context: CampaignContext): ParsedCampaign {
  const parsed = schema.safeParse(input);
  const problems = parsed.success ? [] : problemsOf(parsed.error, 'a campaign', KNOWN_KEYS);
  problems.push(...crossProblems(input, context, problems));
  const times = checkTimes(Object(input), context.now);
  problems.push(...times.problems);
  if (problems.length > 0 || parsed.data === undefined) {
    throw new ValidationError('invalid_campaign', 'Invalid campaign', problems);
  }
  const { name, messenger, content, audience, sendAt, draft, concurrency, retry, priority, metadata } =
    parsed.data;
  const { recurrence, window, rate } = times;
  const { maxAttempts, firstDelayMs, maxDelayMs } = retry;
  return {
    name,
    messenger,
    content: storable(content),
    audience: isOfSource(audience)
      ? { kind: 'source', source: audience.source, params: storable(audience.params) }
      : { kind: 'rows', rows: audience },
    sendAt:
      recurrence !== undefined
        ? null
        : sendAt === undefined
          ? draft
            ? null
            : context.now
          : new Date(instantOf(sendAt)),
    ...(recurrence === undefined ? {} : { recurrence }),
    pauseOnFailure: parsed.data.pauseOnFailure,
    draft,
    limits: {
      concurrency,
      ...(window === undefined ? {} : { window }),
      ...(rate === undefined ? {} : { rate }),
      retry: {
        maxAttempts,
        firstDelayMs,
        maxDelayMs: maxDelayMs ?? Math.max(firstDelayMs, CAMPAIGN_DEFAULTS.maxDelayMs),
      },
      onUnknown: parsed.data.onUnknown ?? (ownMessenger(messenger, context)?.idempotent ? 'resend' : 'hold'),
    },
    priority,
    ...(metadata === undefined ? {} : { metadata: storable(metadata as Record<string, unknown>) }),
  };
}

/** The fields about time, which core checks. */
function checkTimes(
  given: Partial<Record<keyof CampaignInput, unknown>>,
  now: Date,
): { problems: Problem[]; recurrence?: Recurrence; window?: SendWindow; rate?: Rate } {
  const problems: Problem[] = [];
  const recurrence = given.recurrence === undefined ? undefined : checkRecurrence(given.recurrence, { now });
  const window = given.window === undefined ? undefined : checkSendWindow(given.window);
  const rate = given.rate === undefined ? undefined : checkRate(given.rate);
  problems.push(...(recurrence?.problems ?? []), ...(window?.problems ?? []));
  if (rate?.problem !== undefined) problems.push(rate.problem);
  const rule = recurrence?.rule;
  if (rule !== undefined && nextOccurrence(rule, beginningOf(rule, now)) === null) {
    const message = 'Expected `recurrence` to have an occurrence to come; its last one is past';
    problems.push({ path: 'recurrence', message });
  }
  if (given.recurrence !== undefined && given.sendAt !== undefined) {
    const message = 'Expected either `sendAt` or `recurrence`, got both; a rule begins at its `start`';
    problems.push({ path: 'sendAt', message });
  }
  if (given.pauseOnFailure === true && given.recurrence === undefined) {
    const message = 'Expected `pauseOnFailure` together with `recurrence`';
    problems.push({ path: 'pauseOnFailure', message });
  }
  return {
    problems,
    ...(recurrence?.rule === undefined ? {} : { recurrence: recurrence.rule }),
    ...(window?.window === undefined ? {} : { window: window.window }),
    ...(rate?.rate === undefined ? {} : { rate: rate.rate }),
  };
}

/**
 * The instant after which a new rule counts: what is past at its creation does not occur, but the `start` itself does,
 * where it is at most a minute ago.
 */
export function beginningOf(rule: Recurrence, now: Date): Date {
  const justBegun = now.getTime() - rule.anchor.getTime() <= ON_TIME_MS;
  return justBegun ? new Date(rule.anchor.getTime() - 1) : now;
}

/** Rules that need more than one field, or the world; left out where a field is wrong by itself. */
function crossProblems(input: unknown, context: CampaignContext, problems: readonly Problem[]): Problem[] {
  const found: Problem[] = [];
  const given: Partial<Record<keyof CampaignInput, unknown>> = Object(input);
  const retry: Partial<Record<keyof RetryInput, unknown>> = Object(given.retry);

  const firstDelayMs = Number(retry.firstDelayMs ?? CAMPAIGN_DEFAULTS.firstDelayMs);
  const retryRight = !problems.some(({ path }) => path.startsWith('retry'));
  if (retryRight && retry.maxDelayMs !== undefined && Number(retry.maxDelayMs) < firstDelayMs) {
    const message = expectation(
      'retry.maxDelayMs',
      `at least \`firstDelayMs\`, ${firstDelayMs}`,
      retry.maxDelayMs,
    );
    found.push({ path: 'retry.maxDelayMs', message });
  }
  const messenger = typeof given.messenger === 'string' ? ownMessenger(given.messenger, context) : undefined;
  if (given.onUnknown === 'reconcile' && messenger !== undefined && messenger.reconcile === undefined) {
    const message = `Expected the messenger \`${given.messenger}\` to have \`reconcile\`, which this policy asks`;
    found.push({ path: 'onUnknown', message });
  }
  const audienceRight = !problems.some(({ path }) => path === 'audience');
  if (audienceRight && isOfSource(given.audience) && !context.sources.includes(given.audience.source)) {
    const { source } = given.audience;
    const message = `Unknown source \`${source}\`. ${suggestionSentence(source, context.sources, 'sources')}`;
    found.push({ path: 'audience.source', message });
  }
  return found;
}

function ownMessenger(
  name: string,
  { messengers }: CampaignContext,
): CampaignContext['messengers'][string] | undefined {
  return Object.hasOwn(messengers, name) ? messengers[name] : undefined;
}

function plainObjectProblem(value: unknown, path: string, limitBytes: number): string | undefined {
  if (!isPlainObject(value)) return expectation(path, 'a plain object', value);
  return copyPlain(value, path, { limitBytes, bsonValues: 'keep' }).problem;
}

/** A copy of what has been found storable before. */
function storable<T>(value: T): T {
  return copyPlain(value, '', { limitBytes: Number.POSITIVE_INFINITY, bsonValues: 'keep' }).value as T;
}
