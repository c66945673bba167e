/**
 * The sends in flight of one page: starts them, gives each up after its time, and turns whatever a messenger answers,
 * throws or never answers into one outcome. Invariant: every started send is reported exactly once through `onOutcome`,
 * and at most once more through `onLateAnswer` if it answers after it was given up; no reason has a secret in it.
 */
import { hash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import type { SendOutcome } from '../core/outcome.ts';
import type { Recipient } from '../core/recipient.ts';
import {
  classifyError,
  cutUtf8,
  describeError,
  type FailureKind,
  retryAfterMsOf,
  shownReason,
} from '../core/retry.ts';
import type { Message, Messenger, SendContext, SendResult } from '../messengers/messenger.ts';

export interface SendsOptions {
  readonly messenger: Messenger;
  readonly clock: Clock;
  readonly sendTimeoutMs: number;
  readonly onOutcome: (index: number, outcome: SendOutcome, startedAt: number) => void;
  readonly onLateAnswer: (index: number, attempt: number, outcome: SendOutcome) => void;
}

interface InFlight {
  readonly attempt: number;
  readonly startedAt: number;
  readonly context: LazyContext;
}

/** An AbortController costs more than a fast send; most messengers never look at the signal. */
class LazyContext implements SendContext {
  #controller: AbortController | undefined;
  #reason: Error | undefined;
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    return this.#controller.signal;
  }
  abort(reason: Error): void {
    this.#reason = reason;
    this.#controller?.abort(reason);
  }
}

export class Sends {
  readonly #options: SendsOptions;
  /** In order of starting, so the oldest is first. */
  readonly #inFlight = new Map<number, InFlight>();

  constructor(options: SendsOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#inFlight.size;
  }

  start(index: number, message: Message): void {
    const { messenger, clock } = this.#options;
    const entry: InFlight = {
      attempt: message.attempt,
      startedAt: clock.monotonic(),
      context: new LazyContext(),
    };
    this.#inFlight.set(index, entry);
    let answer: Promise<SendResult>;
    try {
      answer = Promise.resolve(messenger.send(message, entry.context));
    } catch (error) {
      answer = Promise.reject(error);
    }
    answer.then(
      (result) => this.#settle(index, entry, interpret(result)),
      (error: unknown) => this.#settle(index, entry, this.#judge(error)),
    );
  }

  /** Gives up the sends that took too long. They may still answer. */
  expire(): void {
    const { clock, sendTimeoutMs } = this.#options;
    const startedBefore = clock.monotonic() - sendTimeoutMs;
    for (const [index, entry] of this.#inFlight) {
      if (entry.startedAt > startedBefore) return;
      entry.context.abort(new Error(`no answer within ${sendTimeoutMs} ms`));
      const reason = `the messenger did not answer within ${sendTimeoutMs} ms`;
      this.#settle(index, entry, { kind: 'unknown', code: 'timeout', reason });
    }
  }

  /** Tells every messenger call that nobody waits for a long answer any more. Outcomes are still taken. */
  abort(reason: Error): void {
    for (const entry of this.#inFlight.values()) entry.context.abort(reason);
  }

  #settle(index: number, entry: InFlight, outcome: SendOutcome): void {
    if (this.#inFlight.get(index) !== entry) {
      this.#options.onLateAnswer(index, entry.attempt, outcome);
      return;
    }
    this.#inFlight.delete(index);
    this.#options.onOutcome(index, outcome, entry.startedAt);
  }

  #judge(error: unknown): SendOutcome {
    let kind: FailureKind | undefined;
    try {
      kind = this.#options.messenger.classify?.(error);
    } catch {
      kind = undefined; // a broken judgement is no judgement
    }
    return {
      kind: kind ?? classifyError(error),
      ...describeError(error),
      retryAfterMs: retryAfterMsOf(error),
    };
  }
}

/** An answer that is not in the contract leaves open whether the message left. */
function interpret(result: unknown): SendOutcome {
  try {
    const outcome = readResult(result as SendResult | undefined | null);
    if (outcome !== undefined) return outcome;
  } catch {
    // a result whose fields cannot be read is no result
  }
  return {
    kind: 'unknown',
    code: 'invalid_answer',
    reason: shownReason(`the messenger answered ${preview(result)} instead of a result with a status`),
  };
}

function readResult(result: SendResult | undefined | null): SendOutcome | undefined {
  switch (result?.status) {
    case 'sent': {
      const { providerId } = result;
      return typeof providerId === 'string'
        ? { kind: 'sent', providerId: cutUtf8(providerId, 128) }
        : { kind: 'sent' };
    }
    case 'skipped':
      return { kind: 'skipped', reason: shownReason(String(result.reason)) };
    case 'failed':
      return {
        kind: result.permanent ? 'permanent' : 'transient',
        reason: shownReason(String(result.reason)),
        ...(result.code === undefined ? {} : { code: cutUtf8(String(result.code), 64) }),
      };
    default:
      return undefined;
  }
}

function preview(value: unknown): string {
  try {
    return shownReason(JSON.stringify(value) ?? String(value)).slice(0, 80);
  } catch {
    return typeof value;
  }
}

/**
 * The same for every attempt and resend of a recipient in a run; another one after `retryFailed`. 192 bits of SHA-256, so
 * that two recipients never share one (birthday bound: 2^96).
 */
export function idempotencyKey(runId: string, recipient: Recipient, generation: number): string {
  return hash('sha256', `${runId}\n${generation}\n${recipient.id}`, 'base64url').slice(0, 32);
}
