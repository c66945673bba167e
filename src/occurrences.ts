/**
 * The occurrences of a campaign: what became of the past ones, and which come next. Past ones are runs and, from the
 * journal, those that were left out; next ones follow from the rule. Reads only. A campaign without a rule has its one run.
 */
import type { CampaignStatus } from './core/campaign-machine.ts';
import type { SkippedOccurrences } from './core/misfire.ts';
import { jitterOf, nextOccurrence, occurrenceKey } from './core/recurrence.ts';
import { existingCampaign } from './existing-campaign.ts';
import { integerProblems, refuseProblems } from './input-checks.ts';
import type { CampaignDoc, OpenRunRef, RunDoc, RunReport } from './store/documents.ts';
import { latestEntries } from './store/journal.ts';
import { latestRuns, refreshRuns } from './store/runs.ts';
import type { Store } from './store/store.ts';

const MAX_LISTED = 100;

export type PastOccurrence =
  | {
      readonly occurrence: string;
      /** Its nominal instant; where it has none (`once`, runs that a person asked for) when it was opened. */
      readonly at: Date;
      /** `waiting_for_earlier_run`: the runs of a campaign send one after another. */
      readonly fate:
        | 'opening'
        | 'waiting_for_earlier_run'
        | 'freezing'
        | 'sending'
        | 'completed'
        | 'cancelled'
        | 'failed';
      /** Null: it is being inserted. */
      readonly openedAt: Date | null;
      /** Opened so long after it was due, ms. Absent: in time. */
      readonly lateMs?: number;
      /** Missed occurrences that it stands for. */
      readonly missed?: number;
      readonly report?: RunReport;
      /** Why it failed. */
      readonly failure?: string;
    }
  /** One or several in a row that did not run. */
  | ({
      readonly fate: 'skipped';
      readonly at: Date;
    } & SkippedOccurrences);

export interface NextOccurrenceEntry {
  readonly occurrence: string;
  /** The nominal instant. */
  readonly at: Date;
  /** When it is to begin: the nominal instant and the campaign's jitter. */
  readonly startsAt: Date;
  /**
   * `due`: its time has come, the misfire policy decides. `paused` and `draft`: only when the campaign is resumed or
   * scheduled in time.
   */
  readonly fate: 'scheduled' | 'due' | 'paused' | 'draft';
}

export interface OccurrenceList {
  /** The latest first. */
  readonly past: readonly PastOccurrence[];
  /** The earliest first. */
  readonly next: readonly NextOccurrenceEntry[];
}

/** @throws CampaignSchedulerError `not_found`; ValidationError `invalid_options`. */
export async function listOccurrences(
  store: Store,
  id: string,
  options: { readonly limit?: number | undefined },
  now: Date,
): Promise<OccurrenceList> {
  const { limit = 20 } = options;
  const problems = integerProblems('limit', limit, 1, MAX_LISTED);
  refuseProblems('Occurrences cannot be listed', problems);
  const campaign = await existingCampaign(store, id);
  const [latest, open, entries] = await Promise.all([
    latestRuns(store, campaign._id, undefined, limit),
    // More runs may be waiting than are listed.
    refreshRuns(
      store,
      campaign.openRuns.map(({ runId }) => runId),
    ),
    latestEntries(store, campaign._id, 'occurrence-skipped', limit),
  ]);
  const known = new Set([...latest, ...open].map((run) => run._id));
  const past = [
    ...campaign.openRuns.filter(({ runId }) => !known.has(runId)).map((ref) => openingOf(ref, now)),
    ...latest.map((run) => pastOf(run, campaign.openRuns)),
    ...skippedOf(campaign, entries),
  ];
  past.sort((a, b) => b.at.getTime() - a.at.getTime());
  return { past: past.slice(0, limit), next: nextOf(campaign, limit, now) };
}

/** The campaign names it, and it is not there: whoever opened it is about to insert it. */
function openingOf(ref: OpenRunRef, now: Date): PastOccurrence {
  const { occurrence, nominalAt, missed } = ref;
  return {
    occurrence,
    at: nominalAt ?? now,
    fate: 'opening',
    openedAt: null,
    ...(missed === undefined ? {} : { missed }),
  };
}

function pastOf(run: Omit<RunDoc, 'content'>, open: readonly OpenRunRef[]): PastOccurrence {
  const { occurrence, openedAt, nominalAt, lateMs, missed, report, failure, status } = run;
  const waits = (status === 'freezing' || status === 'sending') && open[0]?.runId !== run._id;
  return {
    occurrence,
    at: nominalAt ?? openedAt,
    fate: waits ? 'waiting_for_earlier_run' : status === 'finished' ? 'completed' : status,
    openedAt,
    ...(lateMs === undefined ? {} : { lateMs }),
    ...(missed === undefined ? {} : { missed }),
    ...(report === undefined || status === 'sending' ? {} : { report }),
    ...(failure === undefined ? {} : { failure }),
  };
}

/** From the journal, and those that are not in it yet. */
function skippedOf(
  campaign: CampaignDoc,
  entries: readonly { readonly detail?: Record<string, unknown> }[],
): PastOccurrence[] {
  const told = entries.map(({ detail }) => detail as unknown as SkippedOccurrences);
  const isTold = (one: SkippedOccurrences): boolean =>
    told.some(({ reason, first }) => reason === one.reason && first.getTime() === one.first.getTime());
  const untold = (campaign.leftOut ?? []).filter((one) => !isTold(one));
  return [...untold, ...told].map(({ reason, first, last, count, atLeast }) => {
    return { fate: 'skipped', at: last, reason, first, last, count, atLeast };
  });
}

const FATES: Partial<Record<CampaignStatus, NextOccurrenceEntry['fate']>> = {
  draft: 'draft',
  scheduled: 'scheduled',
  processing: 'scheduled',
  paused: 'paused',
};

function nextOf(campaign: CampaignDoc, limit: number, now: Date): NextOccurrenceEntry[] {
  const fate = FATES[campaign.status];
  if (fate === undefined) return [];
  const { recurrence: rule, sendAt } = campaign.schedule;
  const fateAt = (startsAt: Date): NextOccurrenceEntry['fate'] =>
    fate === 'scheduled' && startsAt <= now ? 'due' : fate;
  if (rule === undefined) {
    const at = campaign.openRuns.length === 0 ? (campaign.nextRunAt ?? sendAt) : null;
    return at === null ? [] : [{ occurrence: 'once', at, startsAt: at, fate: fateAt(at) }];
  }
  const jitterMs = jitterOf(rule, campaign._id.toHexString());
  const left = rule.maxRuns === null ? limit : Math.max(0, rule.maxRuns - (campaign.runsOpened ?? 0));
  const next: NextOccurrenceEntry[] = [];
  let at: Date | null =
    campaign.nextOccurrence ??
    nextOccurrence(rule, campaign.lastOccurrence ?? new Date(rule.anchor.getTime() - 1));
  while (at !== null && next.length < Math.min(limit, left)) {
    const startsAt = new Date(at.getTime() + jitterMs);
    next.push({ occurrence: occurrenceKey(at), at, startsAt, fate: fateAt(startsAt) });
    at = nextOccurrence(rule, at);
  }
  return next;
}
