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
  LiveWorker,
  RunFacts,
  Standing,
  StandingFacts,
} from './core/standing.ts';
import { explainStanding } from './core/why.ts';
import { readProgress } from './delivery/books.ts';
import { sizeOf } from './delivery/closing.ts';
import { anyCampaign, existingCampaign } from './existing-campaign.ts';
import {
  type RunHead,
  type StandingReads,
  type StandingReadsOptions,
  standingReads,
} from './standing-reads.ts';
import type { FreezingAttempts } from './store/audiences.ts';
import type { ReadBreaker } from './store/breakers.ts';
import { isForeign, isNewer } from './store/campaigns.ts';
import type { CampaignDoc, RunDoc, WorkerDoc } from './store/documents.ts';
import { campaignRateKey, messengerRateKey } from './store/rates.ts';
import { latestRuns } from './store/runs.ts';
import { countQuarantined, readZonesLeft, type ZoneCount } from './store/standing.ts';
import type { Store } from './store/store.ts';

export interface WhyOptions extends StandingReadsOptions {
  readonly serverNow: () => Date;
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
  const { facts, run: open } = await readFacts(options, campaign);
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
    estimatedEnd: sends ? estimatedEnd(run, progress, rate, await zonesLeft(store, run), now) : null,
  };
}

interface Read {
  readonly facts: StandingFacts;
  readonly run: RunHead | undefined;
}

/** `reads`: shared by those that are read together. */
export async function readFacts(
  options: WhyOptions,
  campaign: CampaignDoc,
  reads = standingReads(options),
): Promise<Read> {
  const { store, serverNow } = options;
  // Another program's document may lack anything.
  const openRuns = Array.isArray(campaign.openRuns) ? campaign.openRuns : [];
  const first = isForeign(campaign) ? undefined : openRuns[0];
  const [alarm, workers, run, attempts, quarantined, breaker] = await Promise.all([
    reads.alarm(campaign._id.toHexString()),
    reads.workers(),
    first === undefined ? undefined : reads.run(first.runId),
    first === undefined ? undefined : reads.attempts(first.runId),
    first === undefined && campaign.status === 'completed' ? leftAside(store, campaign) : 0,
    isHeldByBreaker(campaign) ? reads.breaker(campaign.messenger).then(breakerFacts) : undefined,
  ]);
  const runFacts = run === undefined ? undefined : await readRunFacts(campaign, run, attempts, reads);
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
    workers: workers.map(liveWorker),
    quarantined,
    openRuns: openRuns.length,
    run: runFacts,
  };
  return { facts, run };
}

/** Whom the latest run put aside. */
async function leftAside(store: Store, campaign: CampaignDoc): Promise<number> {
  const [run] = await latestRuns(store, campaign._id, undefined, 1);
  return run === undefined || run.report?.unknown === 0 ? 0 : countQuarantined(store, sizeOf(run));
}

/** Undefined: as good as closed. */
function breakerFacts(read: ReadBreaker | undefined): BreakerFacts | undefined {
  const breaker = read && breakerOf(read.document, read.now);
  if (breaker?.state !== 'open') return breaker && { state: breaker.state };
  const { state, nextProbeAt, manual } = breaker;
  return manual === undefined
    ? { state, nextProbeAt: new Date(nextProbeAt) }
    : { state, openedBy: manual.by };
}

function liveWorker({ _id, messengers, sources, resting = [] }: WorkerDoc): LiveWorker {
  return { id: _id, messengers: messengers.map(({ name }) => name), sources, resting };
}

async function readRunFacts(
  campaign: CampaignDoc,
  run: RunHead,
  attempts: FreezingAttempts | undefined,
  reads: StandingReads,
): Promise<RunFacts> {
  const { messenger, limits, audience, audienceId } = run;
  const keys = {
    campaign: campaignRateKey(campaign._id.toHexString()),
    messenger: messengerRateKey(messenger),
  };
  const { window } = limits;
  const perRecipient = window?.timezone === RECIPIENT_ZONE && audienceId !== undefined;
  const [workers, pages, ofCampaign, ofMessenger, others, zones] = await Promise.all([
    reads.workers(),
    reads.pages(sizeOf(run)),
    reads.bucket(keys.campaign),
    reads.bucket(keys.messenger),
    reads.others({ id: campaign._id, messenger, priority: campaign.priority }),
    perRecipient ? reads.zones(sizeOf(run)) : undefined,
  ]);
  return {
    status: run.status,
    isNewer: isNewer(run),
    orderNo: run.orderNo,
    messenger,
    source: 'source' in audience ? audience.source : undefined,
    freezing: attempts === undefined ? undefined : freezingFacts(run, attempts),
    pages,
    window,
    zones: zones ?? [],
    rates: [
      { scope: 'campaign', rate: limits.rate, bucket: ofCampaign?.bucket },
      {
        scope: 'messenger',
        rate: messengerRate(workers, messenger),
        bucket: ofMessenger?.bucket,
      },
    ],
    others,
  };
}

/** The limit of the workers that have it; none where one of them sends without. The bucket only knows what once was. */
function messengerRate(workers: readonly WorkerDoc[], messenger: string): Rate | undefined {
  const rates = workers
    .flatMap(({ messengers }) => messengers.filter(({ name }) => name === messenger))
    .map(({ rate }) => rate);
  return rates.includes(undefined) ? undefined : rates[0];
}

function freezingFacts(run: RunHead, { latest, number, failed }: FreezingAttempts): FreezingFacts {
  return {
    attempt: number,
    state: latest.state,
    failures: failed.filter((attempt) => attempt > run.freezeBase).length,
    error: latest.error,
    touchedAt: latest.touchedAt,
    workerId: latest.lease.workerId,
  };
}

/** Of a window in each recipient's own zone: who is left, where that is known for everybody. */
async function zonesLeft(store: Store, run: RunHead): Promise<readonly ZoneCount[] | undefined> {
  const { audienceId, limits, pages = 0 } = run;
  if (limits.window?.timezone !== RECIPIENT_ZONE || audienceId === undefined) return undefined;
  const left = await readZonesLeft(store, { runId: run._id, audienceId, pages });
  return left.whole ? left.zones : undefined;
}

function estimatedEnd(
  run: RunHead,
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
