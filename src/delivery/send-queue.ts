/**
 * Who is next on a page that is held: recipients that wait for an intent, and those that have one and wait to be handed
 * over. Invariants: an intent is chosen only with a place in the windows and a token of every rate; who has an intent is
 * either started or withdrawn, and keeps place and token until then; who was in flight when a holder died comes after the
 * others, and suspects last, one by one.
 */
import type { LedgerPage } from '../core/ledger-page.ts';
import { withdrawIntent } from '../core/outcome.ts';
import type { HeldRun } from './hold-environment.ts';
import type { MessengerLine } from './messenger-line.ts';
import { Places } from './places.ts';
import { RateShare } from './rate-share.ts';
import type { Slots } from './slots.ts';
import { Suspects } from './suspects.ts';

/** Intents are written for sends that start within a second. */
const TOKEN_NEAR_MS = 1000;

export class SendQueue {
  readonly #run: HeldRun;
  readonly #line: MessengerLine;
  readonly #page: LedgerPage;
  readonly #serverNow: () => Date;
  readonly #wake: () => void;
  readonly #places: Places;
  readonly #rates: RateShare;
  readonly #suspects: Suspects;
  /** Positions in the order in which they are to be sent; suspects apart. */
  #waiting: number[];
  /** Intents acknowledged, hand-over not begun. */
  #ready: number[] = [];

  /** `suspectPlace` is shared by all pages of the worker. `wake` is called when there may be room for more. */
  constructor(
    run: HeldRun,
    line: MessengerLine,
    page: LedgerPage,
    suspectPlace: Slots,
    serverNow: () => Date,
    wake: () => void,
  ) {
    this.#run = run;
    this.#line = line;
    this.#page = page;
    this.#serverNow = serverNow;
    this.#wake = wake;
    this.#places = new Places(run.window, line, wake);
    this.#rates = new RateShare(
      [run.rate, line.rate].filter((gate) => gate !== undefined),
      wake,
    );
    this.#suspects = new Suspects(page, suspectPlace, wake);
    this.#waiting = this.#suspects.keepOf(this.#sendable());
    line.users += 1;
  }

  /** Recipients that wait for an intent. */
  get waiting(): number {
    return this.#waiting.length + this.#suspects.waiting;
  }
  /** Recipients that have an intent and wait to be handed over. */
  get ready(): number {
    return this.#ready.length;
  }
  /** Others wait for places that this page may hold. */
  get contended(): boolean {
    return this.#places.contended || this.#suspects.contended;
  }
  /** As many as are worth a flush of their own. */
  get batch(): number {
    return Math.max(1, Math.ceil(Math.min(this.#run.sends.capacity, this.#line.sends.capacity) / 4));
  }

  /** How long nothing may start because the messenger is sick or its provider asked for a rest, ms. */
  blockedForMs(): number {
    return Math.max(this.#line.blockedForMs(), this.#rates.blockedForMs());
  }
  /** How far away the next token is, ms; 0 when one is there, or none is needed. */
  nextTokenInMs(): number {
    return this.#rates.nextAtMs() ?? 0;
  }
  /** The intents that are ready must not wait: the messenger rests, or their tokens expired and the next is not near. */
  get mustWithdraw(): boolean {
    if (this.#ready.length === 0) return false;
    return this.blockedForMs() > 0 || this.nextTokenInMs() > TOKEN_NEAR_MS;
  }
  /** Something could start, or an intent be written, that nothing else will wake the page for. */
  couldGoOn(inFlight: number): boolean {
    if (!this.#line.mayStart() || this.nextTokenInMs() > 0) return false; // a token wakes the page itself
    return this.#ready.length > 0 || (this.waiting > 0 && inFlight === 0);
  }

  /** The page was changed by something else than a send: whom it can be sent to is found anew. */
  refill(): void {
    this.#suspects.clear();
    this.#waiting = this.#suspects.keepOf(this.#sendable());
  }
  add(indices: readonly number[]): void {
    this.#waiting.push(...this.#suspects.keepOf(indices));
  }
  clear(): void {
    this.#waiting = [];
    this.#suspects.clear();
  }

  /**
   * New intents for the coming flush. The place of a finished send goes straight to the next recipient. `oneByOne`: the
   * page has ended its holders in a row, and the next one is to take as few with it as possible.
   */
  choose(oneByOne: boolean): number[] {
    if (this.blockedForMs() > 0) return [];
    if (this.#waiting.length === 0 && this.#page.counts.retrying > 0) this.refill();
    const { batch } = this;
    if (this.#waiting.length === 0) return this.#chooseSuspect();
    if (this.#suspects.open || this.#ready.length >= 2 * batch) return [];

    const open = this.#page.count('sending');
    if (oneByOne && open > 0) return [];
    const room = Math.min(oneByOne ? 1 : this.#waiting.length, this.#places.room(open));
    // A few at a time would cost a flush each; they can wait while enough are ready.
    if (room < Math.min(batch, this.#waiting.length) && this.#ready.length >= batch) return [];
    const count = this.#withTokens(room);
    if (count === 0) return [];
    this.#places.reserve(open + count);
    this.#rates.reserve(count);
    const now = this.#serverNow().getTime();
    // In a trial whoever failed before comes last.
    if (!this.#line.breaker.isClosed) {
      const failedBefore = (index: number): number =>
        this.#page.detail(index)?.reason === undefined ? 0 : 1;
      this.#waiting.sort((a, b) => failedBefore(a) - failedBefore(b));
    }
    const chosen = this.#waiting.splice(0, count);
    for (const index of chosen) this.#page.begin(index, now);
    return chosen;
  }

  /** When nobody else waits and nothing is in flight. */
  #chooseSuspect(): number[] {
    if (this.#suspects.waiting === 0 || this.#page.count('sending') > 0) return [];
    const index = this.#suspects.next();
    if (index === undefined || this.#places.room(0) === 0 || this.#withTokens(1) === 0) return [];
    this.#suspects.begin(index);
    this.#places.reserve(1);
    this.#rates.reserve(1);
    this.#page.begin(index, this.#serverNow().getTime());
    return [index];
  }

  /** The intents are durable. */
  written(chosen: readonly number[]): void {
    this.#ready.push(...chosen);
  }

  /** The flush that left so many recipients with an open fate is durable. */
  keepPlaces(open: number): void {
    this.#places.keep(open);
    this.#suspects.keepPlace(open);
  }

  /** The recipient whose send starts now. Undefined: nobody's can; the page is woken when that changes. */
  start(): number | undefined {
    const { sends } = this.#run;
    const line = this.#line;
    if (this.#ready.length === 0 || !line.mayStart()) return undefined;
    if (sends.free === 0 || line.sends.free === 0) {
      if (sends.free === 0) sends.waitForFree(this.#wake);
      if (line.sends.free === 0) line.sends.waitForFree(this.#wake);
      return undefined;
    }
    if (!this.#rates.tryStart()) return undefined;
    sends.take(1);
    line.sends.take(1);
    line.started();
    return this.#ready.shift();
  }

  /** A send has ended. */
  ended(): void {
    this.#run.sends.release(1);
    this.#line.sends.release(1);
  }

  /** Takes back the intents whose hand-over has not begun. False: there were none. */
  withdraw(): boolean {
    if (this.#ready.length === 0) return false;
    const now = this.#serverNow().getTime();
    for (const index of this.#ready) withdrawIntent(this.#page, index, now);
    this.#waiting = [...this.#suspects.keepOf(this.#ready), ...this.#waiting];
    this.#rates.release(this.#ready.length);
    this.#ready = [];
    return true;
  }

  /** The claim is lost: what became of those that are ready is for the next holder to find out. */
  drop(): void {
    this.#ready = [];
  }

  /** The page is let go of: it wants no more. */
  stopWaiting(): void {
    this.#rates.stopWaiting();
  }

  /** Until the next look the page takes no place of its messenger from others. */
  countAsWaiting(): void {
    this.#line.waiting += 1;
  }

  /** The page is gone. */
  giveUp(): void {
    this.#places.giveUp();
    this.#suspects.giveUp();
    this.#rates.giveUp();
    for (const slots of [this.#run.sends, this.#line.sends]) slots.forget(this.#wake);
    this.#line.users -= 1;
  }

  #sendable(): number[] {
    const now = this.#serverNow().getTime();
    return this.#page
      .indices('pending', 'retrying')
      .filter((index) => (this.#page.detail(index)?.dueAt ?? 0) <= now);
  }

  /** Token first, then intent: for how many of these there are tokens. */
  #withTokens(wanted: number): number {
    if (!this.#rates.scarce) return wanted === 0 ? 0 : this.#rates.askForRoom(wanted);
    // Where tokens come one by one, an intent must not wait for a slot: a crash at a slow rate leaves one unknown at most.
    const slots = Math.min(this.#run.sends.free, this.#line.sends.free) - this.#ready.length;
    const most = Math.min(wanted, slots);
    return most > 0 ? this.#rates.askForRoom(most) : 0;
  }
}
