/**
 * What this worker does about the breaker of one messenger: follows it, opens it where the evidence says so, probes, closes.
 * Every step is a guarded write that any worker may take; a worker that stalled finds its guard gone. Invariants: the line
 * is shut before anything else happens when the breaker is not closed; a trial goes on only as long as this worker can be
 * sure, by its monotonic clock, that it still holds the probe.
 */
import { randomUUID } from 'node:crypto';
import {
  type Breaker,
  closed,
  type HalfOpenBreaker,
  isProbeFree,
  judgeTrial,
  NEW_BREAKER,
  type OpenBreaker,
  opened,
  PROBE_LEASE_MS,
  probedBy,
  reopened,
  type Trial,
} from '../core/breaker.ts';
import { describeError } from '../core/retry.ts';
import { orAtDeadline } from '../deadline.ts';
import type { MessengerLine } from '../delivery/messenger-line.ts';
import type { MessengerSurvey } from '../delivery/messenger-survey.ts';
import { type RawBreaker, renewProbe, repairBreaker, turnBreaker } from '../store/breakers.ts';
import type { Alerter } from './alerter.ts';
import { BreakerAlert } from './breaker-alert.ts';
import {
  type BreakerCampaignsOptions,
  pauseCampaigns,
  resumeCampaigns,
  whyPaused,
} from './breaker-campaigns.ts';
import { BreakerEvidence, type BreakerEvidenceOptions } from './breaker-evidence.ts';

export interface LineBreakerOptions extends BreakerCampaignsOptions, BreakerEvidenceOptions {
  readonly random: () => number;
  readonly alerter: Pick<Alerter, 'raise' | 'clear'>;
  readonly sendTimeoutMs: number;
}

/** The prober stops this long before others may take the probe. */
const PROBE_MARGIN_MS = 2_000;
const LONGEST_VERIFY_MS = 10_000;
/** A prober that could send, and has started nothing for so long, leaves the probe to others, for so long. */
const IDLE_TRIAL_MS = 60_000;
const LEFT_TO_OTHERS_MS = 2 * PROBE_LEASE_MS;

interface HeldProbe {
  readonly token: string;
  /** The question to the messenger: undefined while this worker does not know that the probe is its own. */
  asked?: Promise<void>;
  answer: 'none-yet' | 'works' | { readonly failed: string };
}

export class LineBreaker {
  readonly messenger: string;
  readonly #options: LineBreakerOptions;
  readonly #line: MessengerLine;
  readonly #evidence: BreakerEvidence;
  readonly #alert: BreakerAlert;
  #seen: Pick<Breaker, 'term' | 'state'> | undefined;
  #probe: HeldProbe | undefined;
  /** Until then others may take the probe, by the monotonic clock. */
  #leavesProbeUntil = Number.NEGATIVE_INFINITY;
  #newerTold = false;

  constructor(options: LineBreakerOptions, line: MessengerLine) {
    this.#options = options;
    this.#line = line;
    this.messenger = line.name;
    this.#evidence = new BreakerEvidence(options, line);
    this.#alert = new BreakerAlert(options.alerter, line.name);
  }

  wantsToKnow(survey: MessengerSurvey | undefined): boolean {
    const { isClosed, isFailing, hasNews } = this.#line.breaker;
    return survey?.busy === true || !isClosed || (isFailing && hasNews);
  }

  /** `now`: the server's time at which it stood so; `askedAt`: before it was asked, by the monotonic clock. */
  async treat(
    breaker: Breaker,
    now: number,
    askedAt: number,
    survey: MessengerSurvey | undefined,
  ): Promise<void> {
    this.#follow(breaker, now);
    if (breaker.state === 'closed') {
      if (survey?.held === true) await resumeCampaigns(this.#options, this.messenger);
      const detail = await this.#evidence.judge(breaker, now);
      if (detail === undefined) return;
      const { settings, random } = this.#options;
      return this.#open(breaker, opened(breaker, detail, settings, now, random()), now);
    }
    if (survey?.moving === true) await pauseCampaigns(this.#options, this.messenger, whyPaused(breaker));
    const mayTry = survey?.takesPages === true;
    if (isProbeFree(breaker, now)) {
      const isLeft = this.#options.clock.monotonic() < this.#leavesProbeUntil;
      return mayTry && !isLeft ? this.#takeProbe(breaker, now, askedAt) : undefined;
    }
    const probe = this.#probe;
    if (breaker.state !== 'half_open' || breaker.probe.token !== probe?.token) return;
    const { trial } = this.#line.breaker;
    const isInFlight = (trial?.inFlight ?? 0) > 0;
    if (!isInFlight && (!mayTry || (await this.#triesInVain(trial, survey)))) {
      return this.#leaveProbe(breaker, now);
    }
    await this.#goOn(breaker, probe, now, askedAt);
  }

  /** It has something to send and does not come to it, and another worker may. */
  async #triesInVain(trial: Trial | undefined, survey: MessengerSurvey | undefined): Promise<boolean> {
    const isIdle = trial?.started === 0 && trial.quietMs >= IDLE_TRIAL_MS && survey?.busy === true;
    return isIdle && (await this.#evidence.liveWorkers()).size > 1;
  }

  /** A newer version's workers know what it means. */
  leaveAlone(): void {
    if (this.#newerTold) return;
    this.#newerTold = true;
    const { logger } = this.#options;
    logger.warn(
      { messenger: this.messenger },
      'a newer version of this package wrote this breaker; left alone',
    );
  }

  /** Somebody edited it: it is as if the messenger worked. */
  async repair(document: RawBreaker, now: number): Promise<void> {
    const { store, logger, journal } = this.#options;
    const { term } = document;
    // A term that nobody has seen, whatever stood there.
    const next = Number.isSafeInteger(term) && Number(term) >= 0 ? Number(term) + 1 : now;
    if (!(await repairBreaker(store, document, { ...NEW_BREAKER, term: next }))) return;
    logger.error({ messenger: this.messenger }, 'the document of this breaker was nonsense; it is closed');
    await journal.write({ kind: 'breaker-repaired', detail: { messenger: this.messenger } });
  }

  /** The line does what the breaker says, at once. */
  #follow(breaker: Breaker, now: number): void {
    const { term, state } = breaker;
    const before = this.#seen;
    const isNews = before?.term !== term || before.state !== state;
    this.#seen = { term, state };
    if (isNews) void this.#alert.tell(breaker);
    if (breaker.state === 'closed') {
      this.#probe = undefined;
      if (isNews && breaker.closedAt !== undefined) this.#line.breaker.rampUp(now - breaker.closedAt);
      if (!isNews || before === undefined) return; // what this worker saw before its first look counts
      this.#line.breaker.close();
      this.#line.forgetFailures();
      return;
    }
    const isMine = breaker.state === 'half_open' && breaker.probe.token === this.#probe?.token;
    if (isMine) return;
    this.#probe = undefined;
    this.#line.breaker.shut();
  }

  async #takeProbe(from: OpenBreaker | HalfOpenBreaker, now: number, askedAt: number): Promise<void> {
    const { store, workerId } = this.#options;
    const token = randomUUID();
    const probe: HeldProbe = { token, answer: 'none-yet' };
    // Before the write: when its answer is lost, the next look shows whether it was applied.
    this.#probe = probe;
    const to = probedBy(from, { token, workerId }, now);
    if (!(await turnBreaker(store, this.messenger, from, to))) {
      this.#probe = undefined; // another worker was faster
      return;
    }
    this.#follow(to, now);
    await this.#goOn(to, probe, now, askedAt);
  }

  /** It cannot try anybody, others may. */
  async #leaveProbe(held: HalfOpenBreaker, now: number): Promise<void> {
    const { store, clock } = this.#options;
    this.#probe = undefined;
    this.#line.breaker.shut();
    this.#leavesProbeUntil = clock.monotonic() + LEFT_TO_OTHERS_MS;
    await renewProbe(store, this.messenger, held, new Date(now));
  }

  #ask(probe: HeldProbe): Promise<void> {
    const { logger, events } = this.#options;
    logger.info({ messenger: this.messenger }, 'trying whether the messenger works again');
    events.emit('breaker:half-open', { messenger: this.messenger });
    return this.#verify(probe);
  }

  async #verify(probe: HeldProbe): Promise<void> {
    const { clock, sendTimeoutMs } = this.#options;
    const { messenger } = this.#line;
    const ms = Math.min(LONGEST_VERIFY_MS, sendTimeoutMs);
    if (messenger.verify === undefined) {
      probe.answer = 'works';
      return;
    }
    try {
      await orAtDeadline(messenger.verify(), ms, clock, () => {
        throw new Error(`no answer to a look at it within ${ms} ms`);
      });
      probe.answer = 'works';
    } catch (error) {
      probe.answer = { failed: describeError(error).reason };
    }
  }

  async #goOn(held: HalfOpenBreaker, probe: HeldProbe, now: number, askedAt: number): Promise<void> {
    const { store, settings, nudge } = this.#options;
    const gate = this.#line.breaker;
    probe.asked ??= this.#ask(probe); // here, because the answer to taking the probe may have been lost
    if (typeof probe.answer === 'object') return this.#probeFailed(held, probe.answer.failed, now);
    const { trial } = gate;
    if (trial !== undefined) {
      const verdict = judgeTrial(trial, settings);
      if (verdict === 'passed') return this.#close(held, now);
      if (verdict === 'failed') return this.#probeFailed(held, trial.detail ?? held.detail, now);
    }
    const until = now + PROBE_LEASE_MS;
    if (held.probe.until < until && !(await renewProbe(store, this.messenger, held, new Date(until)))) {
      this.#probe = undefined;
      return gate.shut();
    }
    if (probe.answer !== 'works') return;
    if (trial === undefined) this.#line.forgetFailures();
    gate.tryUntil(askedAt + PROBE_LEASE_MS - PROBE_MARGIN_MS);
    if (trial === undefined) nudge();
  }

  async #probeFailed(held: HalfOpenBreaker, detail: string, now: number): Promise<void> {
    const { settings, random } = this.#options;
    await this.#open(held, reopened(held, detail, settings, now, random()), now);
  }

  async #open(from: Breaker, to: OpenBreaker, now: number): Promise<void> {
    const { store, logger, journal, events } = this.#options;
    if (!(await turnBreaker(store, this.messenger, from, to))) return; // another worker was faster
    this.#follow(to, now);
    const { messenger } = this;
    const { detail, openings } = to;
    const nextProbeAt = to.nextProbeAt === undefined ? null : new Date(to.nextProbeAt);
    const facts = { messenger, detail, openings, nextProbeAt };
    const isNew = from.state === 'closed';
    logger.error(
      facts,
      isNew ? 'breaker opened: the messenger does not work' : 'the messenger still does not work',
    );
    events.emit('breaker:opened', facts);
    // Neither waits for the other: the transition is durable, and campaigns that are not paused now are by the next look.
    await Promise.all([
      journal.write({ kind: isNew ? 'breaker-opened' : 'breaker-probe-failed', detail: facts }),
      pauseCampaigns(this.#options, messenger, whyPaused(to)),
    ]);
  }

  async #close(from: HalfOpenBreaker, now: number): Promise<void> {
    const { store, logger, journal, events } = this.#options;
    const to = closed(from, now);
    if (!(await turnBreaker(store, this.messenger, from, to))) return;
    this.#follow(to, now);
    const { messenger } = this;
    logger.info({ messenger }, 'breaker closed: the messenger works again');
    events.emit('breaker:closed', { messenger });
    await Promise.all([
      journal.write({ kind: 'breaker-closed', detail: { messenger } }),
      resumeCampaigns(this.#options, messenger),
    ]);
  }
}
