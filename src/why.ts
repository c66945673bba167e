/**
 * Looks at one campaign: reads the facts in few round trips and lets `core/why.ts` say what they mean. Invariant: reads
 * only, by the server's time; what it tells was true when it was read, and nothing is decided by it.
 */
import { type Campaign, viewOf } from './campaign-view.ts';
import type { Progress } from './campaigns.ts';
import { breakerOf } from './core/breaker-document.ts';
import { isHeldByBreaker } from './core/campaign-machine.ts';
import { settledCount } from './core/ledger-page.ts';
import { concerns } from './core/orders.ts';
import { type MeasuredRate, measuredRate } from './core/progress-rate.ts';
import { type Rate, tokensPerMs } from './core/rate.ts';
import { intervals, zoneOf } from './core/send-window.ts';
import { RECIPIENT_ZONE } from './core/send-window-check.ts';
import { forecast, projectEnd } from './core/send-window-forecast.ts';
import type {
  BreakerFacts,
  FreezingFacts,
  RunFacts,
  Standing,
  StandingFacts,
  WorkerFacts,
} from './core/standing.ts';
import { explainStanding } from './core/why.ts';
import { readProgress } from './delivery/books.ts';
import { sizeOf } from './delivery/closing.ts';
import { anyCampaign, existingCampaign } from './existing-campaign.ts';
import { hasEnded } from './process-info.ts';
import type { Alarms } from './queue/alarms.ts';
import { type FreezingAttempts, freezingAttempts } from './store/audiences.ts';
import { readBreakers } from './store/breakers.ts';
import { isForeign, isNewer } from './store/campaigns.ts';
import type { CampaignDoc, RunDoc, WorkerDoc } from './store/documents.ts';
import { campaignRateKey, messengerRateKey, readBuckets } from './store/rates.ts';
import { latestRuns, readRun } from './store/runs.ts';
import {
  countQuarantined,
  otherSenders,
  readPageFacts,
  readZonesLeft,
  type ZoneCount,
} from './store/standing.ts';
import type { Store } from './store/store.ts';
import { liveWorkers } from './store/workers.ts';

export interface WhyOptions {
  readonly store: Store;
  readonly alarms: Pick<Alarms, 'find'>;
  readonly serverNow: () => Date;
  /** A worker silent for this long is offline, ms. */
  readonly workerOfflineAfterMs: number;
}

/** Why a campaign is, or is not, moving right now. */
export type Why = Standing & {
  readonly campaign: {
    readonly id: string;
    readonly name: string;
    readonly status: CampaignDoc['status'];
    /** Runs that wait until the one before them has ended. */
    readonly queuedRuns: number;
  };
  /** When this was true, by the server's time. */
  readonly at: Date;
};

export interface CampaignOverview extends Campaign {
  readonly reason: Standing;
  /** Of the first open run, else of the latest one; null before the first. */
  readonly run: Pick<RunDoc, 'occurrence' | 'status' | 'openedAt'> | null;
  /** At most 2 s old; null before there is an audience. */
  readonly progress: Progress | null;
  /** Null while nothing is being sent, or nothing can be said yet. */
  readonly rate: MeasuredRate | null;
  /** Of the open run, at the measured rate (its limit before anything was measured) within its window; null: not known. */
  readonly estimatedEnd: Date | null;
}

/** @throws CampaignSchedulerError `not_found`. */
export async function why(options: WhyOptions, id: string): Promise<Why> {
  const campaign = await anyCampaign(options.store, id);
  const { facts } = await readFacts(options, campaign);
  return {
    ...explainStanding(facts),
    campaign: {
      id: campaign._id.toHexString(),
      name: campaign.name,
      status: campaign.status,
      queuedRuns: Math.max(0, facts.openRuns - 1),
    },
    at: facts.now,
  };
}

/** @throws CampaignSchedulerError `not_found`. */
export async function overview(options: WhyOptions, id: string): Promise<CampaignOverview> {
  const { store } = options;
  const campaign = await existingCampaign(store, id);
  const { facts, run: open, zones } = await readFacts(options, campaign);
  const run = open ?? (await latestRuns(store, campaign._id, undefined, 1))[0] ?? null;
  const { now } = facts;
  const progress = run?.total === undefined ? null : await readProgress(store, run, now);
  const sends = campaign.status === 'processing' && run?.status === 'sending' && progress !== null;
  const samples = run?.progress?.samples ?? [];
  const rate = sends ? measuredRate(settledCount(progress), samples, run.openedAt, now) : null;
  return {
    ...viewOf(campaign),
    reason: explainStanding(facts),
    run: run === null ? null : { occurrence: run.occurrence, status: run.status, openedAt: run.openedAt },
    progress,
    rate,
    estimatedEnd: sends ? estimatedEnd(run, progress, rate, zones, now) : null,
  };
}

/** Without the content: nobody here needs it. */
type OpenRun = Omit<RunDoc, 'content'>;

interface Read {
  readonly facts: StandingFacts;
  readonly run: OpenRun | undefined;
  /** Of a window in each recipient's own zone: who is left, where that is known for everybody. */
  readonly zones: readonly ZoneCount[] | undefined;
}

async function readFacts(options: WhyOptions, campaign: CampaignDoc): Promise<Read> {
  const { store, alarms, serverNow, workerOfflineAfterMs } = options;
  // Another program's document may lack anything.
  const openRuns = Array.isArray(campaign.openRuns) ? campaign.openRuns : [];
  const first = isForeign(campaign) ? undefined : openRuns[0];
  const [alarm, workers, run, attempts, quarantined, breaker] = await Promise.all([
    alarms.find([campaign._id.toHexString()]).then(([found]) => found),
    liveWorkers(store, workerOfflineAfterMs),
    first === undefined ? null : readRun(store, first.runId),
    freezingAttempts(store, first === undefined ? [] : [first.runId]),
    first === undefined && campaign.status === 'completed' ? leftAside(store, campaign) : 0,
    isHeldByBreaker(campaign) ? readBreakerFacts(store, campaign.messenger) : undefined,
  ]);
  const alive = workers.filter((worker) => !hasEnded(worker));
  const details =
    run === null ? undefined : await readRunFacts(store, campaign, run, attempts.get(run._id), alive);
  const { status, statusReason, messenger, priority, order } = campaign;
  const facts: StandingFacts = {
    now: serverNow(),
    origin: isForeign(campaign) ? 'foreign' : isNewer(campaign) ? 'newer' : 'ours',
    campaign: {
      status,
      statusReason,
      messenger,
      breaker,
      priority,
      isRecurring: campaign.schedule?.recurrence !== undefined,
      nextRunAt: campaign.nextRunAt ?? null,
      orderNo: order !== undefined && first !== undefined && concerns(order, first.runId) ? order.n : 0,
    },
    alarm:
      alarm === undefined
        ? undefined
        : { ringsAt: alarm.nextRunAt, lockedAt: alarm.lockedAt, heldBy: alarm.lastModifiedBy },
    workers: alive.map(workerFacts),
    quarantined,
    openRuns: openRuns.length,
    run: details?.facts,
  };
  return { facts, run: run ?? undefined, zones: details?.zones };
}

/** Whom the latest run put aside. */
async function leftAside(store: Store, campaign: CampaignDoc): Promise<number> {
  const [run] = await latestRuns(store, campaign._id, undefined, 1);
  return run === undefined || run.report?.unknown === 0 ? 0 : countQuarantined(store, sizeOf(run));
}

/** Undefined: as good as closed. */
async function readBreakerFacts(store: Store, messenger: string): Promise<BreakerFacts | undefined> {
  const read = (await readBreakers(store, [messenger])).get(messenger);
  const breaker = read && breakerOf(read.document, read.now);
  if (breaker?.state !== 'open') return breaker && { state: breaker.state };
  const { state, nextProbeAt, manual } = breaker;
  return manual === undefined
    ? { state, nextProbeAt: new Date(nextProbeAt) }
    : { state, openedBy: manual.by };
}

function workerFacts({ _id, messengers, sources, resting = [] }: WorkerDoc): WorkerFacts {
  return { id: _id, messengers: messengers.map(({ name }) => name), sources, resting };
}

async function readRunFacts(
  store: Store,
  campaign: CampaignDoc,
  run: RunDoc,
  attempts: FreezingAttempts | undefined,
  workers: readonly WorkerDoc[],
): Promise<{ facts: RunFacts; zones: readonly ZoneCount[] | undefined }> {
  const { messenger, limits, audience, audienceId } = run;
  const keys = {
    campaign: campaignRateKey(campaign._id.toHexString()),
    messenger: messengerRateKey(messenger),
  };
  const { window } = limits;
  const perRecipient = window?.timezone === RECIPIENT_ZONE && audienceId !== undefined;
  const [pages, buckets, others, left] = await Promise.all([
    readPageFacts(store, sizeOf(run)),
    readBuckets(store, Object.values(keys)),
    otherSenders(store, { id: campaign._id, messenger, priority: campaign.priority }),
    perRecipient ? readZonesLeft(store, { runId: run._id, audienceId, pages: run.pages ?? 0 }) : undefined,
  ]);
  const facts: RunFacts = {
    status: run.status,
    isNewer: isNewer(run),
    orderNo: run.orderNo,
    messenger,
    source: 'source' in audience ? audience.source : undefined,
    freezing: attempts === undefined ? undefined : freezingFacts(run, attempts),
    pages,
    window,
    zones: (left?.zones ?? []).filter((zone) => zone.left > 0).map(({ timezone }) => timezone),
    rates: [
      { scope: 'campaign', rate: limits.rate, bucket: buckets.get(keys.campaign)?.bucket },
      {
        scope: 'messenger',
        rate: messengerRate(workers, messenger),
        bucket: buckets.get(keys.messenger)?.bucket,
      },
    ],
    others,
  };
  return { facts, zones: left?.whole === true ? left.zones : undefined };
}

/** The limit of the workers that have it; none where one of them sends without. The bucket only knows what once was. */
function messengerRate(workers: readonly WorkerDoc[], messenger: string): Rate | undefined {
  const rates = workers
    .flatMap(({ messengers }) => messengers.filter(({ name }) => name === messenger))
    .map(({ rate }) => rate);
  return rates.includes(undefined) ? undefined : rates[0];
}

function freezingFacts(run: RunDoc, { latest, number, failed }: FreezingAttempts): FreezingFacts {
  return {
    attempt: number,
    state: latest.state,
    failures: failed.filter((attempt) => attempt > run.freezeBase).length,
    error: latest.error,
    touchedAt: latest.touchedAt,
    workerId: latest.lease.workerId,
  };
}

function estimatedEnd(
  run: OpenRun,
  progress: Progress,
  rate: MeasuredRate | null,
  zones: readonly ZoneCount[] | undefined,
  from: Date,
): Date | null {
  const { window, rate: limit } = run.limits;
  const left = progress.total - settledCount(progress);
  const measured = rate === null || rate.perSecond === 0 ? undefined : rate.perSecond;
  const ratePerSecond = measured ?? (limit === undefined ? undefined : tokensPerMs(limit) * 1_000);
  if (window === undefined) {
    const always = [{ opensAt: from, closesAt: null }];
    return projectEnd({ intervals: always, ratePerSecond, left, from }).endsAt;
  }
  if (window.timezone === RECIPIENT_ZONE) {
    if (zones === undefined) return null;
    return forecast({ window, recipients: zones, ratePerSecond, from }).end.endsAt;
  }
  const open = intervals(window, zoneOf(window, undefined), from);
  return projectEnd({ intervals: open, ratePerSecond, left, from }).endsAt;
}
