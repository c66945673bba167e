/**
 * The words of `why`: the facts that it is decided from, and the reasons that it gives. Plain data only; `why.ts` decides,
 * `why-words.ts` says it to people. Invariant: a reason carries all that its sentence tells.
 */
import type { BreakerState } from './breaker.ts';
import type { CampaignStatus, RunStatus } from './campaign-machine.ts';
import type { Counts } from './ledger-page.ts';
import type { Bucket, Rate } from './rate.ts';
import type { SendWindow } from './send-window-check.ts';

/** All times are the server's. */
export interface StandingFacts {
  readonly now: Date;
  /** Who wrote the campaign: this version, a newer one, or another program whose document has not been taken in. */
  readonly origin: 'ours' | 'newer' | 'foreign';
  readonly campaign: {
    readonly status: CampaignStatus;
    readonly statusReason?:
      | { readonly code: string; readonly detail?: string; readonly at: Date; readonly by: string }
      | undefined;
    readonly messenger: string;
    /** The breaker of its messenger, where that has paused it. */
    readonly breaker?: BreakerFacts | undefined;
    readonly priority: number;
    readonly isRecurring: boolean;
    readonly nextRunAt: Date | null;
    /** Number of its last order, if that is about the run below; 0: none. */
    readonly orderNo: number;
  };
  readonly alarm:
    | { readonly ringsAt: Date | null; readonly lockedAt: Date | null; readonly heldBy: string | null }
    | undefined;
  /** Only those that gave a sign of life in time. */
  readonly workers: readonly LiveWorker[];
  /** Of a completed campaign's latest run: recipients that were put aside because they stop their workers. */
  readonly quarantined: number;
  /** Runs whose books are not closed. Those after the first wait for it. */
  readonly openRuns: number;
  /** The first open run; `undefined`: there is none, or whoever opened it has not inserted it yet. */
  readonly run: RunFacts | undefined;
}

export interface BreakerFacts {
  readonly state: BreakerState;
  /** When it is tried again. */
  readonly nextProbeAt?: Date | undefined;
  /** Who opened it by hand. */
  readonly openedBy?: string | undefined;
}

export interface LiveWorker {
  readonly id: string;
  readonly messengers: readonly string[];
  readonly sources: readonly string[];
  /** Messengers that failed there, and until when nothing is tried; as of its last sign of life. */
  readonly resting: readonly { readonly messenger: string; readonly until: Date }[];
}

export interface RunFacts {
  readonly status: RunStatus;
  readonly isNewer: boolean;
  readonly orderNo: number;
  /** Its own copy: the campaign's may have been changed since. */
  readonly messenger: string;
  /** `undefined`: a list, which was frozen when the campaign was created. */
  readonly source: string | undefined;
  /** The latest attempt to read the source. */
  readonly freezing: FreezingFacts | undefined;
  readonly pages: PageFacts;
  readonly window: SendWindow | undefined;
  /** Zones of the recipients that are left; matter only for a window in each recipient's own zone. */
  readonly zones: readonly (string | undefined)[];
  readonly rates: readonly RateFacts[];
  /** Campaigns that send with the same messenger at present, of the same or a higher priority, the highest first. */
  readonly others: readonly OtherCampaign[];
}

export interface FreezingFacts {
  readonly attempt: number;
  readonly state: 'freezing' | 'ready' | 'failed' | 'dead';
  /** Attempts that failed since a person last resumed the campaign. */
  readonly failures: number;
  readonly error: string | undefined;
  readonly touchedAt: Date;
  readonly workerId: string;
}

export interface PageFacts {
  readonly counts: Counts;
  /** Numbers of pages. */
  readonly pending: number;
  readonly waiting: number;
  readonly claimed: number;
  readonly parked: number;
  /** Pages that nobody holds and that have not had all orders of the run. */
  readonly behind: number;
  /** Pages that nobody holds and that a newer version wrote: this one leaves them alone. */
  readonly newer: number;
  /** The earliest time at which a waiting page goes on. */
  readonly dueAt: Date | null;
  readonly claims: readonly ClaimFacts[];
}

export interface ClaimFacts {
  readonly workerId: string;
  readonly pages: number;
  /** Those of them on which nothing is left but recipients that an earlier holder may still be handing over. */
  readonly settling: number;
  /** How long the holder waits for the earlier holder's sends, ms. */
  readonly waitMs: number;
}

export interface RateFacts {
  readonly scope: 'campaign' | 'messenger';
  /** `undefined`: there is no limit, but the provider may have asked for a rest. */
  readonly rate: Rate | undefined;
  /** `undefined`: nobody has asked for a token yet. */
  readonly bucket: Bucket | undefined;
}

export interface OtherCampaign {
  readonly id: string;
  readonly name: string;
  readonly priority: number;
}

/** Who brought it about, and when. */
interface Acted {
  readonly by?: string;
  readonly since?: Date;
  readonly detail?: string;
}

/** Why a campaign is, or is not, moving. `until` is the instant at which the reason ends by itself, where that is known. */
export type Reason =
  | { readonly code: 'not_adopted' }
  | { readonly code: 'newer_version' }
  | { readonly code: 'draft' }
  | ({ readonly code: 'paused' } & Acted)
  /** Its messenger does not work, everywhere. `until`: when that is tried; `openedBy`: a person who wants it so. */
  | {
      readonly code: 'breaker_open';
      readonly messenger: string;
      readonly state: BreakerState;
      readonly since?: Date;
      readonly detail?: string;
      readonly until?: Date;
      readonly openedBy?: string;
    }
  | ({ readonly code: 'cancelled' } & Acted)
  | ({ readonly code: 'failed' } & Acted)
  | { readonly code: 'completed' }
  /** It has not begun, and its time has not come. */
  | { readonly code: 'scheduled'; readonly until: Date }
  | { readonly code: 'next_occurrence'; readonly until: Date }
  | { readonly code: 'no_time' }
  /** A rule without another occurrence; the campaign is about to be completed. */
  | { readonly code: 'rule_ended' }
  /** It is due, and everything is there to begin. */
  | { readonly code: 'opening' }
  | { readonly code: 'no_worker' }
  | { readonly code: 'alarm_missing'; readonly lateMs: number }
  /** Due for some time although a worker lives: its alarm is held by a lost worker, or rings too late. */
  | { readonly code: 'overdue'; readonly lateMs: number; readonly until?: Date; readonly heldBy?: string }
  /** In progress without a run: only another program leaves it so. */
  | { readonly code: 'no_run' }
  | { readonly code: 'no_worker_for_source'; readonly source: string; readonly lastError?: string }
  | { readonly code: 'no_worker_for_messenger'; readonly messenger: string }
  | {
      readonly code: 'freezing';
      readonly attempt: number;
      readonly source?: string;
      readonly workerId?: string;
      readonly lastError?: string;
    }
  /** The worker that read the source is lost; another one begins anew. */
  | {
      readonly code: 'freezing_lost';
      readonly attempt: number;
      readonly source?: string;
      readonly workerId: string;
    }
  | {
      readonly code: 'freezing_retry';
      readonly attempt: number;
      readonly source?: string;
      readonly attemptsLeft: number;
      readonly lastError: string;
      readonly until: Date;
    }
  /** A worker reads a few sources at a time; this one has not begun. */
  | { readonly code: 'freezing_queued'; readonly attempt: number; readonly source?: string }
  | { readonly code: 'applying_orders'; readonly pages: number }
  | { readonly code: 'sending'; readonly pages: number; readonly workers: readonly string[] }
  | { readonly code: 'settling'; readonly pages: number; readonly atMostMs: number }
  | { readonly code: 'taking_over'; readonly pages: number; readonly workers: readonly string[] }
  | { readonly code: 'window_closed'; readonly until: Date; readonly zone: string }
  | {
      readonly code: 'rate';
      readonly scope: 'campaign' | 'messenger';
      readonly rate: Rate;
      readonly until: Date;
    }
  /** `everywhere`: the provider asked all servers for a rest; otherwise it failed in each worker that has it. */
  | {
      readonly code: 'messenger_resting';
      readonly messenger: string;
      readonly everywhere: boolean;
      readonly until?: Date;
    }
  | {
      readonly code: 'waiting_for_turn';
      readonly priority: number;
      /** Of a higher priority. */
      readonly ahead: readonly OtherCampaign[];
      /** Of the same priority. */
      readonly beside: number;
    }
  | { readonly code: 'retry_at'; readonly recipients: number; readonly until: Date }
  | { readonly code: 'parked'; readonly pages: number }
  /** All that is left of a completed campaign. */
  | { readonly code: 'quarantined'; readonly recipients: number }
  | { readonly code: 'closing' };

export type ReasonCode = Reason['code'];

/** A reason with its sentence. */
export type Standing = Reason & {
  /** For people, in English. */
  readonly message: string;
  /** Something is being done about it right now. */
  readonly moving: boolean;
};
