/**
 * Whose turn it is: which open runs should claim a page now, and which page makes room for them. By priority, then whoever
 * was served longest ago. Invariant: all pages held together stay within `maxPagesBytes` (at least one is held), and a
 * messenger that takes few sends at once has few pages.
 */
import type { HeldPages } from './held-pages.ts';
import type { HoldEnvironment } from './hold-environment.ts';
import { type MessengerLine, WINDOW_FACTOR } from './messenger-line.ts';
import { hasHint, isClosed, isPageStep, type OpenRun } from './open-runs.ts';
import type { PageHold } from './page-hold.ts';

const PAGES_PER_RUN = 8;
const PAGES_FOR_ORDERS = 4;
const MAKE_ROOM_AT_ONCE = 8;
/** When others wait, a page is held for a turn of this length. */
const SHORT_TURN_MS = 1_000;
/** Whoever waits should have had a turn after about this time: the more wait, the shorter are the turns, down to a limit. */
const ROUND_MS = 2_000;
const SHORTEST_TURN_MS = 100;
/** A page that waits so long for its next token takes no place from others. */
export const LONG_WAIT_MS = 500;

export interface TurnsOptions {
  readonly env: HoldEnvironment;
  readonly pageSize: number;
  readonly maxPagesBytes: number;
  readonly pages: HeldPages;
  readonly lineOf: (entry: OpenRun) => MessengerLine | undefined;
}

export class Turns {
  readonly #options: TurnsOptions;
  #crowded = false;

  constructor(options: TurnsOptions) {
    this.#options = options;
  }

  /** At the last round somebody who has no page found no place. */
  get crowded(): boolean {
    return this.#crowded;
  }

  /** Goes round: calls `claim` for those that should have a page more, until it says no; asks pages to make room for others. */
  giveOut(entries: Iterable<OpenRun>, claim: (entry: OpenRun) => boolean): void {
    const all = [...entries];
    const waiting = all
      .filter((entry) => this.#wants(entry))
      .sort(
        (a, b) =>
          this.#trialRank(b) - this.#trialRank(a) ||
          b.campaign.priority - a.campaign.priority ||
          a.lastServed - b.lastServed,
      );
    const shareMs = (ROUND_MS * this.#options.pages.size) / Math.max(1, waiting.length);
    const turnMs = Math.min(SHORT_TURN_MS, Math.max(SHORTEST_TURN_MS, shareMs));
    let asked = 0;
    this.#crowded = false;
    for (const entry of waiting) {
      if (asked >= MAKE_ROOM_AT_ONCE) return;
      if (this.hasRoom(entry)) {
        if (!claim(entry)) return;
      } else if (entry.holds.size === 0) {
        this.#crowded = true;
        this.#makeRoom(entry, all, turnMs);
        asked += 1;
      }
    }
  }

  /** Or are pages of it claimed only to apply orders: it is paused, or outside its window, or waits for its messenger? */
  maySend(entry: OpenRun): boolean {
    const { env, lineOf } = this.#options;
    if (entry.step !== 'send' || isClosed(entry, env.serverNow())) return false;
    const line = lineOf(entry);
    if (line !== undefined && (line.blockedForMs() > 0 || (line.careful && line.users > 0))) return false;
    return !this.#waitsForToken(entry, line);
  }

  hasRoom(entry: OpenRun): boolean {
    const { pages, maxPagesBytes, lineOf } = this.#options;
    if (pages.size === 0 && pages.taking === 0) return true;
    if (this.#trialRank(entry) > 0) return true; // one page at a time, and all campaigns of its messenger wait for it
    if (pages.expectedBytes >= maxPagesBytes) return false;
    const line = lineOf(entry);
    if (line === undefined || entry.step !== 'send') return true;
    // Claims under way count: or one place that comes free would go to everybody at once, whatever the priority.
    return line.users - line.waiting + line.claiming < Math.max(2, line.sends.capacity);
  }

  /**
   * Who may be tried for the breaker of a messenger comes first, whatever its priority: all campaigns of that messenger
   * wait for it. Of those, first whoever has pages that nobody has failed on.
   */
  #trialRank(entry: OpenRun): number {
    const line = this.#options.lineOf(entry);
    if (entry.step !== 'send' || line?.breaker.mayTry !== true || line.users + line.claiming > 0) return 0;
    return entry.hints.pending ? 2 : 1;
  }

  #wants(entry: OpenRun): boolean {
    if (!isPageStep(entry.step) || !hasHint(entry)) return false;
    const pages = entry.holds.size + entry.claiming;
    if (!this.maySend(entry)) return entry.hints.behind && pages < PAGES_FOR_ORDERS;
    if (pages >= PAGES_PER_RUN) return false;
    let queued = entry.claiming * this.#options.pageSize;
    for (const hold of entry.holds) queued += hold.queued;
    return queued < WINDOW_FACTOR * (entry.run?.limits.concurrency ?? 1) * 2;
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

  /** Asks the page that has been held longest to make room, of a campaign that is not more important or only waits. */
  #makeRoom(entry: OpenRun, all: readonly OpenRun[], turnMs: number): void {
    const now = this.#options.env.clock.monotonic();
    let oldest: PageHold | undefined;
    for (const other of all) {
      if (other === entry) continue;
      const less = other.campaign.priority < entry.campaign.priority;
      const more = other.campaign.priority > entry.campaign.priority;
      for (const hold of other.holds) {
        if (more && hold.nextSendInMs <= LONG_WAIT_MS) continue;
        if (hold.lettingGo || (!less && now - hold.heldSince < turnMs)) continue;
        if (oldest === undefined || hold.heldSince < oldest.heldSince) oldest = hold;
      }
    }
    oldest?.letGo('turn');
  }
}
