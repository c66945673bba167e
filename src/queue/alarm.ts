/**
 * The words of this folder. An alarm is one document per campaign in Agenda's collection: it says when to look at the
 * campaign next and holds no other truth. Its key is `{ name, 'data.campaignId' }`, where the id is always the
 * 24-digit lower-case hex string: a string and an ObjectId, or two spellings, would be two alarms.
 *
 * Where to look: `alarms.ts` is what the rest of the package uses; `alarm-collection.ts` writes from outside (wake,
 * insert, release); `alarm-repository.ts` is how Agenda reads and writes; `alarm-handler.ts` is what rings.
 */
import type { ObjectId } from 'mongodb';
import { CampaignSchedulerError } from '../errors.ts';

export const BULK_ALARM = 'process-bulk-campaign' as const;
export const RECURRING_ALARM = 'process-recurring-campaign' as const;
export const ALARM_NAMES = [BULK_ALARM, RECURRING_ALARM] as const;

/** The names of the two jobs, as they stand in Agenda's collection. */
export type AlarmName = (typeof ALARM_NAMES)[number];

/** An alarm to be set: ring for this campaign at this instant (server time). */
export interface AlarmEntry {
  readonly name: AlarmName;
  readonly campaignId: string;
  readonly at: Date;
}

/**
 * An alarm as read. It will ring when `nextRunAt` is a date; it is ringing when `lockedAt` is one, held by the worker
 * `lastModifiedBy` under `lockToken`. With both null it is no alarm at all: nothing will ever find it, wake it.
 */
export interface AlarmState {
  /** The job's id in hex, as `wake()` returns it. */
  readonly id: string;
  readonly name: AlarmName;
  readonly campaignId: string;
  readonly nextRunAt: Date | null;
  readonly lockedAt: Date | null;
  readonly lockToken: string | null;
  readonly lastModifiedBy: string | null;
}

/** The stored document. Fields written only by a run may be missing; null and missing mean the same. */
export interface AlarmDocument {
  _id: ObjectId;
  name: string;
  data: { campaignId: string };
  type: 'normal';
  priority: number;
  disabled: boolean | null;
  nextRunAt: Date | null;
  lockedAt: Date | null;
  lockToken?: string | null;
  lastModifiedBy?: string | null;
  wakeRev?: number | null;
  lastRunAt?: Date | null;
  lastFinishedAt?: Date | null;
  failedAt?: Date | null;
  failCount?: number | null;
  failReason?: string | null;
  progress?: number | null;
}

const HEX_ID = /^[0-9a-f]{24}$/;

/** Which of the two rings for a campaign. */
export const alarmOf = (campaign: { readonly schedule?: { readonly recurrence?: unknown } }): AlarmName =>
  campaign.schedule?.recurrence === undefined ? BULK_ALARM : RECURRING_ALARM;

/** The campaign's id in a job's data, or undefined when the data is not ours: anyone can write into the collection. */
export function campaignIdOf(data: unknown): string | undefined {
  if (typeof data !== 'object' || data === null || !('campaignId' in data)) return undefined;
  return typeof data.campaignId === 'string' && HEX_ID.test(data.campaignId) ? data.campaignId : undefined;
}

export function isAlarmName(name: unknown): name is AlarmName {
  return ALARM_NAMES.some((known) => known === name);
}

export function isValidDate(value: unknown): value is Date {
  return value instanceof Date && !Number.isNaN(value.getTime());
}

/** Throws `refused` for an entry that could never ring, before it is stored. */
export function assertAlarmEntry(entry: AlarmEntry): void {
  if (!isAlarmName(entry.name)) throw refusal('name', ALARM_NAMES.join(' or '), entry.name);
  if (campaignIdOf(entry) === undefined) {
    throw refusal('campaignId', 'a string of 24 lower-case hex digits', entry.campaignId);
  }
  if (!isValidDate(entry.at)) throw refusal('at', 'a valid Date', entry.at);
}

function refusal(field: string, expected: string, got: unknown): CampaignSchedulerError {
  const message = `Expected an alarm's \`${field}\` to be ${expected}, got \`${String(got)}\` (${typeof got})`;
  return new CampaignSchedulerError('refused', message);
}
