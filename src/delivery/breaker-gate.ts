/**
 * What the cluster's breaker lets one messenger do in this worker, and what this worker has seen that speaks for or against
 * the messenger. Invariants: while the breaker is not closed nothing starts, but for the trial of the worker that holds the
 * probe, one recipient at a time and only as long as that worker can be sure that it still holds it; what began before
 * counts for nothing.
 */
import type { Clock } from '../clock.ts';
import { type BreakerSettings, type Evidence, rampLimit, type Trial } from '../core/breaker.ts';
import { type HeardFailure, OutcomeWindow } from '../core/breaker-window.ts';
import type { SendOutcome } from '../core/outcome.ts';

type Failed = Pick<HeardFailure, 'kind' | 'reason'>;

interface RunningTrial {
  readonly begunAt: number;
  trustedUntil: number;
  started: number;
  inFlight: number;
  failed: number;
  fatal: boolean;
  detail: string | undefined;
  changedAt: number;
}

export class BreakerGate {
  readonly #clock: Clock;
  /** Undefined: there is no breaker. */
  readonly #settings: BreakerSettings | undefined;
  readonly #window: OutcomeWindow | undefined;
  #isClosed = true;
  #trial: RunningTrial | undefined;
  /** When the breaker closed, monotonic. */
  #closedAt = Number.NEGATIVE_INFINITY;
  /** When this worker last heard of a transition: outcomes of sends that began before say nothing any more. */
  #since = Number.NEGATIVE_INFINITY;
  /** A send has ended since what was seen was last told. */
  hasNews = false;

  constructor(clock: Clock, settings: BreakerSettings | undefined) {
    this.#clock = clock;
    this.#settings = settings;
    this.#window = settings && new OutcomeWindow(settings.windowMs);
  }

  /** Sends need no breaker's leave. */
  get isClosed(): boolean {
    return this.#isClosed;
  }
  /** Nothing may start, or not now. */
  get isShut(): boolean {
    return !this.#isClosed && !this.mayTry;
  }
  /** The trial has starts left, and this worker surely holds the probe. */
  get mayTry(): boolean {
    const trial = this.#trial;
    if (trial === undefined || trial.fatal) return false;
    if (trial.started >= (this.#settings?.trialSize ?? 0)) return false;
    return this.#clock.monotonic() < trial.trustedUntil;
  }

  mayStart(inFlight: number, capacity: number): boolean {
    if (!this.#isClosed) return this.mayTry && this.#trial?.inFlight === 0;
    return this.#closedAt === Number.NEGATIVE_INFINITY || inFlight < this.most(capacity);
  }
  started(): void {
    const trial = this.#trial;
    if (trial === undefined) return;
    trial.started += 1;
    trial.inFlight += 1;
    trial.changedAt = this.#clock.monotonic();
  }

  /** Most sends in flight: one in a trial, more and more after closing, any number else. */
  most(capacity: number): number {
    if (!this.#isClosed) return 1;
    if (this.#closedAt === Number.NEGATIVE_INFINITY) return Number.POSITIVE_INFINITY;
    const { rampMs = 0 } = this.#settings ?? {};
    const most = rampLimit(capacity, this.#clock.monotonic() - this.#closedAt, rampMs);
    if (most === Number.POSITIVE_INFINITY) this.#closedAt = Number.NEGATIVE_INFINITY;
    return most;
  }

  /** Nothing has worked since the last failure. */
  get isFailing(): boolean {
    return (this.#window?.inRow ?? 0) > 0;
  }

  /**
   * A send has ended. `isEvident`: it was not this worker that ended it. True: nobody knows what became of so many in a row,
   * or so many failed in a row for whatever reason, that the messenger must be taken for sick here, whatever the others say.
   */
  heard(outcome: SendOutcome, startedAt: number, isEvident: boolean): boolean {
    const window = this.#window;
    if (window === undefined) return false;
    const at = this.#clock.monotonic();
    const failure = failureOf(outcome);
    if (!this.#isClosed) {
      this.#tried(failure, startedAt, at, isEvident);
      return false;
    }
    if (startedAt < this.#since || !isEvident) return false;
    this.hasNews = true;
    if (failure === undefined) window.succeeded(at);
    else window.failed({ at, startedAt, ...failure });
    const { consecutiveFailures = 0, minimumVolume = 0 } = this.#settings ?? {};
    if (failure?.kind === 'unknown' && window.consecutive >= consecutiveFailures) return true;
    return failure !== undefined && window.inRow >= minimumVolume;
  }

  #tried(failure: Failed | undefined, startedAt: number, at: number, isEvident: boolean): void {
    const trial = this.#trial;
    if (trial === undefined || startedAt < trial.begunAt) return;
    trial.inFlight -= 1;
    trial.changedAt = at;
    if (!isEvident) trial.started -= 1; // it says nothing, neither for the messenger nor against it
    if (failure === undefined || !isEvident) return;
    trial.failed += 1;
    trial.detail = failure.reason;
    if (failure.kind !== 'transient') trial.fatal = true;
  }

  // ---- what the breaker's duty tells and asks -----------------------------------------------------------------------

  /** The breaker is not closed. */
  shut(): void {
    if (this.#isClosed) this.#turned();
    this.#isClosed = false;
    this.#trial = undefined;
  }

  /** The breaker has closed. */
  close(): void {
    this.#turned();
    this.#isClosed = true;
    this.#trial = undefined;
  }

  /** It closed so long ago: sends become more and more from then on. */
  rampUp(sinceMs: number): void {
    this.#closedAt = this.#clock.monotonic() - sinceMs;
  }

  #turned(): void {
    this.#window?.clear();
    this.hasNews = false;
    this.#since = this.#clock.monotonic();
  }

  /** This worker holds the probe until then, by the monotonic clock; the messenger answered, now recipients are tried. */
  tryUntil(trustedUntil: number): void {
    const now = this.#clock.monotonic();
    if (this.#trial !== undefined) this.#trial.trustedUntil = trustedUntil;
    else {
      this.#trial = {
        begunAt: now,
        trustedUntil,
        started: 0,
        inFlight: 0,
        failed: 0,
        fatal: false,
        detail: undefined,
        changedAt: now,
      };
    }
  }

  get trial(): (Trial & { readonly detail: string | undefined }) | undefined {
    const trial = this.#trial;
    if (trial === undefined) return undefined;
    const { started, inFlight, failed, fatal, detail, changedAt } = trial;
    return { started, inFlight, failed, fatal, detail, quietMs: this.#clock.monotonic() - changedAt };
  }

  /** What this worker has seen; undefined: nothing within the window, and no row. */
  evidence(serverNow: number): Evidence | undefined {
    const now = this.#clock.monotonic();
    const evidence = this.#window?.evidence(now, (at) => Math.round(serverNow - (now - at)));
    const { succeeded = 0, failed = 0, inRow = 0 } = evidence ?? {};
    return succeeded + failed + inRow === 0 ? undefined : evidence;
  }

  /** Another worker's send succeeded so long ago. */
  othersSucceeded(agoMs: number): void {
    if (this.#window?.othersSucceeded(this.#clock.monotonic() - agoMs) === true) this.hasNews = true;
  }
}

/** Anything else took the message, or had a verdict on this very recipient. */
function failureOf(outcome: SendOutcome): Failed | undefined {
  if (outcome.kind === 'sent' || outcome.kind === 'skipped' || outcome.kind === 'permanent') return undefined;
  return { kind: outcome.kind, reason: outcome.reason };
}
