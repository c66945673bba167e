/** What every check of the watchdog is given, and what it answers. */
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
  /** Ids of those that are marked offline; the check of workers adds to it. */
  readonly offline: Set<string>;
  /** The runs that campaigns in progress are at. */
  readonly runs: readonly RunProgress[];
  /** The campaigns in progress. */
  readonly processing: number;
  /** The first campaigns that should have begun `stuckAfterMs` ago. */
  readonly overdue: readonly string[];
  /** Alerts of the watchdog that are raised. */
  readonly raised: readonly AlertDoc[];
}

export interface Check {
  readonly name: string;
  /** Alerts of these kinds are its own: what is raised of them and not among its answers is cleared. */
  readonly kinds: readonly string[];
  look(round: Round): Promise<readonly AlertNews[]>;
  /** A look failed: what was seen before proves nothing any more. */
  forget?(): void;
}
