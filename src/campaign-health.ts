/**
 * Looks at the health of one campaign, or of all that are not final, a page at a time: reads the facts in few round trips
 * for all of them together and lets `core/campaign-health.ts` say what they mean. Invariant: reads only.
 */
import {
  type HealthFacts,
  type HealthLimits,
  type HealthVerdict,
  judgeHealth,
  type LastWorker,
} from './core/campaign-health.ts';
import type { CampaignStatus } from './core/campaign-machine.ts';
import type { Checkpoint } from './core/checkpoint.ts';
import { settledCount } from './core/ledger-page.ts';
import { isPlainObject } from './core/plain-data.ts';
import { spacingMs } from './core/rate.ts';
import { windowAt, zoneOf } from './core/send-window.ts';
import type { Standing, StandingFacts } from './core/standing.ts';
import { explainStanding } from './core/why.ts';
import { anyCampaign } from './existing-campaign.ts';
import { expectation, integerProblems, refuseProblems, unknownKeyProblems } from './input-checks.ts';
import { type RunHead, standingReads } from './standing-reads.ts';
import { type Alert, alertsOfCampaigns } from './store/alerts.ts';
import { campaignsInStatus, parseId } from './store/campaigns.ts';
import type { CampaignDoc, CrashDoc, RunHeartbeatDoc, WorkerDoc } from './store/documents.ts';
import { latestRuns } from './store/runs.ts';
import { readWorkers } from './store/workers.ts';
import { readFacts, type WhyOptions } from './why.ts';
import { processAlive } from './worker-list.ts';

export interface CampaignHealthOptions extends WhyOptions {
  readonly limits: HealthLimits;
}

export interface CampaignHealth extends HealthVerdict {
  readonly campaign: { readonly id: string; readonly name: string; readonly status: CampaignStatus };
  /** Why it is, or is not, moving. */
  readonly reason: Standing;
  /** Of its open run, else of the latest; null: it has not begun, or not for long enough. */
  readonly heartbeat: (RunHeartbeatDoc & { readonly ageMs: number }) | null;
  /** Who gave that heartbeat; null where it is not known any more. */
  readonly worker: {
    readonly id: string;
    readonly host: string;
    readonly pid: number;
    /** It gives signs of life, and its process has not ended. */
    readonly alive: boolean;
    /** Does its process exist? Null: it is of another machine. */
    readonly processAlive: boolean | null;
  } | null;
  readonly checkpoint: Checkpoint | null;
  /** The last error that ended a worker while it held pages of the run. */
  readonly crash: CrashDoc | null;
  /** At most five, the latest raised first; of a list only those that are raised now. */
  readonly alerts: readonly Alert[];
  /** When this was true, by the server's time. */
  readonly at: Date;
}

export interface CampaignHealthList {
  readonly campaigns: readonly CampaignHealth[];
  /** Give it to the next call as `after`; absent: that was all. */
  readonly next?: string;
}

export interface ListHealthOptions {
  /** 1 to 1000. Default: 100. */
  readonly limit?: number | undefined;
  /** `next` of the answer before. */
  readonly after?: string | undefined;
}

const NOT_FINAL = ['draft', 'scheduled', 'processing', 'paused'] as const satisfies CampaignStatus[];
const LIST_KEYS = ['limit', 'after'];
const REFUSED = 'The health of campaigns cannot be looked at';
const MAX_LISTED = 1_000;
const ALERTS_SHOWN = 5;

/** @throws CampaignSchedulerError `not_found`. */
export async function campaignHealth(options: CampaignHealthOptions, id: string): Promise<CampaignHealth> {
  const { store } = options;
  const campaign = await anyCampaign(store, id);
  const [health] = await healthOf(options, [campaign], async () => {
    return (await latestRuns(store, campaign._id, undefined, 1))[0];
  });
  return health as CampaignHealth;
}

/** Campaigns that are not final, in the order of creation. @throws ValidationError `invalid_options`. */
export async function campaignsHealth(
  options: CampaignHealthOptions,
  asked: ListHealthOptions,
): Promise<CampaignHealthList> {
  if (!isPlainObject(asked as unknown)) {
    const what = 'the id of a campaign, or an object with named values for a list';
    refuseProblems(REFUSED, [{ path: '(input)', message: expectation('campaignId', what, asked) }]);
  }
  const { limit = 100, after } = asked;
  const position = after === undefined ? undefined : parseId(String(after));
  const problems = integerProblems('limit', limit, 1, MAX_LISTED);
  if (after !== undefined && position === undefined) {
    problems.push({ path: 'after', message: expectation('after', 'the id of a campaign', after) });
  }
  problems.push(...unknownKeyProblems(asked, LIST_KEYS));
  refuseProblems(REFUSED, problems);
  const found = await campaignsInStatus(options.store, NOT_FINAL, position, limit + 1);
  const shown = found.slice(0, limit);
  const campaigns = await healthOf(options, shown, async () => undefined);
  const last = shown.at(-1);
  return {
    campaigns,
    ...(found.length > limit && last !== undefined ? { next: last._id.toHexString() } : {}),
  };
}

/** `otherwise`: the run to tell of where none is open. */
async function healthOf(
  options: CampaignHealthOptions,
  campaigns: readonly CampaignDoc[],
  otherwise: () => Promise<RunHead | undefined>,
): Promise<CampaignHealth[]> {
  const { store, limits } = options;
  const reads = standingReads(options);
  const ids = campaigns.map(({ _id }) => _id.toHexString());
  const isOne = campaigns.length === 1;
  const [read, alive, alerts] = await Promise.all([
    Promise.all(
      campaigns.map(async (campaign) => {
        const { facts, run: open } = await readFacts(options, campaign, reads);
        return { campaign, facts, open, run: open ?? (await otherwise()) };
      }),
    ),
    reads.workers(),
    alertsOfCampaigns(store, ids, isOne ? undefined : 'raised', isOne ? ALERTS_SHOWN : MAX_LISTED),
  ]);
  const named = new Set(read.flatMap(({ facts, run }) => lastWorkerId(facts, run) ?? []));
  const workers = new Map((await readWorkers(store, [...named])).map((worker) => [worker._id, worker]));
  const living = new Map(alive.map((worker) => [worker._id, worker]));
  return read.map(({ campaign, facts, open, run }): CampaignHealth => {
    const standing = explainStanding(facts);
    const id = campaign._id.toHexString();
    const verdict = judgeHealth(
      healthFacts({ campaign, facts, standing, open, workers, living }, limits),
      limits,
    );
    const worker = workers.get(run?.heartbeat?.workerId ?? '');
    return {
      ...verdict,
      campaign: { id, name: campaign.name, status: campaign.status },
      reason: standing,
      heartbeat: heartbeatView(run, facts.now),
      worker:
        worker === undefined
          ? null
          : {
              id: worker._id,
              host: worker.host,
              pid: worker.pid,
              alive: living.has(worker._id),
              processAlive: processAlive(worker),
            },
      checkpoint: run?.checkpoint ?? null,
      crash: run?.crash ?? null,
      alerts: alerts.filter(({ campaignId }) => campaignId === id).slice(0, ALERTS_SHOWN),
      at: facts.now,
    };
  });
}

function heartbeatView(run: RunHead | undefined, now: Date): CampaignHealth['heartbeat'] {
  if (run?.heartbeat === undefined) return null;
  const { at, recipient = null } = run.heartbeat;
  return { ...run.heartbeat, recipient, ageMs: Math.max(0, now.getTime() - at.getTime()) };
}

/** Who held pages of it last, as far as that is known: whoever holds some and is gone counts first. */
function lastWorkerId({ run, workers }: StandingFacts, head: RunHead | undefined): string | undefined {
  const lost = run?.pages.claims.find((claim) => !workers.some(({ id }) => id === claim.workerId));
  return lost?.workerId ?? head?.heartbeat?.workerId;
}

interface Looked {
  readonly campaign: CampaignDoc;
  readonly facts: StandingFacts;
  readonly standing: Standing;
  readonly open: RunHead | undefined;
  readonly workers: ReadonlyMap<string, WorkerDoc>;
  readonly living: ReadonlyMap<string, WorkerDoc>;
}

function healthFacts(looked: Looked, { staleAfterMs }: HealthLimits): HealthFacts {
  const { campaign, facts, standing, open } = looked;
  const counts = facts.run?.pages.counts;
  return {
    now: facts.now,
    status: campaign.status,
    standing,
    hasRun: facts.openRuns > 0,
    lastWorker: lastWorkerOf(looked),
    heartbeat: open?.heartbeat,
    crash: open?.crash,
    since: signsOf(looked, staleAfterMs),
    tokenMs: Math.max(0, ...(facts.run?.rates ?? []).map(({ rate }) => (rate ? spacingMs(rate) : 0))),
    settled: counts === undefined ? 0 : settledCount(counts),
    errors: counts === undefined ? 0 : counts.failed + counts.unknown,
  };
}

function lastWorkerOf({ facts, open, workers, living }: Looked): LastWorker {
  const id = lastWorkerId(facts, open);
  if (id === undefined) return 'none';
  if (living.has(id)) return 'alive';
  const state = workers.get(id)?.state;
  if (state === 'crashed') return 'crashed';
  return state === 'stopped' || state === 'stopping' ? 'stopped' : 'gone';
}

/** Instants from which on it should have moved. */
function signsOf({ campaign, facts, open, living }: Looked, staleAfterMs: number): Date[] {
  const { now, run } = facts;
  const before = new Date(now.getTime() - staleAfterMs);
  const signs: (Date | null | undefined)[] = [
    campaign.updatedAt,
    campaign.nextRunAt,
    open?.openedAt,
    run?.freezing?.touchedAt,
    run?.pages.dueAt,
    ...(run?.rates ?? []).map(({ bucket }) => new Date(bucket?.blockedUntil ?? 0)),
    ...(run?.pages.claims ?? []).map(({ workerId }) => living.get(workerId)?.lastProgressAt),
  ];
  if (run?.window !== undefined) {
    const { window, zones } = run;
    for (const zone of new Set(
      (zones.length === 0 ? [undefined] : zones).map((own) => zoneOf(window, own)),
    )) {
      const was = windowAt(window, zone, before);
      if (!was.open) signs.push(was.opensAt);
    }
  }
  return signs.filter((sign): sign is Date => sign instanceof Date && sign <= now);
}
