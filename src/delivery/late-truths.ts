/**
 * The truth about sends that had begun under a claim that is gone. It goes to a field that no flush touches; whoever holds
 * the page next takes it in, and where nobody does it is merged at once. Invariant: a late truth only ever replaces the
 * `unknown` or given-up outcome of the very claim and attempt it is about.
 */
import type { SendOutcome } from '../core/outcome.ts';
import { applyLateTruths, type LateTruth } from '../core/settlement.ts';
import type { LedgerPageDoc } from '../store/documents.ts';
import {
  mergeLateTruths,
  pushLateTruths,
  removeLateTruths,
  unheldLateTruths,
} from '../store/ledger-late-truths.ts';
import { decodePage, readPage } from '../store/ledger-pages.ts';
import type { Store } from '../store/store.ts';
import { recountReport } from './closing.ts';
import type { HoldEnvironment } from './hold-environment.ts';

const RETRY_MS = 500;
const MERGE_TRIES = 10;
const MERGED_AT_ONCE = 100;

/** What an outcome says for good. Undefined: nothing that would end the doubt. */
export function lateTruth(
  token: string,
  recipient: number,
  attempt: number,
  outcome: SendOutcome,
  at: number,
): LateTruth | undefined {
  const about = { token, recipient, attempt, at };
  switch (outcome.kind) {
    case 'sent':
      return {
        ...about,
        state: 'sent',
        ...(outcome.providerId === undefined ? {} : { detail: { providerId: outcome.providerId } }),
      };
    case 'skipped':
      return { ...about, state: 'skipped', detail: { reason: outcome.reason } };
    case 'permanent':
    case 'transient':
    case 'provider': {
      const detail = {
        ...(outcome.code === undefined ? {} : { code: outcome.code }),
        reason: outcome.reason,
      };
      return { ...about, state: 'failed', detail, retryable: outcome.kind !== 'permanent' };
    }
    case 'unknown':
      return undefined;
  }
}

/** Tells the truths about one page, one write at a time, and keeps trying while the database is away. */
export class LateTruthTeller {
  readonly #env: HoldEnvironment;
  readonly #pageId: string;
  #waiting: LateTruth[] = [];
  #isTelling = false;
  #told: Promise<void> | undefined;
  #silent = false;

  constructor(env: HoldEnvironment, pageId: string) {
    this.#env = env;
    this.#pageId = pageId;
  }

  tell(truths: readonly (LateTruth | undefined)[]): void {
    for (const truth of truths) if (truth !== undefined) this.#waiting.push(truth);
    if (this.#waiting.length === 0 || this.#isTelling) return;
    const { telling } = this.#env;
    const told = this.#tellAll().finally(() => telling.delete(told));
    telling.add(told);
    this.#told = told;
  }
  /** Resolves when everything told so far stands in the database. */
  async told(): Promise<void> {
    await this.#told;
  }
  /** Stops trying. */
  silence(): void {
    this.#silent = true;
  }

  async #tellAll(): Promise<void> {
    const { store, clock, logger } = this.#env;
    this.#isTelling = true;
    while (this.#waiting.length > 0 && !this.#silent && !this.#env.stopped()) {
      const truths = this.#waiting;
      this.#waiting = [];
      try {
        const page = await pushLateTruths(store, this.#pageId, truths);
        if (page !== null) await mergeUnheld(store, page);
      } catch (error) {
        logger.warn({ error, page: this.#pageId }, 'late outcomes wait: MongoDB does not take them');
        this.#waiting.unshift(...truths); // telling twice changes nothing
        await new Promise<void>((resolve) => clock.schedule(RETRY_MS, resolve));
      }
    }
    this.#isTelling = false;
  }
}

/** Merges the late truths on pages that nobody holds, of one run or of all. */
export async function mergeAllUnheld(store: Store, runId?: string): Promise<void> {
  for (const page of await unheldLateTruths(store, MERGED_AT_ONCE, runId)) await mergeUnheld(store, page);
}

/** Merges the late truths of a page that nobody holds; corrects the report when the run is closed. */
export async function mergeUnheld(store: Store, document: LedgerPageDoc): Promise<void> {
  let found: LedgerPageDoc | null = document;
  for (let tries = 0; tries < MERGE_TRIES && found !== null; tries += 1) {
    const { late, states } = found;
    if (found.status === 'claimed' || late === undefined || late.length === 0 || states === undefined) return;
    const page = decodePage(found, states.length);
    applyLateTruths(page, late);
    if (await mergeLateTruths(store, found, page)) {
      await recountReport(store, found.runId);
      return removeLateTruths(store, found._id, late);
    }
    found = await readPage(store, found._id);
  }
}
