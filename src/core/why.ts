/**
 * Why a campaign is, or is not, moving right now. Pure: facts in, one reason out. Invariant: every combination of facts has
 * a reason; what is told first is what has to end first before anything moves. It follows the order in which the engine
 * itself decides: the campaign's status, its alarm, the audience, orders, pages.
 */
import { isHeldByBreaker } from './campaign-machine.ts';
import { freezeRetryMs, MAX_FREEZE_ATTEMPTS } from './freezing.ts';
import { takeBlock } from './rate.ts';
import { windowAt, zoneOf } from './send-window.ts';
import type { PageFacts, Reason, ReasonCode, RunFacts, Standing, StandingFacts } from './standing.ts';
import { inWords } from './why-words.ts';

/** A due campaign begins within this time where everything is well, ms. */
const BEGINS_WITHIN_MS = 15_000;
/** Tokens that come faster than this are no reason to stand still, ms. */
const STANDS_STILL_MS = 1_000;
/** A messenger that failed in a worker is tried again after this at the latest, ms. */
const LONGEST_REST_MS = 60_000;
const MAX_NAMED = 5;

const MOVING: ReadonlySet<ReasonCode> = new Set([
  'opening',
  'rule_ended',
  'freezing',
  'applying_orders',
  'sending',
  'settling',
  'closing',
]);

/** Never without an answer. */
export function explainStanding(facts: StandingFacts): Standing {
  const reason = reasonOf(facts);
  return { ...reason, message: inWords(reason, facts.now), moving: MOVING.has(reason.code) };
}

function reasonOf(facts: StandingFacts): Reason {
  const { origin, campaign, openRuns, quarantined } = facts;
  if (origin === 'foreign') return { code: 'not_adopted' };
  if (origin === 'newer') return { code: 'newer_version' };
  switch (campaign.status) {
    case 'draft':
      return { code: 'draft' };
    case 'paused':
      return isHeldByBreaker(campaign) ? ofBreaker(facts) : { code: 'paused', ...acted(facts) };
    case 'scheduled':
      return openRuns > 0 ? ofRun(facts) : ofAlarm(facts);
    case 'processing':
      return openRuns > 0 ? ofRun(facts) : { code: 'no_run' };
    case 'completed':
      if (openRuns > 0) return ofOrders(facts);
      return quarantined > 0 ? { code: 'quarantined', recipients: quarantined } : { code: 'completed' };
    case 'cancelled':
      return openRuns > 0 ? ofOrders(facts) : { code: 'cancelled', ...acted(facts) };
    case 'failed': {
      // Its run stays open, so that a person can resume it; what else happens there is orders.
      const busy = facts.run !== undefined && facts.run.status !== 'freezing';
      return busy ? ofOrders(facts) : { code: 'failed', ...acted(facts) };
    }
  }
}

function acted({ campaign: { statusReason } }: StandingFacts): {
  by?: string;
  since?: Date;
  detail?: string;
} {
  if (statusReason === undefined) return {};
  const { by, at, detail } = statusReason;
  return { by, since: at, ...(detail === undefined ? {} : { detail }) };
}

/** Its messenger does not work. Without workers nobody will find out when it does. */
function ofBreaker(facts: StandingFacts): Reason {
  const { campaign, workers } = facts;
  const { messenger, breaker } = campaign;
  if (workers.length === 0) return { code: 'no_worker' };
  if (!workers.some(({ messengers }) => messengers.includes(messenger))) {
    return { code: 'no_worker_for_messenger', messenger };
  }
  const { since, detail } = acted(facts);
  const { state = 'closed', nextProbeAt, openedBy } = breaker ?? {};
  return {
    code: 'breaker_open',
    messenger,
    state,
    ...(since === undefined ? {} : { since }),
    ...(detail === undefined ? {} : { detail }),
    ...(nextProbeAt === undefined ? {} : { until: nextProbeAt }),
    ...(openedBy === undefined ? {} : { openedBy }),
  };
}

/** It has not begun: the alarm begins it. */
function ofAlarm({ now, campaign, alarm, workers }: StandingFacts): Reason {
  const at = campaign.nextRunAt;
  if (at === null) return campaign.isRecurring ? { code: 'rule_ended' } : { code: 'no_time' };
  if (at > now) return { code: campaign.isRecurring ? 'next_occurrence' : 'scheduled', until: at };
  if (workers.length === 0) return { code: 'no_worker' };
  const lateMs = now.getTime() - at.getTime();
  if (alarm === undefined || (alarm.ringsAt === null && alarm.lockedAt === null)) {
    return { code: 'alarm_missing', lateMs };
  }
  if (alarm.lockedAt !== null) {
    if (workers.some(({ id }) => id === alarm.heldBy)) return { code: 'opening' };
    return { code: 'overdue', lateMs, ...(alarm.heldBy === null ? {} : { heldBy: alarm.heldBy }) };
  }
  if (alarm.ringsAt !== null && alarm.ringsAt > now) return { code: 'overdue', lateMs, until: alarm.ringsAt };
  return lateMs <= BEGINS_WITHIN_MS ? { code: 'opening' } : { code: 'overdue', lateMs };
}

/** A run of a campaign that is to send. */
function ofRun(facts: StandingFacts): Reason {
  const { run, campaign, workers } = facts;
  if (workers.length === 0) return { code: 'no_worker' };
  if (run === undefined) return { code: 'opening' };
  if (run.isNewer) return { code: 'newer_version' };
  if (campaign.orderNo > run.orderNo) return { code: 'applying_orders', pages: run.pages.behind };
  if (run.status === 'freezing') return ofFreezing(facts, run);
  if (run.status !== 'sending') return ofOrders(facts);
  return ofSending(facts, run);
}

function ofFreezing({ workers, now }: StandingFacts, run: RunFacts): Reason {
  const { source, freezing } = run;
  if (source === undefined) return { code: 'freezing', attempt: 1 };
  const lastError = freezing?.error === undefined ? {} : { lastError: freezing.error };
  if (!workers.some(({ sources }) => sources.includes(source))) {
    return { code: 'no_worker_for_source', source, ...lastError };
  }
  if (freezing === undefined) return { code: 'freezing_queued', attempt: 1, source };
  const { attempt, failures, workerId } = freezing;
  switch (freezing.state) {
    case 'ready':
      return { code: 'freezing', attempt, source };
    case 'freezing':
      if (!workers.some(({ id }) => id === workerId)) {
        return { code: 'freezing_lost', attempt, source, workerId };
      }
      return { code: 'freezing', attempt, source, workerId };
    case 'failed': {
      const until = new Date(freezing.touchedAt.getTime() + freezeRetryMs(failures));
      if (until <= now) return { code: 'freezing_queued', attempt: attempt + 1, source };
      return {
        code: 'freezing_retry',
        attempt,
        source,
        attemptsLeft: Math.max(0, MAX_FREEZE_ATTEMPTS - failures),
        lastError: freezing.error ?? 'no reason was recorded',
        until,
      };
    }
    case 'dead':
      return { code: 'freezing_queued', attempt: attempt + 1, source };
  }
}

function ofSending(facts: StandingFacts, run: RunFacts): Reason {
  const { workers, now, campaign } = facts;
  const { pages, messenger } = run;
  const having = workers.filter(({ messengers }) => messengers.includes(messenger));
  if (having.length === 0) {
    // Orders need no messenger.
    const busy = pages.behind > 0 || heldByLiving(facts, pages).length > 0;
    return busy ? ofOrders(facts) : { code: 'no_worker_for_messenger', messenger };
  }
  const unfinished = pages.pending + pages.waiting + pages.claimed;
  if (unfinished === 0) {
    if (pages.behind > 0 || pages.parked === 0) return ofOrders(facts);
    return { code: 'parked', pages: pages.parked };
  }
  const lost = lostHolders(facts, pages);
  if (lost !== undefined) return lost;
  const closed = closedWindow(run, now);
  if (closed !== undefined) return closed;
  const isDue = pages.dueAt !== null && pages.dueAt <= now;
  const isReady = pages.pending > 0 || pages.claimed > 0 || pages.behind > 0 || isDue;
  if (!isReady && pages.dueAt !== null) {
    // A sick messenger's recipients are tried again when it has rested; later retries have nothing to do with it.
    const isSoon = pages.dueAt.getTime() - now.getTime() <= LONGEST_REST_MS;
    const rest = isSoon ? (restOf(run, now) ?? localRest(having, messenger, now)) : undefined;
    if (rest !== undefined) return rest;
    return { code: 'retry_at', recipients: pages.counts.retrying, until: pages.dueAt };
  }
  const held = heldByLiving(facts, pages);
  const settling = settlingOnly(held);
  if (settling !== undefined && pages.pending === 0 && !isDue) return settling;
  const slowed = restOf(run, now) ?? localRest(having, messenger, now) ?? shortOfTokens(run, now);
  if (slowed !== undefined) return slowed;
  if (held.length > 0 && settling === undefined) {
    return { code: 'sending', pages: sum(held), workers: held.map(({ workerId }) => workerId) };
  }
  if (pages.newer > 0 && pages.newer >= pages.pending + pages.waiting) return { code: 'newer_version' };
  const { priority } = campaign;
  const ahead = run.others.filter((other) => other.priority > priority);
  const beside = run.others.filter((other) => other.priority === priority).length;
  return { code: 'waiting_for_turn', priority, ahead: ahead.slice(0, MAX_NAMED), beside };
}

/** A run that sends no more: orders are carried out, what was in flight is settled, the books are closed. */
function ofOrders(facts: StandingFacts): Reason {
  const { run, campaign, workers } = facts;
  if (workers.length === 0) return { code: 'no_worker' };
  if (run === undefined) return { code: 'opening' };
  if (run.isNewer) return { code: 'newer_version' };
  const { pages } = run;
  if (campaign.orderNo > run.orderNo) return { code: 'applying_orders', pages: pages.behind };
  const lost = lostHolders(facts, pages);
  if (lost !== undefined) return lost;
  const held = heldByLiving(facts, pages);
  const settling = settlingOnly(held);
  if (settling !== undefined && pages.behind === 0) return settling;
  if (pages.behind + sum(held) > 0) return { code: 'applying_orders', pages: pages.behind + sum(held) };
  return { code: 'closing' };
}

const sum = (claims: PageFacts['claims']): number => claims.reduce((count, { pages }) => count + pages, 0);

function heldByLiving({ workers }: StandingFacts, { claims }: PageFacts): PageFacts['claims'] {
  return claims.filter((claim) => workers.some(({ id }) => id === claim.workerId));
}

/** Every page that can be worked on is held by workers that are gone. */
function lostHolders(facts: StandingFacts, pages: PageFacts): Reason | undefined {
  const living = heldByLiving(facts, pages);
  const lost = pages.claims.filter((claim) => !living.includes(claim));
  const free = pages.pending + pages.behind + (pages.dueAt !== null && pages.dueAt <= facts.now ? 1 : 0);
  if (lost.length === 0 || living.length > 0 || free > 0) return undefined;
  return { code: 'taking_over', pages: sum(lost), workers: lost.map(({ workerId }) => workerId) };
}

/** All that living workers hold waits for an earlier holder's sends to end. */
function settlingOnly(held: PageFacts['claims']): Reason | undefined {
  if (held.length === 0 || held.some((claim) => claim.settling < claim.pages)) return undefined;
  const atMostMs = Math.max(...held.map(({ waitMs }) => waitMs));
  return { code: 'settling', pages: sum(held), atMostMs };
}

/** Closed for everybody who is left; `until` is when it opens for the first of them. */
function closedWindow({ window, zones }: RunFacts, now: Date): Reason | undefined {
  if (window === undefined) return undefined;
  let first: { until: Date; zone: string } | undefined;
  for (const zone of new Set((zones.length === 0 ? [undefined] : zones).map((own) => zoneOf(window, own)))) {
    const state = windowAt(window, zone, now);
    if (state.open) return undefined;
    if (first === undefined || state.opensAt < first.until) first = { until: state.opensAt, zone };
  }
  return first === undefined ? undefined : { code: 'window_closed', ...first };
}

/** The provider asked for a rest, which holds on every server. */
function restOf({ rates, messenger }: RunFacts, now: Date): Reason | undefined {
  const untilMs = Math.max(0, ...rates.map(({ bucket }) => bucket?.blockedUntil ?? 0));
  if (untilMs <= now.getTime()) return undefined;
  return { code: 'messenger_resting', messenger, everywhere: true, until: new Date(untilMs) };
}

/** The messenger failed in every worker that has it; each tries one recipient at a time until one succeeds. */
function localRest(having: StandingFacts['workers'], messenger: string, now: Date): Reason | undefined {
  const rests = having.flatMap(({ resting }) => resting.filter((rest) => rest.messenger === messenger));
  if (rests.length < having.length) return undefined;
  const until = new Date(Math.min(...rests.map((rest) => rest.until.getTime())));
  return { code: 'messenger_resting', messenger, everywhere: false, ...(until > now ? { until } : {}) };
}

/** The later of the two buckets counts: a send needs a token of each. */
function shortOfTokens({ rates }: RunFacts, now: Date): Reason | undefined {
  let latest: Reason | undefined;
  let latestMs = STANDS_STILL_MS;
  for (const { scope, rate, bucket } of rates) {
    if (rate === undefined) continue;
    const { firstInMs } = takeBlock(bucket, rate, now.getTime(), 1).grant;
    if (firstInMs <= latestMs) continue;
    latestMs = firstInMs;
    latest = { code: 'rate', scope, rate, until: new Date(Math.ceil(now.getTime() + firstInMs)) };
  }
  return latest;
}
