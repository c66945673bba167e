/**
 * When an alert is raised, told, kept and cleared. Pure: from what is stored and what is observed follows what is done.
 * Invariant: of a trouble people are told once when it begins and once when it ends. One that comes back within the
 * cool-down is stored as raised without being told again; if it is still there when the cool-down ends, it is told then,
 * and one that is gone by then ends as quietly as it came.
 */

export const ALERT_LEVELS = ['info', 'warning', 'critical'] as const;
export type AlertLevel = (typeof ALERT_LEVELS)[number];

/** What was observed. */
export interface AlertNews {
  /** One trouble, one key: `worker:offline:<id>`. */
  readonly key: string;
  /** What sort of trouble, for programs: `worker_offline`. */
  readonly kind: string;
  readonly level: AlertLevel;
  /** One sentence for people. */
  readonly message: string;
  readonly campaignId?: string;
  /** Facts for programs, small. */
  readonly detail?: Readonly<Record<string, unknown>>;
}

/** What the decision needs of a stored alert. All times are the server's. */
export interface StoredAlert {
  readonly state: 'raised' | 'cleared';
  readonly level: AlertLevel;
  readonly lastSeenAt: Date;
  /** Until then the cool-down lasts. Of a raised one: it was not told. */
  readonly quietUntil?: Date | undefined;
}

/** `tell`: people are told, too. */
export type SeenDecision =
  | { readonly action: 'raise'; readonly tell: boolean }
  /** Raised already: what was seen last is written. */
  | { readonly action: 'update'; readonly level: AlertLevel; readonly tell: boolean }
  /** Raised already, and written not long ago. */
  | { readonly action: 'keep' }
  /** Too many are raised already. */
  | { readonly action: 'suppress' };

export type GoneDecision = { readonly action: 'clear'; readonly tell: boolean } | { readonly action: 'none' };

/** A raised alert that is seen again is written this often at the most, ms. */
export const SEEN_EVERY_MS = 60_000;

export const rankOf = (level: AlertLevel): number => ALERT_LEVELS.indexOf(level);

/** The trouble is there. `full`: as many alerts are raised as may be. */
export function onSeen(
  stored: StoredAlert | undefined,
  level: AlertLevel,
  now: Date,
  full: boolean,
): SeenDecision {
  const quiet = stored?.quietUntil !== undefined && now < stored.quietUntil;
  if (stored?.state !== 'raised') {
    if (full) return { action: 'suppress' };
    const worse = stored !== undefined && rankOf(level) > rankOf(stored.level);
    return { action: 'raise', tell: !quiet || worse };
  }
  // While it is raised its level only grows: one that wavers is told once.
  const worse = rankOf(level) > rankOf(stored.level);
  const highest = worse ? level : stored.level;
  const due = stored.quietUntil !== undefined && !quiet;
  if (worse || due) return { action: 'update', level: highest, tell: true };
  if (now.getTime() - stored.lastSeenAt.getTime() < SEEN_EVERY_MS) return { action: 'keep' };
  return { action: 'update', level: highest, tell: false };
}

/** The trouble is gone. Who was not told that it is there is not told that it is gone. */
export function onGone(stored: StoredAlert | undefined): GoneDecision {
  if (stored?.state !== 'raised') return { action: 'none' };
  return { action: 'clear', tell: stored.quietUntil === undefined };
}
