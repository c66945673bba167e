/**
 * A held page as its holder knows it, and what of that is not durable yet. One flush writes everything. Invariants: what a
 * flush could not write is written by the next one; a late truth that was taken in stays in the document until a flush that
 * contains it is durable.
 */
import type { LedgerPage } from '../core/ledger-page.ts';
import type { SendOutcome } from '../core/outcome.ts';
import type { Release } from '../core/page-release.ts';
import { applyLateTruths, type LateTruth } from '../core/settlement.ts';
import type { FlushAnswer, PageImage } from '../store/ledger-flushes.ts';
import { decodePage, readPage } from '../store/ledger-pages.ts';
import type { ClaimedPage, HoldEnvironment, Moment } from './hold-environment.ts';
import { PageFlusher } from './page-flusher.ts';
import { Settling } from './settling.ts';

/** An outcome that no intent waits for may wait this long for company. */
const LINGER_MS = 250;

export class PageRecord {
  readonly page: LedgerPage;
  /** Recipients whose earlier hand-over may still be under way. */
  readonly settling: Settling;
  /** The last order that the page has followed. */
  orderNo: number;
  /** Holders that died in a row without naming the recipient that may be to blame. */
  deaths: number;
  readonly #env: HoldEnvironment;
  readonly #pageId: string;
  readonly #flusher: PageFlusher;
  readonly #onDurable: (recipients: ReadonlyMap<number, unknown>, sending: number) => void;
  /** What is not yet acknowledged; the outcome where a send brought it. */
  #unrecorded = new Map<number, SendOutcome | undefined>();
  #dirtySince: number | undefined;
  /** Late truths taken in that still stand in the document. */
  #seenLate: LateTruth[] = [];

  /** `onDurable`: these recipients are recorded, and so many stand as `sending` in the document. */
  constructor(
    env: HoldEnvironment,
    document: ClaimedPage,
    size: number,
    claimedAt: Moment,
    onDurable: (recipients: ReadonlyMap<number, unknown>, sending: number) => void,
  ) {
    this.#env = env;
    this.#pageId = document._id;
    this.page = decodePage(document, size);
    this.settling = new Settling(env, this.page, document.unsettled ?? []);
    this.orderNo = document.orderNo;
    this.deaths = document.deaths;
    this.#flusher = new PageFlusher(env, document._id, document.claim, claimedAt);
    this.#onDurable = onDurable;
    this.#takeInStanding(document.late ?? []);
  }

  /** May a send start now? */
  get trusted(): boolean {
    return this.#flusher.trusted;
  }
  get isRenewalDue(): boolean {
    return this.#flusher.renewalDue;
  }
  /** How many recipients the next flush records. */
  get unrecorded(): number {
    return this.#unrecorded.size;
  }
  get isDirty(): boolean {
    return this.#dirtySince !== undefined;
  }
  /** Nothing that waits may wait any longer, or the claim must be renewed. */
  get isDue(): boolean {
    if (this.#flusher.renewalDue || this.#seenLate.length > 0) return true;
    return this.#dirtySince !== undefined && this.#env.clock.monotonic() - this.#dirtySince >= LINGER_MS;
  }
  /** Outcomes of sends that the document does not show. */
  get unrecordedOutcomes(): Iterable<[number, SendOutcome | undefined]> {
    return this.#unrecorded;
  }
  /** Late truths are taken in, and still to be removed from the document. */
  get hasTruths(): boolean {
    return this.#seenLate.length > 0;
  }

  /** The page has changed. */
  touch(): void {
    this.#dirtySince ??= this.#env.clock.monotonic();
  }
  /** It has changed in a way that should be durable at once. */
  touchUrgently(): void {
    this.#dirtySince = Number.NEGATIVE_INFINITY;
  }
  /** This recipient has changed; by a send, where there is an outcome. */
  changed(index: number, outcome?: SendOutcome): void {
    this.#unrecorded.set(index, outcome);
    this.touch();
  }

  /** A send under this very claim answered after it was given up. */
  takeInTruth(truth: LateTruth): void {
    this.#takeIn([truth]);
  }

  /** Takes in the truths that came to the document since it was read. False: the database is away, try later. */
  async readTruths(): Promise<boolean> {
    const found = await readPage(this.#env.store, this.#pageId).catch(() => undefined);
    if (found === undefined) return false;
    const keyOf = ({ token, recipient, attempt }: LateTruth): string => `${token} ${recipient} ${attempt}`;
    const seen = new Set(this.#seenLate.map(keyOf));
    const news = (found?.late ?? []).filter((truth) => !seen.has(keyOf(truth)));
    this.#takeInStanding(news);
    return true;
  }

  /** They stand in the document, and are removed from it after the flush that contains them. */
  #takeInStanding(truths: readonly LateTruth[]): void {
    this.#takeIn(truths);
    this.#seenLate.push(...truths);
  }

  #takeIn(truths: readonly LateTruth[]): void {
    if (truths.length === 0) return;
    if (applyLateTruths(this.page, truths) > 0) for (const { recipient } of truths) this.changed(recipient);
    this.touch();
  }

  /** Writes everything that is not durable. */
  async flush(release: Release | undefined): Promise<FlushAnswer> {
    const image: PageImage = {
      columns: this.page.columns(),
      counts: { ...this.page.counts },
      details: this.page.takeChangedDetails(),
      unsettled: this.settling.entries,
      orderNo: this.orderNo,
      deaths: this.deaths,
    };
    const sending = this.page.count('sending');
    const recording = this.#unrecorded;
    const seenLate = this.#seenLate;
    this.#unrecorded = new Map();
    this.#seenLate = [];
    this.#dirtySince = undefined;
    const answer = await this.#flusher.flush(image, release, seenLate);
    if (answer === 'applied') {
      this.#onDurable(recording, sending);
      return answer;
    }
    this.#unrecorded = new Map([...recording, ...this.#unrecorded]);
    this.#seenLate = [...seenLate, ...this.#seenLate];
    for (const index of image.details.keys()) this.page.keepChanged(index);
    this.touch();
    return answer;
  }

  /** Gives up repeating a flush that the database does not take. */
  force(): void {
    this.#flusher.force();
  }
}
