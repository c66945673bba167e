/**
 * Shares the work of all campaigns with an open run among the workers. Once a second, and at once when something happens
 * here, this worker looks at them and claims pages of those that send, in their turns. Invariant: no page is worked on
 * without a claim.
 */
import type { BreakerSettings } from '../core/breaker.ts';
import { orAtDeadline } from '../deadline.ts';
import { aboutRun } from '../events.ts';
import type { Messenger } from '../messengers/messenger.ts';
import { readAudiencePage } from '../store/audiences.ts';
import type { LedgerPageDoc, RunDoc } from '../store/documents.ts';
import { HeldPages } from './held-pages.ts';
import {
  type HeldAudience,
  type HeldRun,
  type HeldRunBeat,
  type HoldEnvironment,
  type Moment,
  momentOf,
} from './hold-environment.ts';
import { MessengerLine, WINDOW_FACTOR } from './messenger-line.ts';
import { type MessengerSurvey, surveyMessengers } from './messenger-survey.ts';
import { hasHint, type OpenRun, OpenRuns } from './open-runs.ts';
import { claimNextPage } from './page-claims.ts';
import { type HoldEnd, PageHold } from './page-hold.ts';
import { RateGates } from './rate-gates.ts';
import type { RunFreezer } from './run-freezer.ts';
import type { RunStepsOptions } from './run-steps.ts';
import { Slots } from './slots.ts';
import { LONG_WAIT_MS, Turns } from './turns.ts';

const CLAIMS_AT_ONCE = 8;
const TICK_MS = 100;
const QUICK_MS = 1;
/** A page is held this long at most. */
const LONGEST_TURN_MS = 60_000;
const FORCED_STOP_MS = 2_000;

export interface RunSharingOptions {
  readonly env: HoldEnvironment;
  readonly steps: RunStepsOptions;
  readonly freezer: RunFreezer;
  readonly messengers: Readonly<Record<string, Messenger>>;
  readonly pollMs: number;
  readonly pageSize: number;
  readonly maxPagesBytes: number;
  /** Undefined: messengers have no breaker. */
  readonly breaker: BreakerSettings | undefined;
  /** A page was put aside because its holders died in a row. */
  readonly onParked: (run: RunDoc, page: number) => Promise<void>;
}

export class RunSharing {
  readonly #options: RunSharingOptions;
  readonly #lines = new Map<string, MessengerLine>();
  readonly #gates: RateGates;
  readonly #open: OpenRuns;
  readonly #pages: HeldPages;
  readonly #turns: Turns;
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  #filling = false;
  #fillTookMs = 0;
  #started = false;
  #stopping = false;
  #suspended = false;
  #failing = false;
  #lookedAt: number | undefined;
  #askingForRests = false;
  #cancelPoll = (): void => undefined;
  #cancelTick = (): void => undefined;

  constructor(options: RunSharingOptions) {
    this.#options = options;
    const { store, clock } = options.env;
    this.#gates = new RateGates(store, clock);
    this.#pages = new HeldPages(clock);
    this.#turns = new Turns({ ...options, pages: this.#pages, lineOf: (entry) => this.#lineOf(entry) });
    for (const [name, messenger] of Object.entries(options.messengers)) {
      const rate = this.#gates.ofMessenger(name, messenger.rate);
      this.#lines.set(name, new MessengerLine(name, messenger, clock, rate, options.breaker));
    }
    this.#open = new OpenRuns({
      ...options,
      hasMessenger: (name) => this.#lines.has(name),
      mayTry: (name) => this.#lines.get(name)?.breaker.mayTry ?? false,
      onGone: (gone) => this.#forgetRate(gone),
    });
  }

  get pagesHeld(): number {
    return this.#pages.size;
  }
  /** Messengers that failed here and are not well again, and how long nothing is tried yet, ms. */
  get resting(): { messenger: string; forMs: number }[] {
    const sick = [...this.#lines.values()].filter((line) => line.sick);
    return sick.map((line) => ({ messenger: line.name, forMs: line.blockedForMs() }));
  }
  /** When open campaigns were read last, monotonic; undefined: not yet. */
  get lookedAt(): number | undefined {
    return this.#lookedAt;
  }
  /** Since when the page that has been held longest is held, monotonic; undefined: none is held. */
  get holdsSince(): number | undefined {
    return this.#pages.since;
  }
  /** Sends under way. */
  get inFlight(): number {
    return [...this.#lines.values()].reduce((sum, { sends }) => sum + sends.capacity - sends.free, 0);
  }
  /** The runs that pages are held of. */
  get heldRunIds(): string[] {
    return this.#pages.runIds;
  }
  /** Those that pages were held of since the last call, and who was handed over last. */
  takeHeldRuns(): HeldRunBeat[] {
    return this.#pages.takeRuns();
  }
  /** The messengers of this worker, each with what it may do at present. */
  get lines(): MessengerLine[] {
    return [...this.#lines.values()];
  }
  /** What this worker knows of the campaigns with an open run, by the messenger they go out by. */
  survey(): Map<string, MessengerSurvey> {
    const takesPages = !this.#stopping && !this.#suspended;
    return surveyMessengers(this.#lines.values(), this.#open.entries.values(), takesPages, (entry) =>
      this.#turns.maySend(entry),
    );
  }
  /** The claims that this process knows it holds: nobody here needs to watch them. */
  get ownTokens(): string[] {
    return [...this.#pages].map((hold) => hold.token);
  }

  start(): void {
    this.#started = true;
    this.#pollSoon();
    this.nudge();
  }

  #pollSoon(): void {
    const { env, pollMs } = this.#options;
    this.#cancelPoll = env.clock.schedule(pollMs, () => {
      this.#pollSoon();
      this.nudge();
      void this.#lookForRests();
    });
  }

  /** Takes no more pages, lets sends end and gives the pages back; after `timeoutMs` what is left is abandoned. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping = true;
    const { clock, telling } = this.#options.env;
    const from = clock.monotonic();
    for (const hold of this.#pages) hold.letGo('stop');
    const inTime = await this.#within(this.#pages.settled(), timeoutMs);
    if (!inTime) {
      this.force();
      await this.#within(this.#pages.settled(), FORCED_STOP_MS);
    }
    const leftMs = timeoutMs - (clock.monotonic() - from);
    await this.#within(Promise.all(telling), Math.max(FORCED_STOP_MS, leftMs));
    await this.#within(this.#gates.close(), FORCED_STOP_MS);
    this.#cancelPoll();
    this.#cancelTick();
    if (this.#looking !== undefined) await this.#within(this.#looking, FORCED_STOP_MS);
  }

  /** Abandons at once what is in flight. */
  force(): void {
    for (const hold of this.#pages) hold.force();
  }

  /** Lets the pages go and takes none until `resume`: the others may believe that this worker is gone. */
  suspend(): void {
    this.#suspended = true;
    for (const hold of this.#pages) hold.letGo('silent');
  }
  resume(): void {
    this.#suspended = false;
    this.nudge();
  }

  /** Looks as soon as possible. Many calls are one look. */
  nudge(): void {
    if (!this.#started || this.#stopping) return;
    this.#lookAgain = true;
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
      if (this.#lookAgain) this.nudge();
    });
  }

  async #look(): Promise<void> {
    const { env } = this.#options;
    const from = env.clock.monotonic();
    this.#lookAgain = false;
    try {
      if (await this.#open.look(() => this.#fillSoon())) this.#lookAgain = true;
      this.#failing = false;
      this.#lookedAt = env.clock.monotonic();
      this.#fillSoon();
    } catch (error) {
      if (!this.#failing) env.logger.warn({ error }, 'open campaigns could not be read; trying again');
      this.#failing = true;
    }
    // With many campaigns there is always one that asks for a look: half the time is left for the work itself.
    const tookMs = env.clock.monotonic() - from;
    if (tookMs > QUICK_MS) await this.#rest(tookMs);
  }

  #rest(ms: number): Promise<void> {
    return new Promise((resolve) =>
      this.#options.env.clock.schedule(Math.min(ms, this.#options.pollMs), resolve),
    );
  }

  /** Does this while it may end in a page to hold: a stop waits for it. Not begun any more once the worker stops. */
  async whileTaking(work: () => Promise<void>): Promise<void> {
    if (!this.#stopping) await this.#pages.whileTaking(work);
  }

  /** Works on a page that was taken over from a dead holder. */
  adopt(document: LedgerPageDoc, run: RunDoc, audience: HeldAudience, claimedAt: Moment): void {
    const open = this.#open.entries.get(run._id);
    const crowded = open === undefined || open.step !== 'send' || !this.#turns.hasRoom(open);
    this.#hold(document, open?.run === undefined ? run : open, audience, claimedAt, crowded);
  }

  // ---- claiming -----------------------------------------------------------------------------------------------------

  #lineOf(entry: OpenRun): MessengerLine | undefined {
    return this.#lines.get(entry.run?.messenger ?? '');
  }

  #fillSoon(): void {
    if (this.#filling) return;
    this.#filling = true;
    const { clock } = this.#options.env;
    const fill = (): void => {
      const from = clock.monotonic();
      this.#filling = false;
      this.#fill();
      this.#fillTookMs = clock.monotonic() - from;
    };
    // Going round thousands of campaigns takes a while; it must not be all that this worker does.
    if (this.#fillTookMs < QUICK_MS) setImmediate(fill);
    else clock.schedule(Math.min(this.#fillTookMs, this.#options.pollMs), fill);
  }

  #fill(): void {
    if (this.#stopping || this.#suspended) return;
    this.#turns.giveOut(this.#open.entries.values(), (entry) => {
      if (this.#pages.taking >= CLAIMS_AT_ONCE) return false;
      void this.#pages.whileTaking(() => this.#claim(entry)).then((answered) => answered && this.#fillSoon());
      return true;
    });
  }

  /** False: MongoDB did not answer, and nothing more is tried until the next look. */
  async #claim(entry: OpenRun): Promise<boolean> {
    const { env } = this.#options;
    const { run } = entry;
    if (run === undefined) return true;
    const line = entry.step === 'send' ? this.#lineOf(entry) : undefined;
    entry.claiming += 1;
    if (line !== undefined) line.claiming += 1;
    entry.lastServed = env.clock.monotonic();
    try {
      const claimedAt = momentOf(env.clock);
      const page = await this.#claimOne(entry);
      if (page === null) return true;
      const audience = await readAudiencePage(env.store, run.audienceId ?? '', page.n);
      if (audience === null) throw new Error(`audience page ${page.n} of run ${run._id} is missing`);
      this.#hold(page, entry, audience, claimedAt, false);
      return true;
    } catch (error) {
      env.logger.warn({ error, run: run._id }, 'a page could not be claimed; trying again');
      return false; // its claim, if it came about, is watched like a stranger's
    } finally {
      entry.claiming -= 1;
      if (line !== undefined) line.claiming -= 1;
    }
  }

  async #claimOne(entry: OpenRun): Promise<LedgerPageDoc | null> {
    const onTrial = this.#lineOf(entry)?.breaker.isClosed === false;
    const purpose = !this.#turns.maySend(entry) ? 'only-orders' : onTrial ? 'trial' : 'send';
    const page = await claimNextPage(this.#options.env, entry, purpose);
    if (page === null && entry.holds.size === 0) this.nudge();
    return page;
  }

  #hold(
    page: LedgerPageDoc,
    of: OpenRun | RunDoc,
    audience: HeldAudience,
    claimedAt: Moment,
    crowded: boolean,
  ): void {
    if (page.claim === undefined) return;
    const entry = 'ref' in of ? of : undefined;
    const run = 'ref' in of ? of.run : of;
    if (run === undefined) return;
    // Without an entry nothing is sent: the page is settled and given back.
    const held = entry?.held ?? this.#heldRun(run, entry);
    if (entry !== undefined) entry.held = held;
    const line = this.#lines.get(run.messenger);
    const hold = new PageHold(
      this.#options.env,
      held,
      line,
      { ...page, claim: page.claim },
      audience,
      claimedAt,
    );
    if (this.#pages.size === 0) this.#tickSoon();
    this.#pages.add(hold, held);
    entry?.holds.add(hold);
    if (this.#stopping) hold.letGo('stop');
    else if (this.#suspended) hold.letGo('silent');
    else if (entry === undefined || entry.step !== 'send') hold.letGo('pause');
    else if (crowded) hold.letGo('turn');
    void hold.work().then((end) => {
      this.#pages.remove(hold, held);
      if (entry !== undefined) this.#ended(entry, hold, end);
      if (end === 'parked') void this.#options.onParked(held.doc, page.n);
      this.#fillSoon();
    });
  }

  /** A page of it is no longer held: what is known of its pages now. */
  #ended(entry: OpenRun, hold: PageHold, end: HoldEnd): void {
    entry.holds.delete(hold);
    if (end === 'pending') entry.hints.pending = true;
    if (end === 'done') {
      entry.pagesDone += 1;
      if (entry.pagesDone >= (entry.run?.pages ?? 0)) entry.hints.pending = false;
    }
    if (entry.holds.size > 0) return;
    entry.inspectedAt = Number.NEGATIVE_INFINITY;
    void entry.held?.rate?.giveBack();
    if (!hasHint(entry)) this.nudge();
  }

  #heldRun(run: RunDoc, entry: OpenRun | undefined): HeldRun {
    const { concurrency, rate } = run.limits;
    const { campaign, run: about } = aboutRun(run);
    return {
      doc: run,
      lastRecipient: undefined,
      about: { campaign: Object.freeze(campaign), run: Object.freeze(about) },
      sends: new Slots(concurrency),
      window: new Slots(concurrency * WINDOW_FACTOR),
      rate: entry && this.#gates.ofCampaign(campaign.id, rate),
      hours: entry?.hours,
    };
  }

  /** The runs of a campaign share its gate. */
  #forgetRate({ campaign }: OpenRun): void {
    for (const other of this.#open.entries.values()) if (other.campaign._id.equals(campaign._id)) return;
    void this.#gates.dropCampaign(campaign._id.toHexString());
  }

  /** Rests that other servers have heard of, of the messengers that have something to send. */
  async #lookForRests(): Promise<void> {
    if (this.#askingForRests || this.#stopping) return;
    const names = new Set<string>();
    for (const entry of this.#open.entries.values()) {
      const line = entry.step === 'send' ? this.#lineOf(entry) : undefined;
      if (line !== undefined) names.add(line.name);
    }
    if (names.size === 0) return;
    this.#askingForRests = true;
    try {
      await this.#gates.lookForRests([...names]);
    } catch {
      // the next poll looks again; that MongoDB is away is logged by the look for campaigns
    } finally {
      this.#askingForRests = false;
    }
  }

  // ---- time ---------------------------------------------------------------------------------------------------------

  /** Time passes for the pages that are held; without any there is nothing to look after. */
  #tickSoon(): void {
    this.#cancelTick();
    this.#cancelTick = this.#options.env.clock.schedule(TICK_MS, () => {
      this.#tick();
      if (this.#pages.size === 0) return;
      this.#tickSoon();
    });
  }

  #tick(): void {
    const now = this.#options.env.clock.monotonic();
    for (const line of this.#lines.values()) line.waiting = 0;
    for (const hold of this.#pages) {
      hold.tick();
      if (now - hold.heldSince > LONGEST_TURN_MS) hold.letGo('turn');
      const waitMs = hold.nextSendInMs;
      if (waitMs > this.#options.env.claimTtlMs) hold.letGo('rate');
      else if (waitMs > LONG_WAIT_MS) hold.countAsWaiting();
    }
    if (this.#turns.crowded) this.#fillSoon(); // somebody's turn may be over
    for (const line of this.#lines.values()) {
      const blockedForMs = Math.max(line.blockedForMs(), line.rate.blockedForMs());
      if (blockedForMs <= this.#options.env.claimTtlMs && !line.lendsPages) continue;
      for (const entry of this.#open.entries.values()) {
        if (this.#lineOf(entry) === line) for (const hold of entry.holds) hold.letGo('messenger');
      }
    }
  }

  #within(work: Promise<unknown>, ms: number): Promise<boolean> {
    const done = work.then(() => true);
    return orAtDeadline(done, ms, this.#options.env.clock, () => false);
  }
}
