/**
 * Whose turn it is. Once a second, and at once when something happens here, this worker looks at all campaigns with an open
 * run and shares the pages of those that send: by priority, then whoever was served longest ago. Invariant: no page is
 * worked on without a claim, and all pages held together stay within `maxPagesBytes` (at least one is held).
 */
import { randomUUID } from 'node:crypto';
import type { Messenger } from '../messengers/messenger.ts';
import { readAudiencePage } from '../store/audiences.ts';
import type { Claim, LedgerPageDoc, RunDoc } from '../store/documents.ts';
import { type ClaimKind, claimPage } from '../store/ledger-pages.ts';
import { sizeOf } from './closing.ts';
import { type HeldRun, type HoldEnvironment, type Moment, momentOf } from './hold-environment.ts';
import { MessengerLine, WINDOW_FACTOR } from './messenger-line.ts';
import { hasHint, isPageStep, type OpenRun, OpenRuns } from './open-runs.ts';
import { PageHold } from './page-hold.ts';
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
  #cancelTimers: (() => void)[] = [];

  constructor(options: RunSharingOptions) {
    this.#options = options;
    for (const [name, messenger] of Object.entries(options.messengers)) {
      this.#lines.set(name, new MessengerLine(name, messenger, options.env.clock));
    }
    this.#open = new OpenRuns({ ...options, hasMessenger: (name) => this.#lines.has(name) });
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
    this.#every(this.#options.pollMs, () => this.nudge());
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
    if (entry.step !== 'send') return pages < PAGES_FOR_ORDERS;
    if (pages >= PAGES_PER_RUN) return false;
    const line = this.#lineOf(entry);
    if (line !== undefined && (line.blockedForMs() > 0 || (line.sick && line.users > 0))) return false;
    let queued = entry.claiming * this.#options.pageSize;
    for (const hold of entry.holds) queued += hold.queued;
    return queued < WINDOW_FACTOR * (entry.run?.limits.concurrency ?? 1) * 2;
  }

  #hasRoom(entry: OpenRun): boolean {
    if (this.#holds.size === 0 && this.#claiming === 0) return true;
    if (this.#heldBytes * (1 + this.#claiming / Math.max(1, this.#holds.size)) >= this.#options.maxPagesBytes)
      return false;
    const line = this.#lineOf(entry);
    if (line === undefined || entry.step !== 'send') return true;
    // Claims under way count: or one place that comes free would go to everybody at once, whatever the priority.
    return line.users + line.claiming < Math.max(2, line.sends.capacity);
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

  /** Asks the page that has been held longest, of a campaign that is not more important, to make room. */
  #makeRoom(entry: OpenRun, turnMs: number): void {
    const now = this.#options.env.clock.monotonic();
    let oldest: PageHold | undefined;
    for (const other of this.#open.entries.values()) {
      const less = other.campaign.priority < entry.campaign.priority;
      if (other === entry || other.campaign.priority > entry.campaign.priority) continue;
      for (const hold of other.holds) {
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
      const page = await this.#claimOne(entry, run);
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

  async #claimOne(entry: OpenRun, run: RunDoc): Promise<LedgerPageDoc | null> {
    const { env } = this.#options;
    const kinds: readonly ClaimKind[] = entry.step === 'send' ? ['due', 'behind', 'pending'] : ['behind'];
    for (const kind of kinds) {
      if (!entry.hints[kind]) continue;
      const page = await claimPage(env.store, sizeOf(run), kind, this.newClaim(), env.serverNow());
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
    const held = entry?.held ?? newHeldRun(run);
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
      this.#holdEnded?.();
      if (end === 'pending' && entry !== undefined) entry.hints.pending = true;
      if (end === 'parked') void this.#options.onParked(held.doc, page.n);
      if (entry !== undefined && entry.holds.size === 0 && !hasHint(entry)) this.nudge();
      this.#fillSoon();
    });
  }

  // ---- time ---------------------------------------------------------------------------------------------------------

  #tick(): void {
    const now = this.#options.env.clock.monotonic();
    for (const hold of this.#holds) {
      hold.tick();
      if (now - hold.heldSince > LONG_TURN_MS) hold.letGo('turn');
    }
    if (this.#crowded) this.#fillSoon(); // somebody's turn may be over
    for (const line of this.#lines.values()) {
      if (line.blockedForMs() <= this.#options.env.claimTtlMs) continue;
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

function newHeldRun(run: RunDoc): HeldRun {
  const { concurrency } = run.limits;
  return { doc: run, sends: new Slots(concurrency), window: new Slots(concurrency * WINDOW_FACTOR) };
}
