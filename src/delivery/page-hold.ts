/**
 * One page while this worker holds it: orders, intents, sends and outcomes.
 *
 * A loop of one step: choose what to write, write it in one fenced update, start what the update allowed, wait for news.
 * Invariants: a send starts only after its intent is acknowledged and only while the claim is trusted; the recipients with
 * an open fate never exceed the places taken in the windows; once the claim is lost nothing is started or written, except
 * the truth about sends that had begun.
 */

import { DEATHS_TO_PARK, QUARANTINED } from '../core/crash-loop.ts';
import type { LedgerPage } from '../core/ledger-page.ts';
import { applyOrder, type Order } from '../core/orders.ts';
import { recordOutcome, type SendOutcome } from '../core/outcome.ts';
import { decideRelease, type Release } from '../core/page-release.ts';
import type { Recipient } from '../core/recipient.ts';
import type { ResendLimits } from '../core/settlement.ts';
import type { Message } from '../messengers/messenger.ts';
import { deliveriesOf } from './delivery-events.ts';
import {
  type ClaimedPage,
  type HeldAudience,
  type HeldRun,
  type HoldEnvironment,
  type Moment,
  messageFor,
} from './hold-environment.ts';
import { LateTruthTeller, lateTruth } from './late-truths.ts';
import type { MessengerLine } from './messenger-line.ts';
import { PageRecord } from './page-record.ts';
import type { ZoneHours } from './send-hours.ts';
import { SendQueue } from './send-queue.ts';
import { Sends } from './sends.ts';
import type { Settling } from './settling.ts';

export type LetGoReason =
  | 'turn'
  | 'stop'
  | 'pause'
  | 'window'
  | 'rate'
  | 'messenger'
  | 'no-messenger'
  | 'silent';
export type HoldEnd = Release['status'] | 'lost';

const NOBODY: ReadonlySet<number> = new Set();

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
  readonly #record: PageRecord;
  readonly #page: LedgerPage;
  readonly #settling: Settling;
  readonly #sends: Sends;
  readonly #teller: LateTruthTeller;
  /** Undefined: this worker has no such messenger. */
  readonly #next: SendQueue | undefined;
  readonly #hours: ZoneHours | undefined;

  /** Put aside, and not durable yet. */
  readonly #quarantined = new Set<number>();
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
    document: ClaimedPage,
    audience: HeldAudience,
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
    this.#record = new PageRecord(env, document, audience.recipients.length, claimedAt, (...what) =>
      this.#recorded(...what),
    );
    this.#page = this.#record.page;
    this.#settling = this.#record.settling;
    this.#teller = new LateTruthTeller(env, document._id);
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
    this.#next = line && new SendQueue(run, line, this.#page, env.suspectPlace, env.serverNow, this.#kick);
    if (line === undefined) this.#letGo = 'no-messenger';
    if (!this.#isOpen) this.letGo('window');
  }

  /** Recipients that wait for an intent. */
  get queued(): number {
    return this.#letGo === undefined ? (this.#next?.waiting ?? 0) : 0;
  }
  get lettingGo(): boolean {
    return this.#letGo !== undefined;
  }

  /** How long the page can do nothing but wait for a token, ms; 0 while it can do something, or no longer sends. */
  get nextSendInMs(): number {
    if (this.#next === undefined || this.queued === 0) return 0;
    return this.#next.ready + this.#sends.count > 0 ? 0 : this.#next.nextTokenInMs();
  }

  /** Until the next look it takes no place of its messenger from others. */
  countAsWaiting(): void {
    this.#next?.countAsWaiting();
  }

  /** Asks for the page to be given back: nothing more starts, what is in flight ends and is recorded. */
  letGo(reason: LetGoReason): void {
    // Whoever takes it next would have to count the wait of an earlier holder's sends anew: a turn can wait.
    if ((reason === 'turn' || reason === 'rate') && this.#page.count('unsettled') > 0) return;
    this.#letGo ??= reason;
    this.#next?.stopWaiting();
    this.kick();
  }

  /** Gives up waiting for sends in flight. What became of them is found out by whoever takes the page over. */
  force(): void {
    this.#forced = true;
    this.#record.force();
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
    if (this.#sends.count > 0 && !this.#record.trusted) {
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
      this.#next?.giveUp();
    }
  }

  async #step(): Promise<HoldEnd | undefined> {
    if (this.#settling.due) await this.#settle();
    this.#followOrders();
    if (this.#letGo !== undefined || this.#next?.mustWithdraw === true) this.#withdrawReady();
    this.#pump(); // what is ready waits for no turn
    const write = (): Promise<HoldEnd | undefined> => this.#write();
    // A claim that is to be renewed waits for nobody: others' flushes may hang.
    const end = await (this.#record.isRenewalDue ? write() : this.#env.inTurn(write));
    if (end === 'lost') return this.#afterLoss();
    if (end === undefined) this.#pump();
    return end;
  }

  /** Records what is to be recorded, and new intents, in one update. */
  async #write(): Promise<HoldEnd | undefined> {
    if (this.#forced) return 'lost';
    const intents = this.#maySend
      ? (this.#next?.choose(this.#record.deaths === DEATHS_TO_PARK - 1) ?? [])
      : [];
    const release = intents.length === 0 ? this.#release() : undefined;
    if (release === undefined && intents.length === 0 && !this.#mustFlush()) return undefined;
    this.#released = release !== undefined;
    const answer = await this.#record.flush(release);
    this.#released = release !== undefined && answer === 'applied';
    if (answer === 'lost') return 'lost';
    if (answer === 'late-truth') {
      await this.#record.readTruths();
      this.kick();
    } else if (release !== undefined) return release.status;
    else this.#next?.written(intents);
    return undefined;
  }

  /** Is it within the hours in which its recipients may be sent to? */
  get #isOpen(): boolean {
    return this.#hours?.isOpen(this.#env.serverNow().getTime()) ?? true;
  }
  /** May new intents be written? */
  get #maySend(): boolean {
    return this.#letGo === undefined && this.#record.deaths < DEATHS_TO_PARK && this.#isOpen;
  }

  #withdrawReady(): void {
    if (this.#next?.withdraw() === true) this.#record.touch();
  }

  /** How the page can be let go of now; undefined while something is still to be done with it. */
  #release(): Release | undefined {
    if ((this.#next?.ready ?? 0) + this.#sends.count > 0 || this.#settling.asking) return undefined;
    if (this.#record.orderNo < this.#run.doc.orderNo || this.#record.hasTruths) return undefined;
    return decideRelease(this.#page, {
      deaths: this.#record.deaths,
      queued: this.#next?.waiting ?? 0,
      lettingGo: this.#letGo !== undefined,
      now: this.#env.serverNow().getTime(),
      openFrom: (at) => this.#hours?.openFrom(at) ?? at,
    });
  }

  #mustFlush(): boolean {
    if (this.#record.isDue) return true;
    const { waiting = 0, ready = 0 } = this.#next ?? {};
    if (!this.#record.trusted && ready + waiting > 0) return true;
    if (!this.#record.isDirty || this.#next?.contended !== true) return false;
    return this.#record.unrecorded >= this.#next.batch || this.#sends.count + ready === 0;
  }

  #needsAttention(): boolean {
    if (this.#mustFlush() || this.#settling.due || this.#record.orderNo < this.#run.doc.orderNo) return true;
    return this.#next?.couldGoOn(this.#sends.count) === true;
  }

  // ---- sending ------------------------------------------------------------------------------------------------------

  /** Starts ready recipients while there are places and the claim is trusted. */
  #pump(): void {
    const next = this.#next;
    if (next === undefined || this.#lost || this.#forced) return;
    // What is ready is withdrawn by the next step, which may have to wait for its turn.
    if (this.#letGo !== undefined || this.#record.orderNo < this.#run.doc.orderNo) return;
    while (next.ready > 0 && this.#record.trusted && this.#isOpen) {
      const index = next.start();
      if (index === undefined) return;
      const message = this.#messageTo(index);
      this.#run.lastRecipient = message.recipient.id;
      this.#sends.start(index, message);
    }
  }

  #messageTo(index: number): Message {
    const recipient = this.#recipients[index];
    if (recipient === undefined) throw new RangeError(`page ${this.pageId} has no recipient ${index}`);
    return messageFor(this.#run, recipient, this.#page.generation(index), this.#page.attempts(index));
  }

  #take(index: number, outcome: SendOutcome, startedAt: number): void {
    this.#next?.ended();
    const isOwnDoing = outcome.kind !== 'sent' && (this.#lost || this.#forced || !this.#record.trusted);
    this.#line?.heard(outcome, startedAt, !isOwnDoing);
    if (this.#lost) this.#tell(index, this.#page.attempts(index), outcome);
    else {
      this.#judge(index, outcome);
      this.#pump();
    }
    this.kick();
  }

  #judge(index: number, answer: SendOutcome): void {
    // While the breaker is not closed, whatever fails is the messenger's fault and costs no attempt.
    const isOutage = answer.kind === 'transient' && this.#line?.breaker.isClosed === false;
    const outcome: SendOutcome = isOutage ? { ...answer, kind: 'provider' } : answer;
    const now = this.#env.serverNow().getTime();
    const { retry, onUnknown } = this.#run.doc.limits;
    const othersSucceeded = this.#line?.othersSucceeded ?? false;
    const restMs = this.#next?.blockedForMs() ?? 0;
    const rules = { retry, onUnknown, token: this.token, othersSucceeded, restMs, random: this.#env.random };
    const then = recordOutcome(this.#page, index, outcome, now, rules);
    if (then === 'unsettled') {
      this.#settling.add({ token: this.token, recipients: [index], waitMs: this.#env.claimMarginMs });
    }
    this.#record.changed(index, outcome);
    this.#record.deaths = 0;
    if (this.#cancel === undefined) return;
    applyOrder(this.#page, this.#n, this.#cancel, NOBODY); // nothing of a cancelled campaign is tried again
    this.#next?.clear();
  }

  /** The order that cancelled the campaign, once this page has followed it. */
  get #cancel(): Order | undefined {
    return this.#run.doc.orders.find((order) => order.kind === 'cancel' && order.n <= this.#record.orderNo);
  }

  /** A send that was given up answers after all. */
  #takeLateAnswer(index: number, attempt: number, outcome: SendOutcome): void {
    if (this.#lost || this.#released || this.#forced) return this.#tell(index, attempt, outcome);
    const truth = lateTruth(this.token, index, attempt, outcome, this.#env.serverNow().getTime());
    if (truth === undefined) return;
    this.#record.takeInTruth(truth);
    this.kick();
  }

  // ---- doubt and orders ---------------------------------------------------------------------------------------------

  /** Resends, asks or lets go of the recipients whose wait is over. */
  async #settle(): Promise<void> {
    if (this.#settling.dueWithWaiting) {
      if (this.#line === undefined) return; // for a worker that has the messenger
      if (!(await this.#record.readTruths())) return;
    }
    const now = this.#env.serverNow().getTime();
    const limits = this.#resendLimits();
    const { resend, reconcile, asked } = this.#settling.takeDue();
    this.#resend(resend, now, limits);
    this.#record.touch(); // or entries would stay in the document that need no settling any more
    if (reconcile.length === 0) return;
    const messages = reconcile.map((index) => this.#messageTo(index));
    this.#settling.ask(asked, this.#line?.messenger, messages, (answers) => {
      if (this.#lost || this.#forced) return;
      const answeredAt = this.#env.serverNow().getTime();
      for (const [position, index] of reconcile.entries()) {
        if (this.#settling.reconcile(index, answers[position], answeredAt))
          this.#resend([index], answeredAt, { ...limits, windowMs: undefined });
        this.#record.changed(index);
      }
      this.#record.touch();
      this.kick();
    });
  }

  /** Lets these go out again, but those whose attempts or chances are used up. */
  #resend(indices: readonly number[], now: number, limits: ResendLimits): void {
    this.#next?.add(this.#settling.resendAll(indices, now, limits));
    for (const index of indices) {
      this.#record.changed(index);
      if (this.#page.detail(index)?.code === QUARANTINED) this.#quarantined.add(index);
    }
  }

  #resendLimits(): ResendLimits {
    return { maxAttempts: this.#run.doc.limits.retry.maxAttempts, windowMs: this.#line?.idempotencyWindowMs };
  }

  /** Applies the orders that the run has and this page has not. Durable with the next flush, together with their number. */
  #followOrders(): void {
    const { doc } = this.#run;
    if (this.#record.orderNo >= doc.orderNo) return;
    this.#withdrawReady();
    const unsettled = this.#settling.recipients;
    const missing = doc.orders.filter((order) => order.n > this.#record.orderNo).sort((a, b) => a.n - b.n);
    for (const order of missing) {
      applyOrder(this.#page, this.#n, order, unsettled);
      if (order.kind === 'release-parked') this.#record.deaths = 0;
    }
    this.#record.orderNo = doc.orderNo;
    this.#next?.refill();
    this.#record.touchUrgently();
  }

  /** These are durable, and so many stand as `sending` in the document. */
  #recorded(recorded: ReadonlyMap<number, unknown>, sending: number): void {
    this.#next?.keepPlaces(sending);
    this.#env.onFlushed(recorded.size);
    if (this.#env.wantsDeliveries())
      this.#env.onRecorded(this.#run.doc, deliveriesOf(this.#page, this.#recipients, recorded.keys()));
    if (this.#quarantined.size > 0) this.#tellQuarantined(recorded);
  }

  #tellQuarantined(durable: ReadonlyMap<number, unknown>): void {
    const told = [...this.#quarantined].filter((index) => durable.has(index));
    for (const index of told) this.#quarantined.delete(index);
    if (told.length > 0)
      this.#env.onQuarantined(this.#run.doc, deliveriesOf(this.#page, this.#recipients, told));
  }

  /** The claim is gone. Nothing starts; what is known, or becomes known, of sends that had begun is told as late truth. */
  async #afterLoss(): Promise<'lost'> {
    this.#lost = true;
    this.#next?.drop();
    for (const [index, outcome] of this.#record.unrecordedOutcomes) {
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
