/**
 * One page while this worker holds it: orders, intents, sends and outcomes.
 *
 * A loop of one step: choose what to write, write it in one fenced update, start what the update allowed, wait for news.
 * Invariants: a send starts only after its intent is acknowledged and only while the claim is trusted; the recipients with
 * an open fate never exceed the places taken in the windows; once the claim is lost nothing is started or written, except
 * the truth about sends that had begun.
 */
import { type LedgerPage, settledCount } from '../core/ledger-page.ts';
import { applyOrder, type Order } from '../core/orders.ts';
import { type Failure, recordOutcome, type SendOutcome, withdrawIntent } from '../core/outcome.ts';
import { restMsOf } from '../core/rate.ts';
import type { Recipient } from '../core/recipient.ts';
import { roundUpDue } from '../core/retry.ts';
import { applyLateTruths, type LateTruth, type ResendLimits } from '../core/settlement.ts';
import type { DeliveryEvent } from '../events.ts';
import type { LedgerPageDoc } from '../store/documents.ts';
import type { FlushAnswer, PageImage, Release } from '../store/ledger-flushes.ts';
import { decodePage, readPage } from '../store/ledger-pages.ts';
import { type HeldRun, type HoldEnvironment, type Moment, messageFor } from './hold-environment.ts';
import { LateTruthTeller, lateTruth } from './late-truths.ts';
import type { MessengerLine } from './messenger-line.ts';
import { PageFlusher } from './page-flusher.ts';
import { Places } from './places.ts';
import { RateShare } from './rate-share.ts';
import type { ZoneHours } from './send-hours.ts';
import { Sends } from './sends.ts';
import { Settling } from './settling.ts';

export type LetGoReason = 'turn' | 'stop' | 'pause' | 'window' | 'rate' | 'messenger' | 'no-messenger';
export type HoldEnd = Release['status'] | 'lost';

/** An outcome that no intent waits for may wait this long for company. */
const LINGER_MS = 250;
const NOBODY: ReadonlySet<number> = new Set();
const DUE_STEP_MS = 5000;
const DEATHS_TO_PARK = 3;
/** Intents are written for sends that start within a second. */
const TOKEN_NEAR_MS = 1000;

export class PageHold {
  readonly pageId: string;
  readonly token: string;
  readonly bytes: number;
  readonly heldSince: number;
  readonly #env: HoldEnvironment;
  readonly #run: HeldRun;
  readonly #line: MessengerLine | undefined;
  readonly #n: number;
  readonly #recipients: readonly Recipient[];
  readonly #page: LedgerPage;
  readonly #sends: Sends;
  readonly #flusher: PageFlusher;
  readonly #settling: Settling;
  readonly #teller: LateTruthTeller;
  readonly #places: Places | undefined;
  readonly #rates: RateShare;
  readonly #hours: ZoneHours | undefined;

  #orderNo: number;
  #deaths: number;
  /** Positions in the order in which they are to be sent. */
  #queue: number[];
  /** Intents acknowledged, hand-over not begun. */
  #ready: number[] = [];
  /** What is not yet acknowledged; the outcome where a send brought it. */
  #unrecorded = new Map<number, SendOutcome | undefined>();
  #dirtySince: number | undefined;
  /** Late truths taken in that still stand in the document. */
  #seenLate: LateTruth[] = [];
  #letGo: LetGoReason | undefined;
  #lost = false;
  /** Let go of, or being let go of: what comes now is told like the truth about a page of somebody else's. */
  #released = false;
  #forced = false;
  #kicked = false;
  #wake: (() => void) | undefined;
  readonly #kick = (): void => this.kick();

  constructor(
    env: HoldEnvironment,
    run: HeldRun,
    line: MessengerLine | undefined,
    document: LedgerPageDoc & { claim: NonNullable<LedgerPageDoc['claim']> },
    audience: { recipients: readonly Recipient[]; bytes: number; timezone?: string },
    claimedAt: Moment,
  ) {
    this.#env = env;
    this.#run = run;
    this.#line = line;
    this.#n = document.n;
    this.pageId = document._id;
    this.token = document.claim.token;
    this.bytes = audience.bytes;
    this.heldSince = env.clock.monotonic();
    this.#recipients = audience.recipients;
    this.#page = decodePage(document, audience.recipients.length);
    this.#orderNo = document.orderNo;
    this.#deaths = document.deaths;
    this.#flusher = new PageFlusher(env, document._id, document.claim, claimedAt);
    this.#settling = new Settling(env, this.#page, document.unsettled ?? []);
    this.#teller = new LateTruthTeller(env, document._id);
    this.#places = line === undefined ? undefined : new Places(run.window, line, this.#kick);
    this.#rates = new RateShare(
      [run.rate, line?.rate].filter((gate) => gate !== undefined),
      this.#kick,
    );
    this.#hours = run.hours?.ofPage(audience.timezone);
    this.#sends = new Sends({
      messenger: line?.messenger ?? {
        send: () => Promise.reject(new Error('this worker has no such messenger')),
      },
      clock: env.clock,
      sendTimeoutMs: env.sendTimeoutMs,
      onOutcome: (index, outcome, startedAt) => this.#take(index, outcome, startedAt),
      onLateAnswer: (index, attempt, outcome) => this.#takeLateAnswer(index, attempt, outcome),
    });
    this.#takeInTruths(document.late ?? [], true);
    this.#queue = this.#sendable();
    if (line === undefined) this.#letGo = 'no-messenger';
    else line.users += 1;
    if (!this.#isOpen) this.letGo('window');
  }

  get runId(): string {
    return this.#run.doc._id;
  }
  /** Recipients that wait for an intent. */
  get queued(): number {
    return this.#letGo === undefined ? this.#queue.length : 0;
  }
  get lettingGo(): boolean {
    return this.#letGo !== undefined;
  }

  /** How long the page can do nothing but wait for a token, ms; 0 while it can do something, or no longer sends. */
  get nextSendInMs(): number {
    if (this.#letGo !== undefined || this.#queue.length === 0) return 0;
    if (this.#ready.length > 0 || this.#sends.count > 0) return 0;
    return this.#rates.nextAtMs() ?? 0;
  }

  /** Until the next look it takes no place of its messenger from others. */
  countAsWaiting(): void {
    if (this.#line !== undefined) this.#line.waiting += 1;
  }

  /** Asks for the page to be given back: nothing more starts, what is in flight ends and is recorded. */
  letGo(reason: LetGoReason): void {
    // Whoever takes it next would have to count the wait of an earlier holder's sends anew: a turn can wait.
    if ((reason === 'turn' || reason === 'rate') && this.#page.count('unsettled') > 0) return;
    this.#letGo ??= reason;
    this.#rates.stopWaiting();
    this.kick();
  }

  /** Gives up waiting for sends in flight. What became of them is found out by whoever takes the page over. */
  force(): void {
    this.#forced = true;
    this.#flusher.force();
    this.#teller.silence();
    this.#sends.abort(new Error('the worker is stopping'));
    this.kick();
  }

  /** There may be something to do. */
  kick(): void {
    this.#kicked = true;
    this.#wake?.();
  }

  /** Called a few times a second: time passes for sends, trust, lingering outcomes and waits. */
  tick(): void {
    this.#sends.expire();
    if (!this.#isOpen) this.letGo('window');
    if (this.#sends.count > 0 && !this.#flusher.trusted) {
      this.#sends.abort(new Error('the hold on the page can no longer be trusted'));
    }
    if (this.#needsAttention()) this.kick();
  }

  /** Works the page until it is let go of or lost. Never rejects. */
  async work(): Promise<HoldEnd> {
    try {
      while (!this.#forced) {
        const end = await this.#step();
        if (end !== undefined) return end;
        await this.#news();
      }
      return 'lost';
    } catch (error) {
      // A bug must not leave sends without a witness: what they become is told as late truth.
      this.#env.logger.error({ error, page: this.pageId }, 'a page was dropped because of an internal error');
      return await this.#afterLoss();
    } finally {
      this.#released = true;
      this.#places?.giveUp();
      this.#rates.giveUp();
      for (const slots of [this.#run.sends, this.#line?.sends]) slots?.forget(this.#kick);
      if (this.#line !== undefined) this.#line.users -= 1;
    }
  }

  async #step(): Promise<HoldEnd | undefined> {
    if (this.#settling.due) await this.#settle();
    this.#followOrders();
    if (this.#letGo !== undefined || this.#blocked || this.#tokenIsGone) this.#withdrawReady();
    const intents = this.#chooseIntents();
    const release = intents.length === 0 ? this.#release() : undefined;
    if (release !== undefined || intents.length > 0 || this.#mustFlush()) {
      this.#released = release !== undefined;
      const answer = await this.#flush(release);
      this.#released = release !== undefined && answer === 'applied';
      if (answer === 'lost') return this.#afterLoss();
      if (answer === 'late-truth') await this.#readTruths();
      else if (release !== undefined) return release.status;
      else for (const index of intents) this.#ready.push(index);
    }
    this.#pump();
    return undefined;
  }

  // ---- what to send next --------------------------------------------------------------------------------------------

  /** Is it within the hours in which its recipients may be sent to? */
  get #isOpen(): boolean {
    return this.#hours?.isOpen(this.#env.serverNow().getTime()) ?? true;
  }

  get #blocked(): boolean {
    return (this.#line?.blockedForMs() ?? 0) > 0 || this.#rates.blockedForMs() > 0;
  }

  /** The token of an intent expired before its use, and the next one is not near: the intent must not wait for it. */
  get #tokenIsGone(): boolean {
    return this.#ready.length > 0 && (this.#rates.nextAtMs() ?? 0) > TOKEN_NEAR_MS;
  }

  #sendable(): number[] {
    const now = this.#env.serverNow().getTime();
    return this.#page
      .indices('pending', 'retrying')
      .filter((index) => (this.#page.detail(index)?.dueAt ?? 0) <= now);
  }

  /** New intents for this flush, as many as the windows allow. The place of a finished send goes straight to the next. */
  #chooseIntents(): number[] {
    const places = this.#places;
    if (places === undefined || this.#letGo !== undefined || this.#blocked || !this.#isOpen) return [];
    if (this.#deaths >= DEATHS_TO_PARK) return [];
    if (this.#queue.length === 0 && this.#page.counts.retrying > 0) this.#queue = this.#sendable();
    const batch = this.#batch();
    if (this.#queue.length === 0 || this.#ready.length >= 2 * batch) return [];

    const open = this.#page.count('sending');
    const room = Math.min(this.#queue.length, places.room(open));
    // A few at a time would cost a flush each; they can wait while enough are ready.
    if (room < Math.min(batch, this.#queue.length) && this.#ready.length >= batch) return [];
    const count = this.#withTokens(room);
    if (count === 0) return [];
    places.reserve(open + count);
    this.#rates.reserve(count);
    const now = this.#env.serverNow().getTime();
    const chosen = this.#queue.splice(0, count);
    for (const index of chosen) this.#page.begin(index, now);
    return chosen;
  }

  /** Token first, then intent: for how many of these there are tokens. */
  #withTokens(wanted: number): number {
    if (!this.#rates.scarce) return wanted === 0 ? 0 : this.#rates.room(wanted);
    // Where tokens come one by one, an intent must not wait for a slot: a crash at a slow rate leaves one unknown at most.
    const slots = Math.min(this.#run.sends.free, this.#line?.sends.free ?? 0) - this.#ready.length;
    const most = Math.min(wanted, slots);
    return most > 0 ? this.#rates.room(most) : 0;
  }

  /** As many as are worth a flush of their own. */
  #batch(): number {
    const sends = Math.min(this.#run.sends.capacity, this.#line?.sends.capacity ?? 1);
    return Math.max(1, Math.ceil(sends / 4));
  }

  #withdrawReady(): void {
    if (this.#ready.length === 0) return;
    const now = this.#env.serverNow().getTime();
    for (const index of this.#ready) withdrawIntent(this.#page, index, now);
    this.#queue = [...this.#ready, ...this.#queue];
    this.#rates.release(this.#ready.length);
    this.#ready = [];
    this.#touch();
  }

  /** How the page can be let go of now; undefined while something is still to be done with it. */
  #release(): Release | undefined {
    const page = this.#page;
    if (this.#ready.length > 0 || this.#sends.count > 0 || this.#settling.asking) return undefined;
    if (this.#orderNo < this.#run.doc.orderNo || this.#seenLate.length > 0) return undefined;
    if (settledCount(page.counts) === page.size) return { status: 'done' };
    if (this.#deaths >= DEATHS_TO_PARK) return { status: 'parked' };
    const waits = page.counts.sending > 0; // for the end of an earlier holder's sends
    if (this.#letGo === undefined && (this.#queue.length > 0 || waits)) return undefined;
    if (page.counts.pending > 0 || waits) return { status: 'pending' };
    const now = this.#env.serverNow().getTime();
    const due = Math.max(page.nextDueAt() ?? 0, now);
    // A retry that falls due outside the window waits for it.
    const startsAt = this.#hours?.openFrom(due) ?? due;
    if (startsAt <= now) return { status: 'pending' };
    return { status: 'waiting', dueAt: new Date(startsAt > due ? startsAt : roundUpDue(due, DUE_STEP_MS)) };
  }

  #mustFlush(): boolean {
    if (this.#flusher.renewalDue || this.#seenLate.length > 0) return true;
    if (!this.#flusher.trusted && this.#ready.length + this.#queue.length > 0) return true;
    if (this.#dirtySince === undefined) return false;
    if (this.#env.clock.monotonic() - this.#dirtySince >= LINGER_MS) return true;
    return (
      this.#places?.contended === true &&
      (this.#unrecorded.size >= this.#batch() || this.#sends.count + this.#ready.length === 0)
    );
  }

  #needsAttention(): boolean {
    if (this.#mustFlush() || this.#settling.due || this.#orderNo < this.#run.doc.orderNo) return true;
    if (this.#line?.mayStart() !== true || (this.#rates.nextAtMs() ?? 0) > 0) return false; // a token wakes the page itself
    return this.#ready.length > 0 || (this.#queue.length > 0 && this.#sends.count === 0);
  }

  // ---- sending ------------------------------------------------------------------------------------------------------

  /** Starts ready recipients while there are places and the claim is trusted. */
  #pump(): void {
    const line = this.#line;
    const { sends, doc } = this.#run;
    if (line === undefined || this.#lost || this.#forced) return;
    let started = 0;
    while (started < this.#ready.length && line.mayStart() && this.#flusher.trusted && this.#isOpen) {
      if (sends.free === 0 || line.sends.free === 0) {
        if (sends.free === 0) sends.waitForFree(this.#kick);
        if (line.sends.free === 0) line.sends.waitForFree(this.#kick);
        break;
      }
      const index = this.#ready[started] ?? -1;
      const recipient = this.#recipients[index];
      if (recipient === undefined) throw new RangeError(`page ${this.pageId} has no recipient ${index}`);
      if (!this.#rates.tryStart()) break;
      started += 1;
      sends.take(1);
      line.sends.take(1);
      line.started();
      this.#sends.start(
        index,
        messageFor(doc, recipient, this.#page.generation(index), this.#page.attempts(index)),
      );
    }
    if (started > 0) this.#ready.splice(0, started);
  }

  #take(index: number, outcome: SendOutcome, startedAt: number): void {
    this.#run.sends.release(1);
    this.#line?.sends.release(1);
    this.#judgeMessenger(outcome, startedAt);
    if (this.#lost) this.#tell(index, this.#page.attempts(index), outcome);
    else {
      this.#record(index, outcome);
      this.#pump();
    }
    this.kick();
  }

  #judgeMessenger(outcome: SendOutcome, startedAt: number): void {
    if (outcome.kind === 'provider') this.#restAfter(outcome, startedAt);
    else if (outcome.kind === 'transient' || outcome.kind === 'unknown') this.#line?.answered();
    else this.#line?.succeeded(); // it took the message, or had a verdict on this very recipient
  }

  /** This worker backs off by itself; where the provider asked for a rest, all servers do. */
  #restAfter(outcome: Failure, startedAt: number): void {
    const line = this.#line;
    if (line === undefined) return;
    line.failed(startedAt, outcome.retryAfterMs);
    const restMs = restMsOf(outcome, line.blockedForMs());
    if (restMs !== undefined) line.rate.slowDown(restMs);
  }

  #record(index: number, outcome: SendOutcome): void {
    const now = this.#env.serverNow().getTime();
    const { retry, onUnknown } = this.#run.doc.limits;
    const othersSucceeded = this.#line?.othersSucceeded ?? false;
    const restMs = Math.max(this.#line?.blockedForMs() ?? 0, this.#rates.blockedForMs());
    const rules = { retry, onUnknown, token: this.token, othersSucceeded, restMs, random: this.#env.random };
    const then = recordOutcome(this.#page, index, outcome, now, rules);
    if (then === 'unsettled') {
      this.#settling.add({ token: this.token, recipients: [index], waitMs: this.#env.claimMarginMs });
    }
    this.#unrecorded.set(index, outcome);
    this.#deaths = 0;
    this.#touch();
    if (this.#cancel === undefined) return;
    applyOrder(this.#page, this.#n, this.#cancel, NOBODY); // nothing of a cancelled campaign is tried again
    this.#queue = [];
  }

  /** The order that cancelled the campaign, once this page has followed it. */
  get #cancel(): Order | undefined {
    return this.#run.doc.orders.find((order) => order.kind === 'cancel' && order.n <= this.#orderNo);
  }

  /** A send that was given up answers after all. */
  #takeLateAnswer(index: number, attempt: number, outcome: SendOutcome): void {
    if (this.#lost || this.#released || this.#forced) return this.#tell(index, attempt, outcome);
    const truth = lateTruth(this.token, index, attempt, outcome, this.#env.serverNow().getTime());
    if (truth !== undefined) this.#takeInTruths([truth], false);
  }

  // ---- doubt and orders ---------------------------------------------------------------------------------------------

  #takeInTruths(truths: readonly LateTruth[], standing: boolean): void {
    if (truths.length === 0) return;
    if (applyLateTruths(this.#page, truths) > 0) {
      for (const truth of truths) this.#unrecorded.set(truth.recipient, undefined);
    }
    if (standing) this.#seenLate.push(...truths);
    this.#touch();
    this.kick();
  }

  /** False: the database is away, try later. */
  async #readTruths(): Promise<boolean> {
    const found = await readPage(this.#env.store, this.pageId).catch(() => undefined);
    if (found === undefined) return false;
    const seen = new Set(this.#seenLate.map((truth) => `${truth.token} ${truth.recipient} ${truth.attempt}`));
    const news = (found?.late ?? []).filter(
      (truth) => !seen.has(`${truth.token} ${truth.recipient} ${truth.attempt}`),
    );
    this.#takeInTruths(news, true);
    return true;
  }

  /** Resends, asks or lets go of the recipients whose wait is over. */
  async #settle(): Promise<void> {
    if (this.#settling.dueWithWaiting) {
      if (this.#line === undefined) return; // for a worker that has the messenger
      if (!(await this.#readTruths())) return;
    }
    const now = this.#env.serverNow().getTime();
    const limits = this.#resendLimits();
    const { resend, reconcile, asked } = this.#settling.takeDue();
    this.#queue.push(...this.#settling.resendAll(resend, now, limits));
    for (const index of resend) this.#unrecorded.set(index, undefined);
    this.#touch();
    if (reconcile.length === 0) return;
    const messages = reconcile.flatMap((index) => {
      const recipient = this.#recipients[index];
      return recipient === undefined
        ? []
        : messageFor(this.#run.doc, recipient, this.#page.generation(index), this.#page.attempts(index));
    });
    this.#settling.ask(asked, this.#line?.messenger, messages, (answers) => {
      if (this.#lost || this.#forced) return;
      const answeredAt = this.#env.serverNow().getTime();
      for (const [position, index] of reconcile.entries()) {
        if (this.#settling.reconcile(index, answers[position], answeredAt, limits)) this.#queue.push(index);
        this.#unrecorded.set(index, undefined);
      }
      this.#touch();
      this.kick();
    });
  }

  #resendLimits(): ResendLimits {
    return { maxAttempts: this.#run.doc.limits.retry.maxAttempts, windowMs: this.#line?.idempotencyWindowMs };
  }

  /** Applies the orders that the run has and this page has not. Durable with the next flush, together with their number. */
  #followOrders(): void {
    const { doc } = this.#run;
    if (this.#orderNo >= doc.orderNo) return;
    this.#withdrawReady();
    const unsettled = this.#settling.recipients;
    const missing = doc.orders.filter((order) => order.n > this.#orderNo).sort((a, b) => a.n - b.n);
    for (const order of missing) {
      applyOrder(this.#page, this.#n, order, unsettled);
      if (order.kind === 'release-parked') this.#deaths = 0;
    }
    this.#orderNo = doc.orderNo;
    this.#queue = this.#sendable();
    this.#dirtySince = Number.NEGATIVE_INFINITY; // at once
  }

  // ---- writing ------------------------------------------------------------------------------------------------------

  #touch(): void {
    this.#dirtySince ??= this.#env.clock.monotonic();
  }

  async #flush(release: Release | undefined): Promise<FlushAnswer> {
    const image: PageImage = {
      columns: this.#page.columns(),
      counts: { ...this.#page.counts },
      details: this.#page.takeChangedDetails(),
      unsettled: this.#settling.entries,
      orderNo: this.#orderNo,
      deaths: this.#deaths,
    };
    const sending = this.#page.count('sending');
    const recording = this.#unrecorded;
    const seenLate = this.#seenLate;
    this.#unrecorded = new Map();
    this.#seenLate = [];
    this.#dirtySince = undefined;
    const answer = await this.#flusher.flush(image, release, seenLate);
    if (answer === 'applied') {
      this.#places?.keep(sending);
      this.#announce(recording.keys());
      return answer;
    }
    this.#unrecorded = new Map([...recording, ...this.#unrecorded]);
    this.#seenLate = [...seenLate, ...this.#seenLate];
    for (const index of image.details.keys()) this.#page.keepChanged(index);
    this.#touch();
    return answer;
  }

  #announce(indices: Iterable<number>): void {
    if (!this.#env.wantsDeliveries()) return;
    const deliveries: DeliveryEvent[] = [];
    for (const index of indices) {
      const recipient = this.#recipients[index];
      const state = this.#page.state(index);
      if (recipient === undefined || state === 'pending' || state === 'sending') continue;
      const { providerId, code, reason, dueAt } = this.#page.detail(index) ?? {};
      deliveries.push({
        recipientId: recipient.id,
        state,
        attempts: this.#page.attempts(index),
        at: new Date(this.#page.at(index)),
        ...(providerId === undefined ? {} : { providerId }),
        ...(code === undefined ? {} : { code }),
        ...(reason === undefined ? {} : { reason }),
        ...(dueAt === undefined || state !== 'retrying' ? {} : { dueAt: new Date(dueAt) }),
      });
    }
    this.#env.onRecorded(this.#run.doc, deliveries);
  }

  /** The claim is gone. Nothing starts; what is known, or becomes known, of sends that had begun is told as late truth. */
  async #afterLoss(): Promise<'lost'> {
    this.#lost = true;
    this.#ready = [];
    for (const [index, outcome] of this.#unrecorded) {
      // A failure of the provider took its attempt back; that nothing left is not worth a guess at the number.
      if (outcome !== undefined && outcome.kind !== 'provider')
        this.#tell(index, this.#page.attempts(index), outcome);
    }
    this.#sends.abort(new Error('the page was taken over'));
    while (this.#sends.count > 0 && !this.#forced) await this.#news();
    if (!this.#forced) await this.#teller.told();
    return 'lost';
  }

  #tell(index: number, attempt: number, outcome: SendOutcome): void {
    this.#teller.tell([lateTruth(this.token, index, attempt, outcome, this.#env.serverNow().getTime())]);
  }

  /** Waits until there is news. Answers that come together are handled together. */
  async #news(): Promise<void> {
    if (!this.#kicked) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.#wake = undefined;
    this.#kicked = false;
  }
}
