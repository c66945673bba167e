/**
 * What the workers see of a messenger while its breaker is closed: this one tells what speaks against it, and judges what
 * all of them have told. Invariants: a messenger in good health costs no write; workers are counted anew before it is said
 * that the breaker should open.
 */
import type { Clock } from '../clock.ts';
import {
  type BreakerSettings,
  type ClosedBreaker,
  type Evidence,
  isFresh,
  judgeEvidence,
  speaksAgainst,
} from '../core/breaker.ts';
import type { MessengerLine } from '../delivery/messenger-line.ts';
import { writeEvidence } from '../store/breakers.ts';
import type { Store } from '../store/store.ts';

export interface BreakerEvidenceOptions {
  readonly store: Store;
  readonly settings: BreakerSettings;
  readonly clock: Clock;
  readonly workerId: string;
  /** Ids of the live workers that have the messenger and tell what they see of it. */
  readonly workersHaving: (messenger: string) => Promise<readonly string[]>;
}

const COUNT_WORKERS_MS = 5_000;

export class BreakerEvidence {
  readonly #options: BreakerEvidenceOptions;
  readonly #line: MessengerLine;
  #live: ReadonlySet<string> = new Set();
  #workersCountedAt = Number.NEGATIVE_INFINITY;

  constructor(options: BreakerEvidenceOptions, line: MessengerLine) {
    this.#options = options;
    this.#line = line;
  }

  /** Why the breaker is to be opened; undefined: it stays closed. `now`: the server's time at which it stood so. */
  async judge(breaker: ClosedBreaker, now: number): Promise<string | undefined> {
    const { settings, workerId } = this.#options;
    const gate = this.#line.breaker;
    const { [workerId]: told, ...others } = breaker.evidence;
    const lastSuccess = Math.max(0, ...Object.values(others).map(({ succeededAt = 0 }) => succeededAt));
    if (lastSuccess > 0) gate.othersSucceeded(now - lastSuccess);
    const mine = gate.evidence(now);
    // Also what it has told itself: others go on telling until it takes that back.
    const isTold = Object.values(breaker.evidence).some(
      (one) => isFresh(one, settings, now) && speaksAgainst(one, settings),
    );
    const isNews = gate.hasNews && mine !== undefined && speaksAgainst(mine, settings);
    if (!isTold && !isNews) return undefined;
    const live = await this.liveWorkers();
    const all = mine === undefined ? others : { ...others, [workerId]: mine };
    if (gate.hasNews && (mine ?? told) !== undefined) await this.#tell(breaker, mine, live, now);
    if (!judgeEvidence(all, live, settings, now).opens) return undefined;
    // Somebody may have come since they were counted.
    const { opens, detail } = judgeEvidence(all, await this.liveWorkers(0), settings, now);
    return opens ? detail : undefined;
  }

  /** Only what is news: who has nothing to send has nothing to say. */
  async #tell(
    breaker: ClosedBreaker,
    mine: Evidence | undefined,
    live: ReadonlySet<string>,
    now: number,
  ): Promise<void> {
    const { store, workerId, settings } = this.#options;
    const gate = this.#line.breaker;
    const gone = Object.entries(breaker.evidence).flatMap(([id, one]) =>
      live.has(id) || isFresh(one, settings, now) ? [] : [id],
    );
    gate.hasNews = false;
    try {
      await writeEvidence(store, this.#line.name, breaker, workerId, mine, gone);
    } catch (error) {
      gate.hasNews = true;
      throw error;
    }
  }

  /** Ids of those that have the messenger, with its own; counted at most so long ago. */
  async liveWorkers(forMs = COUNT_WORKERS_MS): Promise<ReadonlySet<string>> {
    const { clock, workersHaving, workerId } = this.#options;
    if (clock.monotonic() - this.#workersCountedAt >= forMs) {
      this.#live = new Set([...(await workersHaving(this.#line.name)), workerId]);
      this.#workersCountedAt = clock.monotonic();
      this.#line.othersHaveIt = this.#live.size > 1;
    }
    return this.#live;
  }
}
