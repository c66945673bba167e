/**
 * The messenger port: sends one message to one recipient. Everything the engine promises is promised up to the call of
 * `send` and from its answer on; what lies between is the messenger's, so its answers must be honest.
 */

import type { Rate } from '../core/rate.ts';
import type { Recipient } from '../core/recipient.ts';
import type { FailureKind } from '../core/retry.ts';

export type { Recipient } from '../core/recipient.ts';
export type { FailureKind } from '../core/retry.ts';

/** What to send. The engine does not look inside, it only limits the size; each messenger says what it wants. */
export type Content = Readonly<Record<string, unknown>>;

export interface Message {
  readonly campaign: { readonly id: string; readonly name: string };
  readonly run: { readonly id: string; readonly occurrence: string };
  readonly recipient: Recipient;
  /** The same object for every message of a run in one worker: a place to hang compiled templates on (`WeakMap`). */
  readonly content: Content;
  /**
   * The same for every attempt and resend of this recipient in this run; a new one after `retryFailed`. 32 characters,
   * `[A-Za-z0-9_-]`. Give it to the provider as its idempotency key, or make a `Message-ID` of it.
   */
  readonly idempotencyKey: string;
  /** 1 for the first hand-over. */
  readonly attempt: number;
}

export type SendResult =
  | { readonly status: 'sent'; readonly providerId?: string | undefined }
  | { readonly status: 'skipped'; readonly reason: string }
  | {
      readonly status: 'failed';
      readonly permanent: boolean;
      readonly reason: string;
      readonly code?: string | undefined;
    };

/** What a provider knows of an earlier hand-over. `unknown`, or no entry, means hold. */
export type Reconciliation =
  | { readonly status: 'sent'; readonly providerId?: string | undefined }
  | { readonly status: 'not-sent' }
  | { readonly status: 'failed'; readonly reason: string }
  | { readonly status: 'unknown' };

export interface SendContext {
  /** Fires when the worker must not go on: the claim is lost, the send took too long, or the worker is forced to stop. */
  readonly signal: AbortSignal;
}

export interface Messenger {
  /**
   * Hands one message over. Resolves with what became of it, or throws. A thrown `DeliveryError` says itself what kind
   * of failure it is; any other error is classified by `classify`, else by its code (`core/retry.ts`).
   */
  send(message: Message, context: SendContext): Promise<SendResult>;
  /** Refuses content that can never be sent (a template that does not parse) by throwing; called when a campaign is created. */
  checkContent?(content: Content): void | Promise<void>;
  /** Own judgement of a thrown error; `undefined` leaves it to the default. */
  classify?(error: unknown): FailureKind | undefined;
  /** Is the provider reachable and are the credentials right? Throws when not. Sends nothing. */
  verify?(): Promise<void>;
  /** What became of these earlier hand-overs, in the order asked. Used with `onUnknown: 'reconcile'`. */
  reconcile?(messages: readonly Message[], context: SendContext): Promise<readonly Reconciliation[]>;
  /** The provider drops a second message with the same idempotency key, for ever (`true`) or within a window. */
  readonly idempotent?: boolean | { readonly windowMs: number };
  /** Most sends in flight in one worker over all campaigns. Default: no limit of its own. */
  readonly concurrency?: number;
  /**
   * Most sends over all campaigns and all servers together, for example `{ perSecond: 100 }`. The same in every process
   * that has this messenger: they share one bucket. Default: no limit of its own.
   */
  readonly rate?: Rate;
  /** Lets connections go; called once by `scheduler.stop()` after the last send. */
  close?(): void | Promise<void>;
}

/** Thrown by a messenger to say exactly what kind of failure this is. */
export class DeliveryError extends Error {
  override readonly name = 'DeliveryError';
  /**
   * - `permanent`: this recipient will never work (no such mailbox). Failed at once.
   * - `transient`: try this recipient again later.
   * - `provider`: the messenger itself is sick (refused connection, 421). Everybody waits; costs no attempt.
   * - `unknown`: it may have left (a time-out after hand-over). Treated by the campaign's `onUnknown`.
   */
  readonly kind: FailureKind;
  /** Short machine-readable code kept with the outcome, for example `550` or `ETIMEDOUT`. */
  readonly code: string | undefined;
  /** Earliest time for another attempt, in ms from now, when the provider named one. */
  readonly retryAfterMs: number | undefined;

  constructor(
    kind: FailureKind,
    message: string,
    options: { code?: string; retryAfterMs?: number; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.kind = kind;
    this.code = options.code;
    this.retryAfterMs = options.retryAfterMs;
  }
}
