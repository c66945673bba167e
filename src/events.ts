/**
 * The events of a scheduler and the bus that hands them to listeners. Invariant: a listener can do no harm, whatever it
 * throws or rejects with is logged and changes nothing.
 *
 * Every event fires after the change it tells of is durable, in the process that made the change, and at most once: a
 * process that dies between the two tells nobody. So events are for showing and measuring; what must not be missed is
 * read from the database.
 */

import type { CampaignStatus } from './core/campaign-machine.ts';
import type { SkipReason } from './core/misfire.ts';
import type { Logger } from './logger.ts';
import type { Alert } from './store/alerts.ts';
import type { RunDoc, RunReport } from './store/documents.ts';

export interface CampaignRef {
  readonly id: string;
  readonly name: string;
}

export interface RunRef {
  readonly id: string;
  /** `once`, the nominal instant of a recurring campaign, or `manual:<id>`. */
  readonly occurrence: string;
}

/** What every event of a run says of it and its campaign. */
export function aboutRun(run: Pick<RunDoc, '_id' | 'campaignId' | 'name' | 'occurrence'>): {
  campaign: CampaignRef;
  run: RunRef;
} {
  return {
    campaign: { id: run.campaignId.toHexString(), name: run.name },
    run: { id: run._id, occurrence: run.occurrence },
  };
}

/** Why a status is, as kept with the campaign. */
export interface EventReason {
  readonly code: string;
  readonly detail?: string;
  /** Who: `user`, `scheduler`, or what the caller gave. */
  readonly by: string;
}

/** Where one recipient of a run stands. */
export interface DeliveryEvent {
  readonly recipientId: string;
  readonly state: 'sent' | 'failed' | 'skipped' | 'unknown' | 'retrying';
  /** Hand-overs begun so far. */
  readonly attempts: number;
  /** When it came to this. */
  readonly at: Date;
  readonly providerId?: string;
  readonly code?: string;
  readonly reason?: string;
  /** Of a retrying one: not before this instant. */
  readonly dueAt?: Date;
}

export interface DeliveryPayload {
  readonly campaign: CampaignRef;
  readonly run: RunRef;
  readonly delivery: DeliveryEvent;
}

export interface PagePayload {
  readonly campaign: CampaignRef;
  readonly run: RunRef;
  /** Number of the page within the run, from 0. */
  readonly page: number;
}

export interface WorkerPayload {
  readonly workerId: string;
}

export interface BreakerPayload {
  readonly messenger: string;
}

export interface EventMap {
  /** Created, rescheduled or taken from draft: the campaign is stored with its time. */
  'campaign:scheduled': { readonly campaign: CampaignRef; readonly sendAt: Date };
  /** The run is open. Sends may begin before listeners hear of it. `lateMs` is set when it was opened more than a minute late. */
  'campaign:started': { readonly campaign: CampaignRef; readonly run: RunRef; readonly lateMs?: number };
  /** No new send starts; those in flight in this or another worker still end. */
  'campaign:paused': { readonly campaign: CampaignRef; readonly reason?: EventReason };
  /** The status before the pause is back. */
  'campaign:resumed': { readonly campaign: CampaignRef; readonly status: CampaignStatus };
  /** The books of one run are closed: the report is a recount of every recipient. Also of a campaign that runs once. */
  'run:completed': { readonly campaign: CampaignRef; readonly run: RunRef; readonly report: RunReport };
  /** A run of a recurring campaign was given up because its audience could not be read. The campaign goes on. */
  'run:failed': { readonly campaign: CampaignRef; readonly run: RunRef; readonly reason: EventReason };
  /**
   * Occurrences of a recurring campaign that did not run, and why: `missed` (nobody ran them in time), `too-late`,
   * `coalesced` (a later one runs for them), `overlap` (an earlier run was open, and where one may wait, one did),
   * `queue-full` (misfire `all`: 100 were waiting), `rule-changed` (they were due when a person changed the rule).
   */
  'occurrence:skipped': {
    readonly campaign: CampaignRef;
    readonly reason: SkipReason;
    readonly first: Date;
    readonly last: Date;
    readonly count: number;
    /** There were more than `count`. */
    readonly atLeast: boolean;
  };
  /**
   * The last run's books are closed, and no run comes after it; of a rule whose last occurrences were left out, when it
   * has ended. A rule that ends without any run is told by `occurrence:skipped` and the journal only.
   */
  'campaign:completed': { readonly campaign: CampaignRef; readonly run: RunRef; readonly report: RunReport };
  /** The campaign cannot go on, for example because its audience could not be read. */
  'campaign:failed': { readonly campaign: CampaignRef; readonly run?: RunRef; readonly reason: EventReason };
  /** The order to cancel is stored; pages that are held apply it within moments. */
  'campaign:cancelled': { readonly campaign: CampaignRef; readonly reason?: EventReason };
  /** Recovery gave the campaign an alarm, resumed it or started it late; that write is durable. */
  'campaign:recovered': {
    readonly campaign: CampaignRef;
    readonly status: CampaignStatus;
    /** What recovery did, for example `resume`. */
    readonly action: string;
  };
  /** The messenger took it over and the ledger says so. */
  'delivery:sent': DeliveryPayload;
  /** Recorded as failed: permanently, or after the last attempt. */
  'delivery:failed': DeliveryPayload;
  /** Recorded as skipped, by the messenger or by a cancellation. */
  'delivery:skipped': DeliveryPayload;
  /** Recorded as unknown: it may have left. */
  'delivery:unknown': DeliveryPayload;
  /** Recorded for another attempt at `delivery.dueAt`. */
  'delivery:retrying': DeliveryPayload;
  /**
   * Recorded as unknown, code `quarantined`: workers died one after another while it was being handed over, so that it is
   * put aside until a person releases it (`releaseParked`). The rest of its page goes on.
   */
  'delivery:quarantined': DeliveryPayload;
  /** This worker holds a page whose holder showed no sign of life. */
  'page:taken-over': PagePayload & { readonly fromWorkerId: string; readonly unsettled: number };
  /** Holders of this page died `deaths` times in a row: nobody takes it until a person releases it. */
  'page:parked': PagePayload & { readonly deaths: number };
  /** A trouble began, or grew worse; it is stored. Not told: one that came back within the cool-down. */
  'alert:raised': { readonly alert: Alert };
  /** The trouble is over. */
  'alert:cleared': { readonly alert: Alert };
  /**
   * Nothing goes out by this messenger any more: it failed, or a person wants it so (`by`; then `nextProbeAt` is null). Also
   * told when a probe has failed: `openings` counts the times in a row.
   */
  'breaker:opened': BreakerPayload & {
    readonly detail: string;
    readonly openings: number;
    readonly nextProbeAt: Date | null;
    readonly by?: string;
  };
  /** This process tries whether the messenger works again. */
  'breaker:half-open': BreakerPayload;
  /** The messenger works again, or a person says so (`by`): what the breaker had paused goes on. */
  'breaker:closed': BreakerPayload & { readonly by?: string };
  /** A worker gave no sign of life for `workerOfflineAfterMs` and is marked so; what it held is released. */
  'worker:offline': WorkerPayload & {
    readonly host: string;
    readonly pid: number;
    readonly lastSeenAt: Date;
  };
  /** This process has told the others that it lives. */
  'worker:started': WorkerPayload;
  /** It could not write its heartbeat for `forMs`: it sends nothing until one goes through. Nothing of this is stored. */
  'worker:suspended': WorkerPayload & { readonly forMs: number };
  /** A heartbeat went through again: it sends. */
  'worker:resumed': WorkerPayload;
  /** Sends have ended or been given up, outcomes are recorded, pages given back. */
  'worker:stopped': WorkerPayload;
}

export type EventName = keyof EventMap;
export type EventListener<Name extends EventName> = (payload: EventMap[Name]) => unknown;

interface Entry {
  readonly listener: (payload: never) => unknown;
  readonly once: boolean;
}

export class EventBus {
  readonly #logger: Logger;
  /** The lists are replaced, never changed, so that `emit` goes through the list it found. */
  readonly #entries = new Map<EventName, readonly Entry[]>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Calls `listener` at every event of this name. Returns a function that ends it. */
  on<Name extends EventName>(name: Name, listener: EventListener<Name>): () => void {
    return this.#add(name, { listener, once: false });
  }

  /** Calls `listener` at the next event of this name only. Returns a function that ends it earlier. */
  once<Name extends EventName>(name: Name, listener: EventListener<Name>): () => void {
    return this.#add(name, { listener, once: true });
  }

  /** Ends one registration of `listener`, the latest first. Nothing happens when there is none. */
  off<Name extends EventName>(name: Name, listener: EventListener<Name>): void {
    const entry = this.#entries.get(name)?.findLast((candidate) => candidate.listener === listener);
    if (entry !== undefined) this.#remove(name, entry);
  }

  /** Does anybody listen? Ask before building the payload of an event that fires thousands of times a second. */
  has(name: EventName): boolean {
    return this.#entries.has(name);
  }

  /** Calls every listener in the order of registration. Never throws and waits for nobody. */
  emit<Name extends EventName>(name: Name, payload: EventMap[Name]): void {
    const entries = this.#entries.get(name);
    if (entries === undefined) return;
    for (const entry of entries) {
      if (entry.once && !this.#remove(name, entry)) continue; // a listener emitted the same event and used it up
      try {
        const result = (entry.listener as EventListener<Name>)(payload);
        if (isThenable(result)) result.then(undefined, (error: unknown) => this.#report(name, error));
      } catch (error) {
        this.#report(name, error);
      }
    }
  }

  #add(name: EventName, entry: Entry): () => void {
    this.#entries.set(name, [...(this.#entries.get(name) ?? []), entry]);
    return () => {
      this.#remove(name, entry);
    };
  }

  #remove(name: EventName, entry: Entry): boolean {
    const entries = this.#entries.get(name) ?? [];
    if (!entries.includes(entry)) return false;
    const left = entries.filter((other) => other !== entry);
    if (left.length === 0) this.#entries.delete(name);
    else this.#entries.set(name, left);
    return true;
  }

  #report(name: EventName, error: unknown): void {
    try {
      this.#logger.error({ event: name, error }, 'a listener failed; nothing else is affected');
    } catch {
      // A logger that throws has nobody to tell it to.
    }
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}
