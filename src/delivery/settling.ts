/**
 * The recipients of a page whose earlier hand-over may still be under way: counts the wait of each entry on this holder's
 * own monotonic clock, then resends, asks the messenger, or holds. Invariant: an entry leaves the list only after its wait
 * was counted in full by one holder and late truths were read once more; one that the messenger is being asked about stays
 * in the document until it has answered, or nobody would ask again after a crash.
 */
import type { LedgerPage } from '../core/ledger-page.ts';
import { cutUtf8 } from '../core/retry.ts';
import { hold, type ResendLimits, resend, type Unsettled, waiting } from '../core/settlement.ts';
import type { Message, Messenger, Reconciliation } from '../messengers/messenger.ts';
import type { HoldEnvironment } from './hold-environment.ts';

interface Counting extends Unsettled {
  readonly from: number;
}

export class Settling {
  readonly #env: HoldEnvironment;
  readonly #page: LedgerPage;
  #entries: Counting[];
  /** Their wait is over; the messenger is being asked. */
  #asked: Counting[] = [];

  constructor(env: HoldEnvironment, page: LedgerPage, entries: readonly Unsettled[]) {
    this.#env = env;
    this.#page = page;
    const from = env.clock.monotonic();
    this.#entries = entries.map((entry) => ({ ...entry, from }));
  }

  /** As it stands in the document. */
  get entries(): Unsettled[] {
    return [...this.#asked, ...this.#entries].map(({ token, recipients, waitMs }) => ({
      token,
      recipients,
      waitMs,
    }));
  }
  get recipients(): Set<number> {
    return new Set(this.#entries.flatMap((entry) => entry.recipients));
  }
  /** The messenger is being asked. */
  get asking(): boolean {
    return this.#asked.length > 0;
  }
  get due(): boolean {
    const now = this.#env.clock.monotonic();
    return this.#entries.some((entry) => now - entry.from >= entry.waitMs);
  }

  add(entry: Unsettled): void {
    this.#entries.push({ ...entry, from: this.#env.clock.monotonic() });
  }

  /** Takes the entries whose wait is over out of the list, and what is still to be done with their recipients. */
  takeDue(): { resend: number[]; reconcile: number[]; asked: readonly Unsettled[] } {
    const now = this.#env.clock.monotonic();
    const due = this.#entries.filter((entry) => now - entry.from >= entry.waitMs);
    this.#entries = this.#entries.filter((entry) => !due.includes(entry));
    const open = due.map((entry) => waiting(this.#page, entry));
    const asked = due.filter((_, position) => (open[position]?.reconcile.length ?? 0) > 0);
    this.#asked.push(...asked);
    return {
      resend: open.flatMap((part) => part.resend),
      reconcile: open.flatMap((part) => part.reconcile),
      asked,
    };
  }

  /** True where recipients wait for a resend or an answer that is now due: then late truths are read first. */
  get dueWithWaiting(): boolean {
    const now = this.#env.clock.monotonic();
    return this.#entries.some((entry) => {
      if (now - entry.from < entry.waitMs) return false;
      const open = waiting(this.#page, entry);
      return open.resend.length + open.reconcile.length > 0;
    });
  }

  /** Returns those that may go out again now. */
  resendAll(indices: readonly number[], now: number, limits: ResendLimits): number[] {
    for (const index of indices) resend(this.#page, index, now, limits);
    return indices.filter((index) => ['pending', 'retrying'].includes(this.#page.letter(index)));
  }

  /**
   * Asks what became of these, which `takeDue` took out of `asked`. `answered` is called with the answers, in order; nothing
   * usable means no answers.
   */
  ask(
    asked: readonly Unsettled[],
    messenger: Messenger | undefined,
    messages: readonly Message[],
    answered: (answers: readonly (Reconciliation | undefined)[]) => void,
  ): void {
    void this.#answers(messenger, messages).then((answers) => {
      this.#asked = this.#asked.filter((entry) => !asked.includes(entry));
      answered(answers);
    });
  }

  /** Never rejects: no answer, a late one or a strange one means hold. */
  async #answers(
    messenger: Messenger | undefined,
    messages: readonly Message[],
  ): Promise<(Reconciliation | undefined)[]> {
    if (messenger?.reconcile === undefined) return [];
    const { clock, sendTimeoutMs, logger } = this.#env;
    const controller = new AbortController();
    let cancel = (): void => undefined;
    try {
      const tooLate = new Promise<never>((_, reject) => {
        cancel = clock.schedule(sendTimeoutMs, () => {
          controller.abort();
          reject(new Error(`no answer within ${sendTimeoutMs} ms`));
        });
      });
      const answers = await Promise.race([
        messenger.reconcile(messages, { signal: controller.signal }),
        tooLate,
      ]);
      if (!Array.isArray(answers) || answers.length !== messages.length) return [];
      return answers.map(readAnswer);
    } catch (error) {
      logger.warn(
        { error, recipients: messages.length },
        'the messenger could not say what became of earlier hand-overs',
      );
      return [];
    } finally {
      cancel();
    }
  }

  /** Applies one answer. Returns true when it did not leave, so that it may go out again. */
  reconcile(index: number, answer: Reconciliation | undefined, now: number): boolean {
    if (this.#page.letter(index) !== 'unsettled') return false; // a late truth was faster
    switch (answer?.status) {
      case 'sent': {
        const { providerId } = answer;
        this.#page.set(index, 'sent', now, {
          code: 'reconciled',
          ...(providerId === undefined ? {} : { providerId }),
        });
        return false;
      }
      case 'failed':
        this.#page.set(index, 'failed', now, {
          code: 'reconciled',
          reason: answer.reason,
        });
        return false;
      case 'not-sent':
        return true;
      default:
        hold(this.#page, index, 'the messenger could not say whether it left', now);
        return false;
    }
  }
}

/** An answer by the contract, in our own plain copy; undefined: one that says nothing. */
function readAnswer(answer: unknown): Reconciliation | undefined {
  const given = (answer ?? {}) as { status?: unknown; providerId?: unknown; reason?: unknown };
  switch (given.status) {
    case 'sent': {
      const { providerId } = given;
      return typeof providerId === 'string'
        ? { status: 'sent', providerId: cutUtf8(providerId, 128) }
        : { status: 'sent' };
    }
    case 'failed':
      return { status: 'failed', reason: cutUtf8(String(given.reason), 256) };
    case 'not-sent':
      return { status: 'not-sent' };
    default:
      return undefined;
  }
}
