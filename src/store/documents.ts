/** The documents in MongoDB, one type per collection. Every document carries `schemaVersion`; see `SCHEMA_VERSION`. */
import type { ObjectId } from 'mongodb';
import type { AlertLevel } from '../core/alert-policy.ts';
import type { CampaignStatus, RunStatus } from '../core/campaign-machine.ts';
import type { Checkpoint } from '../core/checkpoint.ts';
import type { Counts, Detail } from '../core/ledger-page.ts';
import type { SkippedOccurrences } from '../core/misfire.ts';
import type { Order } from '../core/orders.ts';
import type { ProgressSample } from '../core/progress-rate.ts';
import type { Rate } from '../core/rate.ts';
import type { Recipient } from '../core/recipient.ts';
import type { Recurrence } from '../core/recurrence-rule.ts';
import type { SendWindow } from '../core/send-window-check.ts';
import type { LateTruth, OnUnknown, Unsettled } from '../core/settlement.ts';

/** Raised when a document changes its meaning. A worker that meets a newer one leaves it alone and says so. */
export const SCHEMA_VERSION = 1;

export interface StatusReason {
  code: string;
  detail?: string;
  at: Date;
  /** Who: `user`, `scheduler`, `breaker`, or what the caller gave. */
  by: string;
  /** Which messenger does not work, where the breaker paused the campaign. */
  messenger?: string;
  /** Who opened that breaker by hand. */
  openedBy?: string;
}

export interface RunLimits {
  concurrency: number;
  retry: { maxAttempts: number; firstDelayMs: number; maxDelayMs: number };
  onUnknown: OnUnknown;
  window?: SendWindow;
  rate?: Rate;
}

export type AudienceSpec = { audienceId: string } | { source: string; params?: unknown };

export interface OpenRunRef {
  runId: string;
  occurrence: string;
  /** When it was due, of a recurring campaign's run; absent where a person asked for it. */
  nominalAt?: Date;
  /** How long after that it was opened, when that was more than a minute. */
  lateMs?: number;
  /** Occurrences before it that it stands for (`misfire: 'once'`). */
  missed?: number;
}

export interface CampaignDoc {
  _id: ObjectId;
  name: string;
  status: CampaignStatus;
  statusReason?: StatusReason;
  /** Grows with every change by a person or by recovery, never with progress. */
  rev: number;
  order?: Order;
  schedule: { sendAt: Date | null; recurrence?: Recurrence };
  /** When it is to be started; the instant of opening once it has been. Recurring: when it rings next; null at its end. */
  nextRunAt: Date | null;
  /** Of a recurring one: the nominal instant that was opened or left out last, or the time of the last change of its rule. */
  lastOccurrence?: Date;
  /** The nominal instant it rings for next; `nextRunAt` is this and the jitter. */
  nextOccurrence?: Date | null;
  /** Runs opened by the rule so far. */
  runsOpened?: number;
  /** Occurrences left out by the last write of the rule, until the journal has them. */
  leftOut?: SkippedOccurrences[];
  pauseOnFailure?: boolean;
  /** Not empty until the books of the run are closed, whatever the status. */
  openRuns: OpenRunRef[];
  audience: AudienceSpec;
  messenger: string;
  content: Record<string, unknown>;
  limits: RunLimits;
  priority: number;
  metadata?: Record<string, unknown>;
  agendaJobId?: string;
  createdAt: Date;
  updatedAt: Date;
  schemaVersion: number;
}

/** The closed books of a run. */
export interface RunReport {
  total: number;
  sent: number;
  failed: number;
  skipped: number;
  unknown: number;
  duplicates: number;
  rejected: number;
  startedAt: Date;
  finishedAt: Date;
}

export interface RunDoc {
  /** `campaignId:occurrence` */
  _id: string;
  campaignId: ObjectId;
  occurrence: string;
  status: RunStatus;
  /** Number of the last order copied down from the campaign. */
  orderNo: number;
  orders: Order[];
  name: string;
  messenger: string;
  content: Record<string, unknown>;
  limits: RunLimits;
  audience: AudienceSpec;
  audienceId?: string;
  /** Zones of its pages, where its window is by the recipients' own zones. */
  zones?: string[];
  pages?: number;
  total?: number;
  duplicates?: number;
  rejected?: number;
  /** Number of the freezing attempts that no longer count: a person resumed after them. */
  freezeBase: number;
  progress?: {
    counts: Counts;
    at: Date;
    /** Earlier sums, the oldest first: what the rate of sending is measured against. */
    samples?: ProgressSample[];
  };
  /** Its sign of life while it sends; written by the workers that hold pages of it. */
  heartbeat?: RunHeartbeatDoc;
  /** How far it was at the last sum; the final one when its books are closed. */
  checkpoint?: Checkpoint;
  /** The last error that ended a worker while it held pages of it. */
  crash?: CrashDoc;
  report?: RunReport;
  /** Why it failed, in words: its audience could not be read. */
  failure?: string;
  /** When it ended without an audience, by server time; gone when pages that may have been laid for it have been swept. */
  unbegunAt?: Date;
  openedAt: Date;
  nominalAt?: Date;
  /** How late it was opened, when recovery found it overdue. */
  lateMs?: number;
  missed?: number;
  schemaVersion: number;
}

export interface RunHeartbeatDoc {
  /** Server time. */
  at: Date;
  /** Id of the recipient that this worker handed over last; null: nobody yet. */
  recipient: string | null;
  /** `23/118`; absent before the first sum. */
  progress?: string;
  /** Whole percent, rounded down. */
  percent?: number;
  status: RunStatus;
  workerId: string;
  pid: number;
}

export type AudienceState = 'freezing' | 'ready' | 'failed' | 'dead';

export interface Rejection {
  /** Position in the source, from 0. */
  row: number;
  reason: string;
}

export interface AudienceDoc {
  /** `runId:attempt` of a source, random of a list. */
  _id: string;
  owner: { kind: 'create' } | { kind: 'run'; runId: string; attempt: number };
  state: AudienceState;
  lease: { token: string; seq: number; workerId: string; ttlMs: number };
  pages: number;
  total: number;
  duplicates: number;
  rejected: { count: number; first: Rejection[] };
  error?: string;
  /** Server time of the last sign of life of whoever freezes it. */
  touchedAt: Date;
  /** Rows of the source read by then, while it is freezing. */
  rowsRead?: number;
  /** Of a dead one: its pages were deleted once. */
  swept?: boolean;
  schemaVersion: number;
}

export interface AudiencePageDoc {
  /** `audienceId:n` */
  _id: string;
  audienceId: string;
  n: number;
  timezone?: string;
  recipients: Recipient[];
  /** Size of the recipients in bytes, about. */
  bytes: number;
  schemaVersion: number;
}

export interface Claim {
  token: string;
  seq: number;
  workerId: string;
  ttlMs: number;
  sendTimeoutMs: number;
}

export type PageStatus = 'pending' | 'claimed' | 'waiting' | 'done' | 'parked';

export interface LedgerPageDoc {
  /** `runId:n` */
  _id: string;
  runId: string;
  n: number;
  /** Whose hours hold for it, where the run's window is by the recipients' own zones. */
  timezone?: string;
  status: PageStatus;
  orderNo: number;
  claim?: Claim;
  states?: string;
  at?: Uint8Array;
  attempts?: Uint8Array;
  generations?: Uint8Array;
  details?: Record<string, Detail>;
  counts?: Counts;
  unsettled?: Unsettled[];
  late?: LateTruth[];
  dueAt?: Date;
  /** Holders that died in a row without recording an outcome, and without naming the recipient that may be to blame. */
  deaths: number;
  schemaVersion: number;
}

export interface WorkerDoc {
  /** The worker id, random per start. */
  _id: string;
  host: string;
  pid: number;
  /** When the process started, as its machine tells it: process ids are used again. */
  processStartedAt: string;
  version: string;
  /** What other processes must know of a messenger to create campaigns for it. */
  messengers: {
    name: string;
    idempotent: boolean;
    reconciles: boolean;
    /** It tells what it sees of the messenger and follows its breaker. Missing: written before there were breakers. */
    breaker?: boolean;
    rate?: Rate;
  }[];
  sources: string[];
  /** Messengers that failed here and are not well again, and until when nothing is tried, by server time. */
  resting?: { messenger: string; until: Date }[];
  /** `offline`: set by the watchdog for one that gave no sign of life; `crashed`: it ended by an error of the process. */
  state: 'running' | 'stopping' | 'stopped' | 'offline' | 'crashed';
  startedAt: Date;
  /** Server time. */
  heartbeatAt: Date;
  pagesHeld: number;
  /** Sends under way. */
  inFlight: number;
  /** When an outcome was last recorded by it, by server time; null: none yet. */
  lastProgressAt: Date | null;
  /** Of its machine over the last minute, as the system tells it; 0 where it tells none. */
  load: number;
  memory: { rssBytes: number; heapUsedBytes: number };
  /** The longest that its event loop was late since the heartbeat before, ms. */
  eventLoopDelayMs: number;
  /** Server time minus its machine's wall clock, ms. */
  clockSkewMs: number;
  /** What ended it, where an error of the process did. */
  crash?: CrashDoc;
  schemaVersion: number;
}

/** An uncaught error that ended a worker, or would have. */
export interface CrashDoc {
  /** Server time. */
  at: Date;
  workerId: string;
  pid: number;
  error: string;
  /** At most 4 KB; no credentials. */
  stack: string;
}

export interface LeaseDoc {
  _id: string;
  holder: string;
  token: string;
  /** Server time. */
  expiresAt: Date;
  report?: unknown;
  schemaVersion: number;
}

/** A token bucket; all times are the server's. What stands without a value has never been needed. */
export interface RateDoc {
  /** `campaign:<id>` or `messenger:<name>` */
  _id: string;
  /** As last asked with. */
  rate?: Rate;
  /** Level at `at`, see `core/rate.ts`. */
  tokens?: number;
  at?: Date;
  /** The provider asked for a rest. */
  blockedUntil?: Date;
  /** The last answer, for whoever asked. */
  granted?: number;
  firstInMs?: number;
  waitMs?: number;
  blockedForMs?: number;
  takenAt?: Date;
  /** The last answers to those who asked many buckets together, the latest first. */
  answers?: RateAnswer[];
  /** When the document may be deleted. */
  expiresAt?: Date;
  schemaVersion: number;
}

export interface RateAnswer {
  /** Of the question. */
  by: string;
  granted: number;
  firstInMs: number;
  waitMs: number;
  blockedForMs: number;
  takenAt: Date;
}

/** The circuit breaker of a messenger, see `core/breaker.ts`; which fields there are depends on the state. */
export interface BreakerDoc {
  /** Name of the messenger. */
  _id: string;
  state: 'closed' | 'open' | 'half_open';
  /** Grows with every transition; 0: there has been none. The guard of every write. */
  term: number;
  openings: number;
  /** By worker, since the last transition. */
  evidence: Record<string, unknown>;
  openedAt?: Date;
  detail?: string;
  nextProbeAt?: Date;
  manual?: { by: string; reason?: string; at: Date };
  probe?: { token: string; workerId: string; until: Date };
  closedAt?: Date;
  schemaVersion: number;
}

export interface JournalDoc {
  /** A key of its own where it must stand there once only. */
  _id?: ObjectId | string;
  at: Date;
  campaignId: ObjectId | null;
  runId?: string;
  kind: string;
  detail?: Record<string, unknown>;
  workerId: string;
  schemaVersion: number;
}

/** One trouble, raised and cleared; all times are the server's. */
export interface AlertDoc {
  /** The key of the trouble. */
  _id: string;
  kind: string;
  level: AlertLevel;
  message: string;
  detail?: Record<string, unknown>;
  campaignId?: string;
  state: 'raised' | 'cleared';
  raisedAt: Date;
  lastSeenAt: Date;
  clearedAt: Date | null;
  /** How often it has been raised. */
  count: number;
  /** End of the cool-down; of a raised one: nobody has been told of it. */
  quietUntil?: Date;
  acknowledged?: { by: string; at: Date };
  /** Grows with every change but an acknowledgement. */
  rev: number;
  /** Of the last change, made by whoever made it. */
  token: string;
  schemaVersion: number;
}

export const runIdOf = (campaignId: ObjectId, occurrence: string): string =>
  `${campaignId.toHexString()}:${occurrence}`;
export const pageIdOf = (ownerId: string, n: number): string => `${ownerId}:${n}`;
