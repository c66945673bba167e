/**
 * How a campaign is, in one word. Pure: facts in, the word and a sentence out. Invariant: what waits as it should (for its
 * hours, a token, a retry, its turn, a person) is never stale, however long it waits; and a crash is told only until somebody
 * else goes on.
 */
import type { CampaignStatus } from './campaign-machine.ts';
import type { ReasonCode, Standing } from './standing.ts';

export const HEALTH_WORDS = [
  'RUNNING',
  'HEALTHY',
  'WARNING',
  'STALE',
  'COMPLETE',
  'CRASHED',
  'FAILED',
  'TERMINATED',
  'INTERRUPTED',
  'UNKNOWN',
] as const;
export type HealthWord = (typeof HEALTH_WORDS)[number];

/** What became of the worker that gave the run's last sign of life. `gone`: it ended, or is silent, and did not say why. */
export type LastWorker = 'alive' | 'gone' | 'stopped' | 'crashed' | 'none';

export interface HealthFacts {
  readonly now: Date;
  readonly status: CampaignStatus;
  readonly standing: Standing;
  /** It has a run whose books are open. */
  readonly hasRun: boolean;
  readonly lastWorker: LastWorker;
  /** The last sign of life of its run, and who gave it. */
  readonly heartbeat: { readonly at: Date; readonly workerId: string } | undefined;
  readonly crash: { readonly at: Date; readonly workerId: string; readonly error: string } | undefined;
  /**
   * Instants from which on it should have moved: its last change, its due time, the opening of its run or window, a retry
   * that fell due, the last progress of a living worker that holds pages of it.
   */
  readonly since: readonly Date[];
  /** The time between two tokens of the slower rate that it sends with, ms. */
  readonly tokenMs: number;
  readonly settled: number;
  /** Failed and unknown ones. */
  readonly errors: number;
}

export interface HealthLimits {
  readonly staleAfterMs: number;
  /** A larger share of failed and unknown ones among all settled is a warning. */
  readonly failureRate: number;
  /** But not before so many are settled. */
  readonly failureMinimum: number;
}

export interface HealthVerdict {
  readonly health: HealthWord;
  /** For people, in English. */
  readonly message: string;
}

/** Nobody and nothing here will make it go on: somebody has to look. */
const TROUBLE: ReadonlySet<ReasonCode> = new Set<ReasonCode>([
  'no_worker',
  'no_worker_for_source',
  'no_worker_for_messenger',
  'alarm_missing',
  'overdue',
  'no_time',
  'no_run',
  'freezing_lost',
  'freezing_retry',
  'taking_over',
  'messenger_resting',
  'parked',
]);

/** It waits as it should, until a known end or for a person: never stale. */
const WAITING: ReadonlySet<ReasonCode> = new Set<ReasonCode>([
  'draft',
  'paused',
  'scheduled',
  'next_occurrence',
  'window_closed',
  'rate',
  'messenger_resting',
  'retry_at',
  'freezing_retry',
  'parked',
]);

export function judgeHealth(facts: HealthFacts, limits: HealthLimits): HealthVerdict {
  const { status, standing } = facts;
  const { code, message } = standing;
  if (code === 'not_adopted' || code === 'newer_version') return { health: 'UNKNOWN', message };
  switch (status) {
    case 'completed':
      return { health: 'COMPLETE', message };
    case 'cancelled':
      return { health: 'TERMINATED', message };
    case 'failed':
      return { health: 'FAILED', message };
    case 'paused':
      return { health: 'INTERRUPTED', message };
    case 'draft':
      return { health: 'HEALTHY', message };
    case 'scheduled':
    case 'processing':
      return ofMoving(facts, limits);
  }
}

function ofMoving(facts: HealthFacts, limits: HealthLimits): HealthVerdict {
  const { standing, hasRun, lastWorker } = facts;
  const { code, message } = standing;
  const crash = hasRun ? openCrash(facts) : undefined;
  if (crash !== undefined) return { health: 'CRASHED', message: `${crash} ${message}` };
  if (hasRun && code === 'no_worker' && lastWorker === 'stopped') {
    return { health: 'INTERRUPTED', message: `Its workers were stopped in the middle. ${message}` };
  }
  const silentMs = silence(facts);
  if (isExpectedToMove(standing) && silentMs > limits.staleAfterMs + facts.tokenMs) {
    return { health: 'STALE', message: `No sign of life for ${minutes(silentMs)}. ${message}` };
  }
  if (TROUBLE.has(code)) return { health: 'WARNING', message };
  const { settled, errors } = facts;
  if (settled >= limits.failureMinimum && errors > settled * limits.failureRate) {
    const share = Math.round((100 * errors) / settled);
    const told = `${errors} of ${settled} recipients failed or are unknown (${share} %).`;
    return { health: 'WARNING', message: `${told} ${message}` };
  }
  return { health: standing.moving ? 'RUNNING' : 'HEALTHY', message };
}

/** The words of a crash after which nobody has gone on. */
function openCrash({ crash, heartbeat, lastWorker, standing }: HealthFacts): string | undefined {
  if (standing.code === 'sending' || standing.code === 'closing') {
    const others = standing.code === 'closing' || standing.workers.some((id) => id !== crash?.workerId);
    if (others || lastWorker === 'alive') return undefined;
  }
  if (crash !== undefined) {
    const goneOn = heartbeat !== undefined && heartbeat.at > crash.at;
    const byItself = heartbeat?.workerId === crash.workerId && lastWorker !== 'alive';
    if (!goneOn || byItself) return `A worker ended by an error: ${crash.error.replace(/\.$/, '')}.`;
    return undefined;
  }
  const stands = standing.code === 'no_worker' || standing.code === 'taking_over';
  if (!stands || (lastWorker !== 'gone' && lastWorker !== 'crashed')) return undefined;
  return 'The worker that sent it ended without a word.';
}

function isExpectedToMove(standing: Standing): boolean {
  if (standing.code === 'waiting_for_turn') return standing.ahead.length === 0 && standing.beside === 0;
  return !WAITING.has(standing.code);
}

function silence({ now, heartbeat, since }: HealthFacts): number {
  const signs = [...since, ...(heartbeat === undefined ? [] : [heartbeat.at])].map((sign) => sign.getTime());
  return Math.max(0, now.getTime() - Math.max(0, ...signs));
}

function minutes(ms: number): string {
  const whole = Math.floor(ms / 60_000);
  return whole < 120 ? `${whole} min` : `${Math.floor(whole / 60)} h`;
}
