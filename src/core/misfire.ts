/**
 * What the alarm of a recurring campaign does when it rings. Pure: the rule, what the campaign has done so far and the
 * time in, one plan out, which the caller applies in one guarded write and then rings again at `next.ringAt`.
 *
 * Invariants: a plan opens at most one run; every occurrence is opened or reported as skipped, once, in order; the next
 * nominal instant follows from the one before it and never from the time of the ringing; years of missed seconds cost a
 * bounded number of steps, whatever the policy.
 */
import { countOccurrences, jitterOf, nextOccurrence, previousOccurrence } from './recurrence.ts';
import type { Recurrence } from './recurrence-rule.ts';

/** An occurrence that is later than this was missed; up to this, the alarm was only a little late. In ms. */
export const ON_TIME_MS = 60_000;
/**
 * Skipped occurrences are counted up to here; beyond, the count is "at least". Counting takes some 10 µs each, and after
 * a long downtime many campaigns are late together.
 */
export const MAX_COUNTED = 1_000;
/**
 * Runs that may wait for the one before them; a campaign's document holds them all. By a rule so many wait only where every
 * occurrence is wanted (`misfire: 'all'`), else one does.
 */
export const MAX_QUEUED_RUNS = 100;

export interface RecurringSituation {
  readonly rule: Recurrence;
  /** The nominal instant that was opened or skipped last; the time of the change after a change of the rule. */
  readonly lastNominal: Date | null;
  /** The nominal instant the alarm was set to, if it is known. */
  readonly nextNominal: Date | null;
  readonly now: Date;
  /** Runs of the campaign that send or will, the queued ones among them. */
  readonly openRuns: number;
  /** Those of them that wait for an earlier one. */
  readonly queuedRuns: number;
  /** Runs opened so far, for `maxRuns`. */
  readonly runsSoFar: number;
  /** What the jitter is drawn from: the campaign's id. */
  readonly jitterKey: string;
  /** In ms. Default: `ON_TIME_MS`. */
  readonly onTimeMs?: number | undefined;
}

/**
 * - `missed`: late, and the policy is `skip`.
 * - `too-late`: later than `misfireWindowMs`.
 * - `coalesced`: one later occurrence runs for all of them (`once`).
 * - `overlap`: an earlier run was open, and `overlap` is `skip`, or `queue` and another run waits for it already.
 * - `queue-full`: every occurrence is wanted, but `MAX_QUEUED_RUNS` are waiting already (`queue` with misfire `all`).
 * - `rule-changed`: it was due when a person gave the campaign another rule.
 */
export type SkipReason = 'missed' | 'too-late' | 'coalesced' | 'overlap' | 'queue-full' | 'rule-changed';

/** Occurrences in a row that were not run for one reason. */
export interface SkippedOccurrences {
  readonly reason: SkipReason;
  readonly first: Date;
  readonly last: Date;
  readonly count: number;
  /** There were more than `count`. */
  readonly atLeast: boolean;
}

export interface NextOccurrence {
  readonly nominal: Date;
  /** When the alarm rings for it: the nominal instant and the jitter. It may be past already. */
  readonly ringAt: Date;
}

export interface OpenOccurrence {
  readonly nominal: Date;
  /** How long after its nominal instant and jitter. */
  readonly lateMs: number;
  /** Occurrences this run stands for beside its own (`once`). */
  readonly missed: number;
  /** There were more than `missed`. */
  readonly missedAtLeast: boolean;
  /** It waits until the runs before it have left `openRuns`. */
  readonly queued: boolean;
}

export type OccurrencePlan =
  /** Open this run. `lastNominal` is its nominal instant. `next` is `null` when the rule has ended with it. */
  | {
      readonly action: 'open';
      readonly open: OpenOccurrence;
      readonly skipped: readonly SkippedOccurrences[];
      readonly lastNominal: Date;
      readonly next: NextOccurrence | null;
    }
  /** Nothing to run, but time has passed: record what was skipped and go on. */
  | {
      readonly action: 'skip';
      readonly skipped: readonly SkippedOccurrences[];
      readonly lastNominal: Date;
      readonly next: NextOccurrence | null;
    }
  /** Nothing to record. `due`: ring at `next.ringAt`. `run-closed`: ring when the open run is closed. */
  | { readonly action: 'wait'; readonly until: 'due' | 'run-closed'; readonly next: NextOccurrence }
  /** Nothing comes any more. */
  | { readonly action: 'ended' };

/**
 * The plan for one ringing of the alarm:
 *
 * 1. Nothing is due: wait.
 * 2. The oldest due occurrence is at most `onTimeMs` late: that is no misfire, it runs, and the next ones after it.
 * 3. It is later: `once` runs the latest that is due and coalesces the others into it; `skip` skips all that are late and
 *    runs the first that is not; `all` runs the oldest that is within the window, and the others one after another.
 * 4. Another run is open: `queue` opens it to wait where none waits yet (with misfire `all`: up to `MAX_QUEUED_RUNS`),
 *    else all that are due are skipped. Occurrences that `all` catches up with are not lost to a run that is open, which
 *    may well be the catch-up before them: they wait for it.
 */
export function decideOccurrences(situation: RecurringSituation): OccurrencePlan {
  const { rule, now, runsSoFar } = situation;
  if (rule.maxRuns !== null && runsSoFar >= rule.maxRuns) return { action: 'ended' };
  const oldest = oldestNotDone(situation);
  if (oldest === null) return { action: 'ended' };
  const jitterMs = jitterOf(rule, situation.jitterKey);
  const onTimeMs = situation.onTimeMs ?? ON_TIME_MS;
  const lateMs = (nominal: Date): number => now.getTime() - nominal.getTime() - jitterMs;
  if (lateMs(oldest) < 0) return { action: 'wait', until: 'due', next: ringing(oldest, jitterMs) };

  const isMisfire = lateMs(oldest) > onTimeMs;
  const plan = isMisfire
    ? afterMisfire(situation, oldest, jitterMs, onTimeMs)
    : { nominal: oldest, skipped: [] };
  const { nominal, skipped } = plan;
  if (nominal === null) return skipping(rule, skipped, jitterMs);
  const overlap = overlapOf(situation);
  if (overlap !== undefined) {
    const isCatchUp = rule.misfire === 'all' && lateMs(nominal) > onTimeMs;
    return heldUp(situation, overlap, { nominal, skipped, isCatchUp }, jitterMs);
  }
  const coalesced = skipped.find(({ reason }) => reason === 'coalesced');
  const isLast = rule.maxRuns !== null && runsSoFar + 1 >= rule.maxRuns;
  return {
    action: 'open',
    open: {
      nominal,
      lateMs: lateMs(nominal),
      missed: coalesced?.count ?? 0,
      missedAtLeast: coalesced?.atLeast ?? false,
      queued: situation.openRuns > 0,
    },
    skipped,
    lastNominal: nominal,
    next: isLast ? null : nextAfter(rule, nominal, jitterMs),
  };
}

/** Why no further run may be opened beside those that are open; `undefined`: one may. */
function overlapOf({ rule, openRuns, queuedRuns }: RecurringSituation): 'overlap' | 'queue-full' | undefined {
  if (openRuns === 0) return undefined;
  if (rule.overlap === 'skip') return 'overlap';
  if (rule.misfire === 'all') return queuedRuns < MAX_QUEUED_RUNS ? undefined : 'queue-full';
  return queuedRuns === 0 ? undefined : 'overlap';
}

/** What becomes of an occurrence that was to run, and of all others that are due, when open runs are in its way. */
function heldUp(
  { rule, now }: RecurringSituation,
  reason: 'overlap' | 'queue-full',
  due: { nominal: Date; skipped: readonly SkippedOccurrences[]; isCatchUp: boolean },
  jitterMs: number,
): OccurrencePlan {
  const { nominal, skipped, isCatchUp } = due;
  if (isCatchUp && skipped.length > 0) return skipping(rule, skipped, jitterMs);
  if (isCatchUp) return { action: 'wait', until: 'run-closed', next: ringing(nominal, jitterMs) };
  // Where the latest was to run for others as well, they share its fate.
  const coalesced = skipped.find((one) => one.reason === 'coalesced');
  const others = skipped.filter((one) => one !== coalesced);
  const last = latestUntil(rule, nominal, now.getTime() - jitterMs);
  return skipping(rule, [...others, range(rule, reason, coalesced?.first ?? nominal, last)], jitterMs);
}

/** What is skipped, and which occurrence runs, when the oldest that is due was missed. */
function afterMisfire(
  { rule, now }: RecurringSituation,
  oldest: Date,
  jitterMs: number,
  onTimeMs: number,
): { nominal: Date | null; skipped: SkippedOccurrences[] } {
  const dueUntilMs = now.getTime() - jitterMs;
  // What is on time is never too late, however short the window.
  const windowMs = Math.max(rule.misfireWindowMs ?? Number.POSITIVE_INFINITY, onTimeMs);
  switch (rule.misfire) {
    case 'once': {
      const latest = latestUntil(rule, oldest, dueUntilMs);
      if (dueUntilMs - latest.getTime() > windowMs) {
        return { nominal: null, skipped: [range(rule, 'too-late', oldest, latest)] };
      }
      if (latest <= oldest) return { nominal: latest, skipped: [] };
      const last = previousOccurrence(rule, latest);
      const end = last === null || last < oldest ? oldest : last;
      return { nominal: latest, skipped: [range(rule, 'coalesced', oldest, end)] };
    }
    case 'skip':
      return skipUntil(rule, 'missed', oldest, dueUntilMs, onTimeMs);
    case 'all':
      return skipUntil(rule, 'too-late', oldest, dueUntilMs, windowMs);
  }
}

/** Skips what is later than `limitMs`; the first that is due and is not runs. */
function skipUntil(
  rule: Recurrence,
  reason: SkipReason,
  oldest: Date,
  dueUntilMs: number,
  limitMs: number,
): { nominal: Date | null; skipped: SkippedOccurrences[] } {
  if (dueUntilMs - oldest.getTime() <= limitMs) return { nominal: oldest, skipped: [] };
  const last = latestUntil(rule, oldest, dueUntilMs - limitMs - 1);
  const next = nextOccurrence(rule, last);
  const isDue = next !== null && next.getTime() <= dueUntilMs;
  return { nominal: isDue ? next : null, skipped: [range(rule, reason, oldest, last)] };
}

/** The alarm's own instant where it is known and not done yet; the occurrence after the last one otherwise. */
function oldestNotDone({
  rule,
  lastNominal,
  nextNominal,
}: Pick<RecurringSituation, 'rule' | 'lastNominal' | 'nextNominal'>): Date | null {
  if (nextNominal !== null && (lastNominal === null || nextNominal > lastNominal)) return nextNominal;
  return nextOccurrence(rule, lastNominal ?? new Date(rule.anchor.getTime() - 1));
}

/** The latest occurrence until an instant (inclusive), `oldest` itself when none is later. */
function latestUntil(rule: Recurrence, oldest: Date, untilMs: number): Date {
  const latest = previousOccurrence(rule, new Date(untilMs + 1));
  return latest === null || latest < oldest ? oldest : latest;
}

function range(rule: Recurrence, reason: SkipReason, first: Date, last: Date): SkippedOccurrences {
  // The first is counted by itself: after an update of the time zone data it may be no occurrence of the rule any more.
  const rest = countOccurrences(
    rule,
    new Date(first.getTime() + 1),
    new Date(last.getTime() + 1),
    MAX_COUNTED - 1,
  );
  return { reason, first, last, count: rest.count + 1, atLeast: rest.atLeast };
}

function skipping(
  rule: Recurrence,
  skipped: readonly SkippedOccurrences[],
  jitterMs: number,
): OccurrencePlan {
  const lastNominal = skipped[skipped.length - 1]?.last ?? rule.anchor;
  return { action: 'skip', skipped, lastNominal, next: nextAfter(rule, lastNominal, jitterMs) };
}

function nextAfter(rule: Recurrence, nominal: Date, jitterMs: number): NextOccurrence | null {
  const next = nextOccurrence(rule, nominal);
  return next === null ? null : ringing(next, jitterMs);
}

/** What is left out when a person gives the campaign another rule: all that has come and was neither opened nor left out. */
export function dueAtChange(
  situation: Pick<RecurringSituation, 'rule' | 'lastNominal' | 'nextNominal' | 'now' | 'runsSoFar'>,
): SkippedOccurrences | null {
  const { rule, now, runsSoFar } = situation;
  if (rule.maxRuns !== null && runsSoFar >= rule.maxRuns) return null;
  const oldest = oldestNotDone(situation);
  if (oldest === null || oldest > now) return null;
  return range(rule, 'rule-changed', oldest, latestUntil(rule, oldest, now.getTime()));
}

/** The next occurrence after an instant and when the alarm rings for it; `null`: none comes any more. */
export function nextRinging(rule: Recurrence, after: Date, jitterKey: string): NextOccurrence | null {
  return nextAfter(rule, after, jitterOf(rule, jitterKey));
}

function ringing(nominal: Date, jitterMs: number): NextOccurrence {
  return { nominal, ringAt: new Date(nominal.getTime() + jitterMs) };
}
