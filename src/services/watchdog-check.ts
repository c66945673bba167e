/**
 * What every check of the watchdog is given, and what it answers. Invariant: whoever has just become the watchdog, or could
 * not read for a round, has watched nothing long enough to call a trouble over: what is raised then stands as it was.
 */
import type { Clock } from '../clock.ts';
import type { AlertNews } from '../core/alert-policy.ts';
import type { Standing } from '../core/standing.ts';
import type { EventBus } from '../events.ts';
import type { Logger } from '../logger.ts';
import type { Alarms } from '../queue/alarms.ts';
import type { AlertDoc } from '../store/documents.ts';
import type { Store } from '../store/store.ts';
import type { RunProgress, SeenWorker } from '../store/watch.ts';
import type { ResolvedWatchdogOptions } from '../watchdog-options.ts';
import type { ClaimWatchOptions } from './claim-watch.ts';

export interface WatchdogContext {
  readonly store: Store;
  readonly clock: Clock;
  readonly alarms: Alarms;
  readonly events: EventBus;
  readonly logger: Logger;
  readonly serverNow: () => Date;
  readonly limits: ResolvedWatchdogOptions;
  readonly workerOfflineAfterMs: number;
  /** Why the campaign is, or is not, moving. */
  readonly why: (campaignId: string) => Promise<Standing>;
  /** Runs may need attention. */
  readonly nudge: () => void;
  /** With what pages are taken over; undefined: this process sends nothing. */
  readonly takingOver: ClaimWatchOptions | undefined;
}

/** What was read for all checks together. */
export interface Round {
  /** Monotonic, before anything was asked. */
  readonly askedAt: number;
  /** Monotonic, after the last answer. */
  readonly answeredAt: number;
  /** How long one question took, ms. */
  readonly roundTripMs: number;
  readonly workers: readonly SeenWorker[];
  /** Ids of those that are alive. */
  readonly live: ReadonlySet<string>;
  /** Ids of those that are gone: marked offline, to which the check of workers adds, or ended by an error. */
  readonly offline: Set<string>;
  /** The runs that campaigns in progress are at. */
  readonly runs: readonly RunProgress[];
  /** The campaigns in progress, and, where no worker is alive, those that a breaker holds. */
  readonly processing: number;
  /** The first campaigns that should have begun `stuckAfterMs` ago. */
  readonly overdue: readonly string[];
  /** Alerts of the watchdog that are raised. */
  readonly raised: readonly AlertDoc[];
}

/** It stands as it was raised: nothing that was seen since says that it is over. */
export function asRaised({ _id: key, kind, level, message, campaignId, detail }: AlertDoc): AlertNews {
  return {
    ...{ key, kind, level, message },
    ...(campaignId === undefined ? {} : { campaignId }),
    ...(detail === undefined ? {} : { detail }),
  };
}

/** Which of the things that are watched have changed since this watchdog saw them first. */
export class Motion {
  #seen = new Map<string, { readonly sign: string; readonly moved: boolean }>();

  /** Takes one complete look: what changes of each. */
  look(signs: readonly { readonly key: string; readonly sign: string }[]): void {
    const seen = new Map<string, { sign: string; moved: boolean }>();
    for (const { key, sign } of signs) {
      const before = this.#seen.get(key);
      seen.set(key, { sign, moved: before !== undefined && (before.moved || before.sign !== sign) });
    }
    this.#seen = seen;
  }

  /** It is still there, and has not been seen to move. */
  isStill(key: string): boolean {
    return this.#seen.get(key)?.moved === false;
  }

  forget(): void {
    this.#seen.clear();
  }
}

/** A look goes through all pages of a run. */
const RUNS_PER_ROUND = 5;

/** The next few in the order of their keys, and round again. */
export function inTurn(keys: readonly string[], after: string): string[] {
  const sorted = [...keys].sort();
  const from = Math.max(
    0,
    sorted.findIndex((key) => key > after),
  );
  return [...sorted.slice(from), ...sorted.slice(0, from)].slice(0, RUNS_PER_ROUND);
}

export interface Check {
  readonly name: string;
  /** Alerts of these kinds are its own: what is raised of them and not among its answers is cleared. */
  readonly kinds: readonly string[];
  look(round: Round): Promise<readonly AlertNews[]>;
  /** A look failed: what was seen before proves nothing any more. */
  forget?(): void;
}
