/** What a running scheduler offers: the public face, apart from how it is built. */
import type { Alerts } from './alerts.ts';
import type { Breakers } from './breakers.ts';
import type { CampaignHealth, CampaignHealthList, ListHealthOptions } from './campaign-health.ts';
import type { Campaigns } from './campaigns.ts';
import type { ServiceHealth } from './core/service-health.ts';
import type { EventListener, EventName } from './events.ts';
import type { OccurrenceList } from './occurrences.ts';
import type { SchedulePreview, SchedulePreviewInput } from './preview-schedule.ts';
import type { RecoveryReport } from './services/recovery-pass.ts';
import type { Models } from './store/models.ts';
import type { CampaignOverview, Why } from './why.ts';
import type { WorkerView } from './worker-list.ts';

export interface Versions {
  readonly name: string;
  readonly version: string;
  readonly node: string;
  readonly agenda: string | null;
  /** Of the server, when this scheduler was started. */
  readonly mongodb: string | null;
}

export interface CampaignScheduler {
  /** Random per start of the process. */
  readonly workerId: string;
  readonly campaigns: Campaigns;
  /** The circuit breakers of the messengers: how they stand, and opening, closing and resetting one by hand. */
  readonly breakers: Breakers;
  /** What is wrong, or was: `list`, `acknowledge`. */
  readonly alerts: Alerts;
  /** mongoose models of campaigns and runs on this scheduler's connection, for reading and for extending by own fields. */
  readonly models: Models;
  /** Calls `listener` after what the event tells is durable. Returns a function that ends it. A listener can do no harm. */
  on<Name extends EventName>(name: Name, listener: EventListener<Name>): () => void;
  once<Name extends EventName>(name: Name, listener: EventListener<Name>): () => void;
  off<Name extends EventName>(name: Name, listener: EventListener<Name>): void;
  /** A full pass of recovery over all scheduled and processing campaigns; joins one that is under way in the cluster. */
  recover(): Promise<RecoveryReport>;
  /**
   * Why the campaign is, or is not, moving right now: a stable `code` with its data, a sentence, and `until` where the
   * reason ends by itself at a known time. Reads only. Rejects with `not_found`, `stopped`.
   */
  why(campaignId: string): Promise<Why>;
  /** The campaign with the reason, its progress, the rate and the estimated end. Rejects with `not_found`, `stopped`. */
  overview(campaignId: string): Promise<CampaignOverview>;
  /**
   * What became of its occurrences and which come next. `limit` of each list, 1 to 100, default 20.
   * Rejects with `not_found`, `invalid_options`, `stopped`.
   */
  occurrences(campaignId: string, options?: { readonly limit?: number | undefined }): Promise<OccurrenceList>;
  /**
   * How a campaign is, in one word, with its heartbeat, checkpoint and alerts. Rejects with `not_found`, `stopped`.
   * Without an id: all that are not final, in the order of creation. `limit` 1 to 1000, default 100.
   */
  health(campaignId: string): Promise<CampaignHealth>;
  health(options?: ListHealthOptions): Promise<CampaignHealthList>;
  /**
   * Is this process well: does MongoDB answer, are alarms and work looked for, are pages written, do messengers work? Cheap:
   * MongoDB is asked at most once a second. Rejects with `stopped`.
   */
  serviceHealth(): Promise<ServiceHealth>;
  /** What is installed; `mongodb` and `agenda` are null where that cannot be found out. */
  versions(): Promise<Versions>;
  /** The workers of the last week, those heard of last first. `limit` 1 to 1000, default 100. */
  workers(options?: { readonly limit?: number | undefined }): Promise<WorkerView[]>;
  /** What a rule says and when it would occur. @throws ValidationError `invalid_options` with every problem. */
  previewSchedule(input: SchedulePreviewInput): SchedulePreview;
  /** Takes no more work, lets sends end (at most `timeoutMs`, default `stopTimeoutMs`), records, gives back, closes. */
  stop(options?: { readonly timeoutMs?: number }): Promise<void>;
}
