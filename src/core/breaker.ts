/**
 * The circuit breaker of one messenger, for the whole cluster: when it opens, who may probe, when it closes. Pure: what is
 * stored and the server's time in, what is to be stored out; the caller writes it under the term that was read.
 *
 * ```
 * closed ──evidence of enough workers──► open ──its time is over, one worker takes the probe──► half_open
 *    ▲                                    ▲                                                        │
 *    └──────── trial passed, or a person ─┴───────────────── trial failed ─────────────────────────┘
 * ```
 *
 * Invariants: every transition has a new term; in half_open at most one worker holds the probe; what a person opened stays
 * open until a person closes it.
 */

export interface BreakerSettings {
  /** Part of the sends in the window that must have failed, above 0 to 1. */
  readonly failureRate: number;
  /** Sends in the window below which the rate says nothing. */
  readonly minimumVolume: number;
  /** Failures of the provider in a row, over all workers; those that failed together count once. */
  readonly consecutiveFailures: number;
  readonly windowMs: number;
  /** How long it is open the first time; doubled each time in a row, up to `maxOpenMs`. */
  readonly openMs: number;
  readonly maxOpenMs: number;
  /** Recipients that are tried, one after another, before it closes. */
  readonly trialSize: number;
  /** How long it takes after closing until as many sends are in flight as before. */
  readonly rampMs: number;
}

export type BreakerState = 'closed' | 'open' | 'half_open';

/** What one worker has seen within the window. Instants are ms since the epoch by the server's time. */
export interface Evidence {
  readonly at: number;
  readonly succeeded: number;
  readonly failed: number;
  /** Failures of the provider in a row, since the last success anywhere that this worker has heard of. */
  readonly consecutive: number;
  /** All failures of that row, whatever their kind: `minimumVolume` of them, over all workers, open it as well. */
  readonly inRow: number;
  /** When the row began; it is as long ago as it may be, only a success ends it. */
  readonly rowSince?: number;
  readonly succeededAt?: number;
  /** The last failure, without secrets. */
  readonly detail?: string;
}

export interface Probe {
  readonly token: string;
  readonly workerId: string;
  readonly until: number;
}

/** A person's order that it be open. */
export interface ManualOpening {
  readonly by: string;
  readonly reason?: string;
  readonly at: number;
}

interface Common {
  readonly term: number;
  /** Openings in a row: those that came within the window after a closing count on. */
  readonly openings: number;
  readonly evidence: Readonly<Record<string, Evidence>>;
}
interface Opened extends Common {
  readonly openedAt: number;
  readonly detail: string;
}
export type ClosedBreaker = Common & { readonly state: 'closed'; readonly closedAt?: number };
/** `nextProbeAt` is missing where a person opened it. */
export type OpenBreaker = Opened & { readonly state: 'open' } & (
    | { readonly nextProbeAt: number; readonly manual?: undefined }
    | { readonly manual: ManualOpening; readonly nextProbeAt?: undefined }
  );
export type HalfOpenBreaker = Opened & { readonly state: 'half_open'; readonly probe: Probe };
export type Breaker = ClosedBreaker | OpenBreaker | HalfOpenBreaker;

/** One that nothing has been written of. */
export const NEW_BREAKER: ClosedBreaker = { state: 'closed', term: 0, openings: 0, evidence: {} };
/** How long a prober holds the probe without a sign of life. */
export const PROBE_LEASE_MS = 10_000;
/** The trial is over when nothing more has come to try for so long. */
const TRIAL_QUIET_MS = 2_000;

// ---- opening --------------------------------------------------------------------------------------------------------

export interface EvidenceVerdict {
  readonly opens: boolean;
  readonly detail: string;
}

/** Would this worker alone say that something is wrong? Where nobody does, all together do not either. */
export function speaksAgainst(
  { succeeded, failed, inRow }: Evidence,
  { failureRate }: Pick<BreakerSettings, 'failureRate'>,
): boolean {
  return inRow > 0 || (failed > 0 && failed >= failureRate * (failed + succeeded));
}

/** Only what somebody has seen within the window counts for the rate. */
export const isFresh = ({ at }: Evidence, { windowMs }: Pick<BreakerSettings, 'windowMs'>, now: number) =>
  now - at < windowMs;

/**
 * What the evidence of all workers together says. `live`: ids of the workers that have the messenger and tell what they see.
 * One sick worker alone does not open it for everybody, where others can say otherwise; nor does a worker twice, before and
 * after its restart. Of one that is gone, what is older than the window does not count any more.
 */
export function judgeEvidence(
  evidence: Readonly<Record<string, Evidence>>,
  live: ReadonlySet<string>,
  settings: BreakerSettings,
  now: number,
): EvidenceVerdict {
  const all = Object.entries(evidence).map(([id, one]) => ({ id, ...one }));
  const fresh = all.filter((one) => isFresh(one, settings, now));
  const standing = all.filter((one) => live.has(one.id) || isFresh(one, settings, now));
  const sum = (some: readonly Evidence[], of: (one: Evidence) => number): number =>
    some.reduce((total, one) => total + of(one), 0);
  const isMostlyFailing = (volume: number, failed: number): boolean =>
    failed > 0 && failed >= settings.failureRate * volume;
  const failed = sum(fresh, (one) => one.failed);
  const volume = failed + sum(fresh, (one) => one.succeeded);
  const byRate = volume >= settings.minimumVolume && isMostlyFailing(volume, failed);
  // A success anywhere ends every row that began before it; its worker begins to count anew when it hears of it.
  const lastSuccess = Math.max(...standing.map(({ succeededAt = 0 }) => succeededAt));
  const inRows = standing.filter(({ rowSince }) => rowSince !== undefined && rowSince >= lastSuccess);
  const byRow =
    sum(inRows, ({ consecutive }) => consecutive) >= settings.consecutiveFailures ||
    // A window full of earlier successes must not hide that nothing has worked since.
    sum(inRows, ({ inRow }) => inRow) >= settings.minimumVolume;
  const speaking = new Set(byRow ? inRows : []);
  if (byRate) {
    for (const one of fresh) {
      if (isMostlyFailing(one.failed + one.succeeded, one.failed)) speaking.add(one);
    }
  }
  const witnesses = [...speaking].filter(({ id }) => live.has(id));
  const [latest] = [...speaking].sort((a, b) => b.at - a.at);
  return {
    opens: witnesses.length >= Math.min(2, Math.max(1, live.size)),
    detail: latest?.detail ?? 'it fails',
  };
}

/** `random` is from 0 to 1: jitter of at most a fifth, so that many breakers do not probe in one instant. */
export function openForMs(openings: number, settings: BreakerSettings, random: number): number {
  const { openMs, maxOpenMs } = settings;
  const full = Math.min(maxOpenMs, openMs * 2 ** Math.min(openings - 1, 40));
  return Math.ceil(full * (1 - 0.2 * random));
}

export function opened(
  from: ClosedBreaker,
  detail: string,
  settings: BreakerSettings,
  now: number,
  random: number,
): OpenBreaker {
  const again = from.closedAt !== undefined && now - from.closedAt < settings.windowMs;
  return afterFailure(from, again ? from.openings + 1 : 1, now, detail, settings, now, random);
}

/** The probe failed: open again, for longer. */
export function reopened(
  from: HalfOpenBreaker,
  detail: string,
  settings: BreakerSettings,
  now: number,
  random: number,
): OpenBreaker {
  return afterFailure(from, from.openings + 1, from.openedAt, detail, settings, now, random);
}

function afterFailure(
  { term, evidence }: Breaker,
  openings: number,
  openedAt: number,
  detail: string,
  settings: BreakerSettings,
  now: number,
  random: number,
): OpenBreaker {
  const nextProbeAt = now + openForMs(openings, settings, random);
  return { state: 'open', term: term + 1, openings, openedAt, detail, nextProbeAt, evidence };
}

/** By a person. It stays open until a person closes it. */
export function openedByHand(from: Breaker, manual: ManualOpening): OpenBreaker {
  const { term, openings, evidence } = from;
  const openedAt = from.state === 'closed' ? manual.at : from.openedAt;
  const detail = manual.reason ?? `opened by ${manual.by}`;
  return { state: 'open', term: term + 1, openings, openedAt, detail, manual, evidence };
}

// ---- probing --------------------------------------------------------------------------------------------------------

/** Is it time for somebody to take the probe? Also of one whose prober is gone. */
export function isProbeFree(breaker: OpenBreaker | HalfOpenBreaker, now: number): boolean {
  if (breaker.state === 'half_open') return breaker.probe.until <= now;
  return breaker.nextProbeAt !== undefined && breaker.nextProbeAt <= now;
}

export function probedBy(
  from: OpenBreaker | HalfOpenBreaker,
  by: Pick<Probe, 'token' | 'workerId'>,
  now: number,
): HalfOpenBreaker {
  const { term, openings, openedAt, detail, evidence } = from;
  const probe = { ...by, until: now + PROBE_LEASE_MS };
  return { state: 'half_open', term: term + 1, openings, openedAt, detail, probe, evidence };
}

/** How the trial of the prober stands. */
export interface Trial {
  readonly started: number;
  readonly inFlight: number;
  readonly failed: number;
  /** A failure of the provider, or a recipient of whom nobody knows: one is enough. */
  readonly fatal: boolean;
  /** For how long nothing has begun or ended, ms. */
  readonly quietMs: number;
}

export type TrialVerdict = 'go-on' | 'passed' | 'failed';

export function judgeTrial(trial: Trial, settings: BreakerSettings): TrialVerdict {
  const { started, inFlight, failed, fatal, quietMs } = trial;
  if (fatal || failed >= settings.failureRate * settings.trialSize) return 'failed';
  if (inFlight > 0 || started === 0) return 'go-on';
  const isOver = started >= settings.trialSize || quietMs >= TRIAL_QUIET_MS;
  if (!isOver) return 'go-on';
  return failed < settings.failureRate * started ? 'passed' : 'failed';
}

// ---- closing --------------------------------------------------------------------------------------------------------

export function closed(from: Breaker, now: number): ClosedBreaker {
  return { state: 'closed', term: from.term + 1, openings: from.openings, closedAt: now, evidence: {} };
}

/** By a person: everything is forgotten, nothing ramps up. */
export function reset(from: Breaker): ClosedBreaker {
  return { ...NEW_BREAKER, term: from.term + 1 };
}

/**
 * Most sends in flight in one worker, so long after the breaker closed: from one, multiplied by the same factor in the same
 * time, up to the capacity (or a thousand).
 */
export function rampLimit(capacity: number, sinceClosedMs: number, rampMs: number): number {
  if (sinceClosedMs >= rampMs) return Number.POSITIVE_INFINITY;
  const full = Math.min(capacity, 1_024);
  return Math.max(1, Math.floor(full ** (Math.max(0, sinceClosedMs) / rampMs)));
}
