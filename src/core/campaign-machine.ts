/**
 * The states of a campaign and of a run, and which order may be given in which state. Pure tables: whoever writes a
 * status asks here first, and the write is guarded by the status read.
 */

export const CAMPAIGN_STATUSES = [
  'draft',
  'scheduled',
  'processing',
  'paused',
  'completed',
  'failed',
  'cancelled',
] as const;
export type CampaignStatus = (typeof CAMPAIGN_STATUSES)[number];

export type RunStatus = 'freezing' | 'sending' | 'finished' | 'cancelled' | 'failed';

export type CampaignAction =
  | 'schedule'
  | 'pause'
  | 'resume'
  | 'cancel'
  | 'reschedule'
  | 'retry-failed'
  | 'resend-unknown'
  | 'resolve-unknown'
  | 'release-parked'
  | 'run-now'
  | 'backfill'
  | 'update';

/** What an action makes of a status: the next status, `same`, or nothing where it is refused. */
type Row = Partial<Record<CampaignStatus, CampaignStatus | 'same' | 'before-pause'>>;

const TABLE: Record<CampaignAction, Row> = {
  schedule: { draft: 'scheduled' },
  pause: { scheduled: 'paused', processing: 'paused' },
  resume: { paused: 'before-pause', failed: 'before-pause' },
  cancel: {
    draft: 'cancelled',
    scheduled: 'cancelled',
    processing: 'cancelled',
    paused: 'cancelled',
    failed: 'cancelled', // its audience could not be read: it would wait for a resume for ever
  },
  reschedule: { draft: 'scheduled', scheduled: 'scheduled', paused: 'same' },
  // Scheduled: of a recurring campaign, about a run that has ended.
  'retry-failed': {
    scheduled: 'processing',
    processing: 'same',
    paused: 'same',
    completed: 'processing',
    failed: 'processing',
  },
  'resend-unknown': {
    scheduled: 'processing',
    processing: 'same',
    paused: 'same',
    completed: 'processing',
    failed: 'processing',
  },
  'resolve-unknown': {
    scheduled: 'same',
    processing: 'same',
    paused: 'same',
    completed: 'same',
    failed: 'same',
    cancelled: 'same',
  },
  // Who was put aside counts as unknown, so that the campaign may have ended.
  'release-parked': {
    scheduled: 'processing',
    processing: 'same',
    paused: 'same',
    completed: 'processing',
    failed: 'processing',
  },
  // These three are of recurring campaigns; each run goes on after those that are open.
  'run-now': { scheduled: 'processing', processing: 'same', completed: 'processing' },
  backfill: { scheduled: 'processing', processing: 'same', completed: 'processing' },
  update: { draft: 'same', scheduled: 'same', processing: 'same', paused: 'same' },
};

/** Code of the reason why the circuit breaker of its messenger has paused a campaign. */
export const BREAKER_OPEN = 'breaker_open';

/** Does it stand still only because its messenger does not work? It goes on by itself. */
export function isHeldByBreaker({
  status,
  statusReason,
}: {
  readonly status: CampaignStatus;
  readonly statusReason?: { readonly code: string } | undefined;
}): boolean {
  return status === 'paused' && statusReason?.code === BREAKER_OPEN;
}

/**
 * The status an action leads to, or undefined where it is refused. A pause keeps no memory of its own: a campaign with an
 * open run resumes into `processing`, one without into `scheduled`. A `failed` campaign resumes only when its run never
 * started to send (freezing failed), which is when it still has an open run. What the breaker has paused, a person can
 * pause as well, which then holds; to resume it there is nothing to do but to mend the messenger.
 */
export function nextStatus(
  status: CampaignStatus,
  action: CampaignAction,
  hasOpenRun: boolean,
  heldByBreaker = false,
): CampaignStatus | undefined {
  if (heldByBreaker && action === 'pause') return 'paused';
  if (heldByBreaker && action === 'resume') return undefined;
  const next = TABLE[action][status];
  if (next === 'same') return status;
  if (next !== 'before-pause') return next;
  if (hasOpenRun) return 'processing';
  return status === 'paused' ? 'scheduled' : undefined;
}

/** The statuses in which an action is allowed, for messages. */
export function statusesFor(action: CampaignAction): CampaignStatus[] {
  return CAMPAIGN_STATUSES.filter((status) => TABLE[action][status] !== undefined);
}
