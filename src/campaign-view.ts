/** What callers see of a campaign: plain data, ids as strings, nothing of the engine's own bookkeeping. */
import type { CampaignStatus } from './core/campaign-machine.ts';
import type { Recurrence } from './core/recurrence-rule.ts';
import type { CampaignDoc, RunLimits, StatusReason } from './store/documents.ts';

export interface Campaign {
  /** 24 hexadecimal digits. */
  readonly id: string;
  readonly name: string;
  readonly status: CampaignStatus;
  /** Why the status is what it is, where that is not plain. */
  readonly statusReason?: StatusReason;
  readonly sendAt: Date | null;
  /** The rule of a recurring one. */
  readonly recurrence?: Recurrence;
  /** When it starts next, or started; of a recurring one the next occurrence, null when none comes. */
  readonly nextRunAt: Date | null;
  readonly messenger: string;
  /** `source` of a named source; a list has been frozen. */
  readonly audience: { readonly source: string; readonly params?: unknown } | { readonly audienceId: string };
  readonly limits: RunLimits;
  readonly priority: number;
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** Id of the alarm in Agenda's collection, while there is one. */
  readonly agendaJobId?: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

export function viewOf(document: CampaignDoc): Campaign {
  const { _id, schedule, statusReason, metadata, agendaJobId } = document;
  return {
    id: _id.toHexString(),
    name: document.name,
    status: document.status,
    ...(statusReason === undefined ? {} : { statusReason }),
    sendAt: schedule.sendAt,
    ...(schedule.recurrence === undefined ? {} : { recurrence: schedule.recurrence }),
    nextRunAt: document.nextRunAt,
    messenger: document.messenger,
    audience: document.audience,
    limits: document.limits,
    priority: document.priority,
    ...(metadata === undefined ? {} : { metadata }),
    ...(agendaJobId === undefined ? {} : { agendaJobId }),
    createdAt: document.createdAt,
    updatedAt: document.updatedAt,
  };
}
