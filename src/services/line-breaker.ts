/**
 * What this worker does about the breaker of one messenger: follows it, tells what it has seen, opens it, probes, closes.
 * Every step is a guarded write that any worker may take; a worker that stalled finds its guard gone. Invariants: the line
 * is shut before anything else happens when the breaker is not closed; a trial goes on only as long as this worker can be
 * sure, by its monotonic clock, that it still holds the probe.
 */
import { randomUUID } from 'node:crypto';
import type { Clock } from '../clock.ts';
import {
  type Breaker,
  type BreakerSettings,
  type ClosedBreaker,
  closed,
  type Evidence,
  type HalfOpenBreaker,
  isFresh,
  isProbeFree,
  judgeEvidence,
  judgeTrial,
  NEW_BREAKER,
  type OpenBreaker,
  opened,
  PROBE_LEASE_MS,
  probedBy,
  reopened,
  speaksAgainst,
  type Trial,
} from '../core/breaker.ts';
import { describeError } from '../core/retry.ts';
import { orAtDeadline } from '../deadline.ts';
import type { MessengerLine } from '../delivery/messenger-line.ts';
import { type RawBreaker, renewProbe, repairBreaker, turnBreaker, writeEvidence } from '../store/breakers.ts';
import type { Alerter } from './alerter.ts';
import {
  type BreakerCampaignsOptions,
  breakerAlertKey,
  pauseCampaigns,
  resumeCampaigns,
  whyPaused,
} from './breaker-campaigns.ts';

/** What this worker knows of the campaigns that go out by a messenger. */
export interface LineSurvey {
  /** It has something to send right now. */
  readonly busy: boolean;
  /** A campaign is in progress. */
  readonly moving: boolean;
  /** A campaign is paused by the breaker. */
  readonly held: boolean;
  /** The worker takes pages: it is not stopping, and others know that it lives. */
  readonly takesPages: boolean;
}

export interface LineBreakerOptions extends BreakerCampaignsOptions {
  readonly settings: BreakerSettings;
  readonly clock: Clock;
  readonly serverNow: () => Date;
  readonly random: () => number;
  readonly alerter: Pick<Alerter, 'raise' | 'clear'>;
  readonly workerId: string;
  readonly sendTimeoutMs: number;
  readonly survey: () => ReadonlyMap<string, LineSurvey>;
  /** Ids of the live workers that have the messenger and tell what they see of it. */
  readonly workersHaving: (messenger: string) => Promise<readonly string[]>;
}

/** The prober stops this long before others may take the probe. */
const PROBE_MARGIN_MS = 2_000;
const LONGEST_VERIFY_MS = 10_000;
const COUNT_WORKERS_MS = 5_000;
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
  #seen: Pick<Breaker, 'term' | 'state'> | undefined;
  #probe: HeldProbe | undefined;
  /** Until then others may take the probe, by the monotonic clock. */
  #leavesProbeUntil = Number.NEGATIVE_INFINITY;
  #live: ReadonlySet<string> = new Set();
  #workersCountedAt = Number.NEGATIVE_INFINITY;
  #newerTold = false;
  /** What the alert says, as far as this worker knows; null: it is cleared. */
  #alerted: string | null | undefined;

  constructor(options: LineBreakerOptions, line: MessengerLine) {
    this.#options = options;
    this.#line = line;
    this.messenger = line.name;
  }

  wantsToKnow(standing: LineSurvey | undefined): boolean {
    const { isClosed, isFailing, hasNews } = this.#line.breaker;
    return standing?.busy === true || !isClosed || (isFailing && hasNews);
  }

  /** `now`: the server's time at which it stood so; `askedAt`: before it was asked, by the monotonic clock. */
  async treat(
    breaker: Breaker,
    now: number,
    askedAt: number,
    standing: LineSurvey | undefined,
  ): Promise<void> {
    this.#follow(breaker, now);
    if (breaker.state === 'closed') {
      if (standing?.held === true) await resumeCampaigns(this.#options, this.messenger);
      return this.#watch(breaker, now);
    }
    if (standing?.moving === true) await pauseCampaigns(this.#options, this.messenger, whyPaused(breaker));
    const mayTry = standing?.takesPages === true;
    if (isProbeFree(breaker, now)) {
      const isLeft = this.#options.clock.monotonic() < this.#leavesProbeUntil;
      return mayTry && !isLeft ? this.#takeProbe(breaker, now, askedAt) : undefined;
    }
    const probe = this.#probe;
    if (breaker.state !== 'half_open' || breaker.probe.token !== probe?.token) return;
    const { trial } = this.#line.breaker;
    const isInFlight = (trial?.inFlight ?? 0) > 0;
    if (!isInFlight && (!mayTry || (await this.#triesInVain(trial, standing)))) {
      return this.#leaveProbe(breaker, now);
    }
    await this.#goOn(breaker, probe, now, askedAt);
  }

  /** It has something to send and does not come to it, and another worker may. */
  async #triesInVain(trial: Trial | undefined, standing: LineSurvey | undefined): Promise<boolean> {
    const isIdle = trial?.started === 0 && trial.quietMs >= IDLE_TRIAL_MS && standing?.busy === true;
    return isIdle && (await this.#liveWorkers()).size > 1;
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
    if (isNews) void this.#alert(breaker);
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

  /** Every worker tells it, so that none can take it to the grave; it is raised and cleared once. */
  async #alert(breaker: Breaker): Promise<void> {
    const { alerter } = this.#options;
    const { messenger } = this;
    const key = breakerAlertKey(messenger);
    const before = this.#alerted;
    if (breaker.state === 'closed') {
      this.#alerted = null;
      if (typeof before === 'string' || breaker.term > 0) await alerter.clear(key);
      return;
    }
    const { detail } = breaker;
    const { openedBy } = whyPaused(breaker);
    this.#alerted = openedBy ?? 'breaker';
    if (before !== this.#alerted) {
      const message =
        openedBy === undefined
          ? `The messenger \`${messenger}\` does not work: ${detail}. Its campaigns are paused until it does.`
          : `${openedBy} opened the breaker of the messenger \`${messenger}\`: ${detail}. Its campaigns are paused until somebody closes it.`;
      await alerter.raise({
        key,
        kind: 'breaker',
        level: 'critical',
        message,
        detail: { messenger, detail },
      });
    }
  }

  // ---- closed ---------------------------------------------------------------------------------------------------------

  async #watch(breaker: ClosedBreaker, now: number): Promise<void> {
    const { settings, workerId, random } = this.#options;
    const gate = this.#line.breaker;
    const { [workerId]: told, ...others } = breaker.evidence;
    const lastSuccess = Math.max(0, ...Object.values(others).map(({ succeededAt = 0 }) => succeededAt));
    if (lastSuccess > 0) gate.othersSucceeded(now - lastSuccess);
    const mine = gate.evidence(now);
    // Also what it has told itself: others go on telling until it takes that back.
    const isTold = Object.values(breaker.evidence).some(
      (one) => isFresh(one, settings, now) && speaksAgainst(one, settings),
    );
    const isNews = gate.hasNews && mine !== undefined && speaksAgainst(mine, settings);
    if (!isTold && !isNews) return;
    const live = await this.#liveWorkers();
    const all = mine === undefined ? others : { ...others, [workerId]: mine };
    if (gate.hasNews && (mine ?? told) !== undefined) await this.#tellEvidence(breaker, mine, live, now);
    if (!judgeEvidence(all, live, settings, now).opens) return;
    // Somebody may have come since they were counted.
    const { opens, detail } = judgeEvidence(all, await this.#liveWorkers(0), settings, now);
    if (opens) await this.#open(breaker, opened(breaker, detail, settings, now, random()), now);
  }

  /** Only what is news: who has nothing to send has nothing to say. */
  async #tellEvidence(
    breaker: ClosedBreaker,
    mine: Evidence | undefined,
    live: ReadonlySet<string>,
    now: number,
  ): Promise<void> {
    const { store, workerId, settings } = this.#options;
    const gate = this.#line.breaker;
    const gone = Object.entries(breaker.evidence).flatMap(([id, one]) =>
      live.has(id) || isFresh(one, settings, now) ? [] : [id],
    );
    gate.hasNews = false;
    try {
      await writeEvidence(store, this.messenger, breaker, workerId, mine, gone);
    } catch (error) {
      gate.hasNews = true;
      throw error;
    }
  }

  /** Ids, with its own. */
  async #liveWorkers(forMs = COUNT_WORKERS_MS): Promise<ReadonlySet<string>> {
    const { clock, workersHaving, workerId } = this.#options;
    if (clock.monotonic() - this.#workersCountedAt >= forMs) {
      this.#live = new Set([...(await workersHaving(this.messenger)), workerId]);
      this.#workersCountedAt = clock.monotonic();
      this.#line.othersHaveIt = this.#live.size > 1;
    }
    return this.#live;
  }

  // ---- open and half open -------------------------------------------------------------------------------------------

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
