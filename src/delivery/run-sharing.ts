/**
 * Whose turn it is. Once a second, and at once when something happens here, this worker looks at all campaigns with an open
 * run and shares the pages of those that send: by priority, then whoever was served longest ago. Invariant: no page is
 * worked on without a claim, and all pages held together stay within `maxPagesBytes` (at least one is held).
 */
import { randomUUID } from 'node:crypto';
import type { Messenger } from '../messengers/messenger.ts';
import { readAudiencePage } from '../store/audiences.ts';
import type { Claim, LedgerPageDoc, RunDoc } from '../store/documents.ts';
import { type ClaimKind, claimPage } from '../store/ledger-claims.ts';
import { type HeldRun, type HoldEnvironment, type Moment, momentOf } from './hold-environment.ts';
import { MessengerLine, WINDOW_FACTOR } from './messenger-line.ts';
import { hasHint, isClosed, isPageStep, type OpenRun, OpenRuns, sizeNow } from './open-runs.ts';
import { PageHold } from './page-hold.ts';
import { RateGates } from './rate-gates.ts';
import type { RunFreezer } from './run-freezer.ts';
import type { RunStepsOptions } from './run-steps.ts';
import { Slots } from './slots.ts';

const CLAIMS_AT_ONCE = 8;
const PAGES_PER_RUN = 8;
const PAGES_FOR_ORDERS = 4;
const TICK_MS = 100;
/** A page is held this long at most; when others wait, this short. */
const LONG_TURN_MS = 60_000;
const SHORT_TURN_MS = 1_000;
/** Whoever waits should have had a turn after about this time: the more wait, the shorter are the turns, down to a limit. */
const ROUND_MS = 2_000;
const SHORTEST_TURN_MS = 100;
const FORCED_STOP_MS = 2_000;
/** A page that waits so long for its next token takes no place from others. */
const LONG_WAIT_MS = 500;

export interface RunSharingOptions {
  readonly env: HoldEnvironment;
  readonly steps: RunStepsOptions;
  readonly freezer: RunFreezer;
  readonly messengers: Readonly<Record<string, Messenger>>;
  readonly pollMs: number;
  readonly pageSize: number;
  readonly maxPagesBytes: number;
  /** A page was put aside because its holders died in a row. */
  readonly onParked: (run: RunDoc, page: number) => Promise<void>;
}

export class RunSharing {
  readonly #options: RunSharingOptions;
  readonly #lines = new Map<string, MessengerLine>();
  readonly #gates: RateGates;
  readonly #open: OpenRuns;
  readonly #holds = new Set<PageHold>();
  #heldBytes = 0;
  #claiming = 0;
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  #filling = false;
  /** At the last look somebody who has no page found no place. */
  #crowded = false;
  #started = false;
  #stopping = false;
  #failing = false;
  #askingForRests = false;
  #cancelTimers: (() => void)[] = [];

  constructor(options: RunSharingOptions) {
    this.#options = options;
    const { store, clock } = options.env;
    this.#gates = new RateGates(store, clock);
    for (const [name, messenger] of Object.entries(options.messengers)) {
      const rate = this.#gates.ofMessenger(name, messenger.rate);
      this.#lines.set(name, new MessengerLine(name, messenger, clock, rate));
    }
    this.#open = new OpenRuns({
      ...options,
      hasMessenger: (name) => this.#lines.has(name),
      onGone: (gone) => this.#forgetRate(gone),
    });
  }

  get pagesHeld(): number {
    return this.#holds.size;
  }
  /** Messengers that failed here and are not well again, and how long nothing is tried yet, ms. */
  get resting(): { messenger: string; forMs: number }[] {
    const sick = [...this.#lines.values()].filter((line) => line.sick);
    return sick.map((line) => ({ messenger: line.name, forMs: line.blockedForMs() }));
  }
  /** The claims that this process knows it holds: nobody here needs to watch them. */
  get ownTokens(): string[] {
    return [...this.#holds].map((hold) => hold.token);
  }

  start(): void {
    this.#started = true;
    this.#every(this.#options.pollMs, () => {
      this.nudge();
      void this.#lookForRests();
    });
    this.#every(TICK_MS, () => this.#tick());
    this.nudge();
  }

  /** Takes no more pages, lets sends end and gives the pages back; after `timeoutMs` what is left is abandoned. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping = true;
    for (const hold of this.#holds) hold.letGo('stop');
    const settled = this.#holdsSettled();
    if (!(await this.#within(settled, timeoutMs))) {
      for (const hold of this.#holds) hold.force();
      await this.#within(this.#holdsSettled(), FORCED_STOP_MS);
    }
    await this.#within(this.#gates.close(), FORCED_STOP_MS);
    for (const cancel of this.#cancelTimers) cancel();
    if (this.#looking !== undefined) await this.#within(this.#looking, FORCED_STOP_MS);
  }

  /** Abandons at once what is in flight. */
  force(): void {
    for (const hold of this.#holds) hold.force();
  }

  /** Looks as soon as possible. Many calls are one look. */
  nudge(): void {
    if (!this.#started || this.#stopping) return;
    if (this.#looking !== undefined) {
      this.#lookAgain = true;
      return;
    }
    this.#looking = this.#open
      .look()
      .then(() => {
        this.#failing = false;
        this.#fillSoon();
      })
      .catch((error: unknown) => {
        if (!this.#failing)
          this.#options.env.logger.warn({ error }, 'open campaigns could not be read; trying again');
        this.#failing = true;
      })
      .finally(() => {
        this.#looking = undefined;
        if (this.#lookAgain) {
          this.#lookAgain = false;
          this.nudge();
        }
      });
  }

  /** Does this while it may end in a page to hold: a stop waits for it. Not begun any more once the worker stops. */
  async whileTaking(work: () => Promise<void>): Promise<void> {
    if (this.#stopping) return;
    this.#claiming += 1;
    try {
      await work();
    } finally {
      this.#claiming -= 1;
    }
  }

  /** Works on a page that was taken over from a dead holder. */
  adopt(document: LedgerPageDoc, run: RunDoc, audience: HeldAudience, claimedAt: Moment): void {
    const open = this.#open.entries.get(run._id);
    const crowded = open === undefined || open.step !== 'send' || !this.#hasRoom(open);
    this.#hold(document, open?.run === undefined ? run : open, audience, claimedAt, crowded);
  }

  // ---- claiming -----------------------------------------------------------------------------------------------------

  #lineOf(entry: OpenRun): MessengerLine | undefined {
    return this.#lines.get(entry.run?.messenger ?? '');
  }

  #wants(entry: OpenRun): boolean {
    if (!isPageStep(entry.step) || !hasHint(entry)) return false;
    const pages = entry.holds.size + entry.claiming;
    if (!this.#maySend(entry)) return entry.hints.behind && pages < PAGES_FOR_ORDERS;
    if (pages >= PAGES_PER_RUN) return false;
    let queued = entry.claiming * this.#options.pageSize;
    for (const hold of entry.holds) queued += hold.queued;
    return queued < WINDOW_FACTOR * (entry.run?.limits.concurrency ?? 1) * 2;
  }

  /** Or are pages of it claimed only to apply orders: it is paused, or outside its window, or waits for its messenger? */
  #maySend(entry: OpenRun): boolean {
    if (entry.step !== 'send' || isClosed(entry, this.#options.env.serverNow())) return false;
    const line = this.#lineOf(entry);
    if (line !== undefined && (line.blockedForMs() > 0 || (line.sick && line.users > 0))) return false;
    return !this.#waitsForToken(entry, line);
  }

  /**
   * The next token is so far away that a page would only be held for nothing. Half the time after which it is given back,
   * so that pages do not come and go; looked at again with every poll.
   */
  #waitsForToken({ held }: OpenRun, line: MessengerLine | undefined): boolean {
    if (line !== undefined && line.rate.blockedForMs() > 0) return true;
    const nextInMs = Math.max(held?.rate?.nextAtMs() ?? 0, line?.rate.nextAtMs() ?? 0);
    return nextInMs > this.#options.env.claimTtlMs / 2;
  }

  #hasRoom(entry: OpenRun): boolean {
    if (this.#holds.size === 0 && this.#claiming === 0) return true;
    if (this.#heldBytes * (1 + this.#claiming / Math.max(1, this.#holds.size)) >= this.#options.maxPagesBytes)
      return false;
    const line = this.#lineOf(entry);
    if (line === undefined || entry.step !== 'send') return true;
    // Claims under way count: or one place that comes free would go to everybody at once, whatever the priority.
    return line.users - line.waiting + line.claiming < Math.max(2, line.sends.capacity);
  }

  #fillSoon(): void {
    if (this.#filling) return;
    this.#filling = true;
    setImmediate(() => {
      this.#filling = false;
      this.#fill();
    });
  }

  #fill(): void {
    if (this.#stopping) return;
    const waiting = [...this.#open.entries.values()]
      .filter((entry) => this.#wants(entry))
      .sort((a, b) => b.campaign.priority - a.campaign.priority || a.lastServed - b.lastServed);
    const shareMs = (ROUND_MS * this.#holds.size) / Math.max(1, waiting.length);
    const turnMs = Math.min(SHORT_TURN_MS, Math.max(SHORTEST_TURN_MS, shareMs));
    let asked = 0;
    this.#crowded = false;
    for (const entry of waiting) {
      if (this.#claiming >= CLAIMS_AT_ONCE || asked >= CLAIMS_AT_ONCE) return;
      if (this.#hasRoom(entry)) void this.#claim(entry);
      else if (entry.holds.size === 0) {
        this.#crowded = true;
        this.#makeRoom(entry, turnMs);
        asked += 1;
      }
    }
  }

  /** Asks the page that has been held longest to make room, of a campaign that is not more important or only waits. */
  #makeRoom(entry: OpenRun, turnMs: number): void {
    const now = this.#options.env.clock.monotonic();
    let oldest: PageHold | undefined;
    for (const other of this.#open.entries.values()) {
      const less = other.campaign.priority < entry.campaign.priority;
      if (other === entry) continue;
      const more = other.campaign.priority > entry.campaign.priority;
      for (const hold of other.holds) {
        if (more && hold.nextSendInMs <= LONG_WAIT_MS) continue;
        if (hold.lettingGo || (!less && now - hold.heldSince < turnMs)) continue;
        if (oldest === undefined || hold.heldSince < oldest.heldSince) oldest = hold;
      }
    }
    oldest?.letGo('turn');
  }

  async #claim(entry: OpenRun): Promise<void> {
    const { env } = this.#options;
    const { run } = entry;
    if (run === undefined) return;
    const line = entry.step === 'send' ? this.#lineOf(entry) : undefined;
    entry.claiming += 1;
    this.#claiming += 1;
    if (line !== undefined) line.claiming += 1;
    entry.lastServed = env.clock.monotonic();
    try {
      const claimedAt = momentOf(env.clock);
      const page = await this.#claimOne(entry);
      if (page === null) return;
      const audience = await readAudiencePage(env.store, run.audienceId ?? '', page.n);
      if (audience === null) throw new Error(`audience page ${page.n} of run ${run._id} is missing`);
      this.#hold(page, entry, audience, claimedAt, false);
    } catch (error) {
      env.logger.warn({ error, run: run._id }, 'a page could not be claimed; trying again');
      return; // its claim, if it came about, is watched like a stranger's
    } finally {
      entry.claiming -= 1;
      this.#claiming -= 1;
      if (line !== undefined) line.claiming -= 1;
    }
    this.#fillSoon();
    if (!hasHint(entry) && entry.holds.size === 0) this.nudge();
  }

  async #claimOne(entry: OpenRun): Promise<LedgerPageDoc | null> {
    const { env } = this.#options;
    const size = sizeNow(entry, env.serverNow());
    if (size === undefined) return null;
    const kinds: readonly ClaimKind[] = this.#maySend(entry) ? ['due', 'behind', 'pending'] : ['behind'];
    for (const kind of kinds) {
      if (!entry.hints[kind]) continue;
      const page = await claimPage(env.store, size, kind, this.newClaim(), env.serverNow());
      if (page !== null) return page;
      entry.hints[kind] = false;
    }
    if (entry.holds.size === 0) this.nudge();
    return null;
  }

  newClaim(): Claim {
    const { workerId, claimTtlMs, sendTimeoutMs } = this.#options.env;
    return { token: randomUUID(), seq: 0, workerId, ttlMs: claimTtlMs, sendTimeoutMs };
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
    this.#holds.add(hold);
    this.#heldBytes += hold.bytes;
    entry?.holds.add(hold);
    if (this.#stopping) hold.letGo('stop');
    else if (entry === undefined || entry.step !== 'send') hold.letGo('pause');
    else if (crowded) hold.letGo('turn');
    void hold.work().then((end) => {
      this.#holds.delete(hold);
      this.#heldBytes -= hold.bytes;
      entry?.holds.delete(hold);
      if (entry?.holds.size === 0) {
        entry.inspectedAt = Number.NEGATIVE_INFINITY;
        void held.rate?.giveBack();
      }
      this.#holdEnded?.();
      if (end === 'pending' && entry !== undefined) entry.hints.pending = true;
      if (end === 'parked') void this.#options.onParked(held.doc, page.n);
      if (entry !== undefined && entry.holds.size === 0 && !hasHint(entry)) this.nudge();
      this.#fillSoon();
    });
  }

  #heldRun(run: RunDoc, entry: OpenRun | undefined): HeldRun {
    const { concurrency, rate } = run.limits;
    return {
      doc: run,
      sends: new Slots(concurrency),
      window: new Slots(concurrency * WINDOW_FACTOR),
      rate: entry && this.#gates.ofCampaign(run.campaignId.toHexString(), rate),
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

  #tick(): void {
    const now = this.#options.env.clock.monotonic();
    for (const line of this.#lines.values()) line.waiting = 0;
    for (const hold of this.#holds) {
      hold.tick();
      if (now - hold.heldSince > LONG_TURN_MS) hold.letGo('turn');
      const waitMs = hold.nextSendInMs;
      if (waitMs > this.#options.env.claimTtlMs) hold.letGo('rate');
      else if (waitMs > LONG_WAIT_MS) hold.countAsWaiting();
    }
    if (this.#crowded) this.#fillSoon(); // somebody's turn may be over
    for (const line of this.#lines.values()) {
      const blockedForMs = Math.max(line.blockedForMs(), line.rate.blockedForMs());
      if (blockedForMs <= this.#options.env.claimTtlMs) continue;
      for (const entry of this.#open.entries.values()) {
        if (this.#lineOf(entry) === line) for (const hold of entry.holds) hold.letGo('messenger');
      }
    }
  }

  #every(ms: number, run: () => void): void {
    let cancelled = false;
    let cancel = (): void => undefined;
    const next = (): void => {
      cancel = this.#options.env.clock.schedule(ms, () => {
        if (cancelled) return;
        run();
        next();
      });
    };
    next();
    this.#cancelTimers.push(() => {
      cancelled = true;
      cancel();
    });
  }

  #holdEnded: (() => void) | undefined;
  async #holdsSettled(): Promise<void> {
    while (this.#holds.size > 0 || this.#claiming > 0) {
      await new Promise<void>((resolve) => {
        this.#holdEnded = resolve;
        this.#options.env.clock.schedule(TICK_MS, resolve);
      });
    }
  }

  async #within(work: Promise<void>, ms: number): Promise<boolean> {
    let cancel = (): void => undefined;
    const late = new Promise<boolean>((resolve) => {
      cancel = this.#options.env.clock.schedule(ms, () => resolve(false));
    });
    const inTime = await Promise.race([work.then(() => true), late]);
    cancel();
    return inTime;
  }
}

type HeldAudience = ConstructorParameters<typeof PageHold>[4];
