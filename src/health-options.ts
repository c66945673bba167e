/** The option `health`: from when on a campaign is called stale, and from which share of failures on it is warned of. */
import { z } from 'zod';
import { expecting, integer, share } from './input-checks.ts';

export interface HealthOptions {
  /**
   * A campaign that should move and gives no sign of life for so long is stale, 1000 to 86400000 ms, at least
   * 3 × `heartbeatMs`. Default: 600000; 3 × `heartbeatMs` where that is more.
   */
  readonly staleAfterMs?: number | undefined;
  /** A larger share of failed and unknown recipients among all settled ones is a warning, 0 to 1. Default: 0.2. */
  readonly failureRate?: number | undefined;
  /** But not before so many are settled, 1 to 1000000. Default: 20. */
  readonly failureMinimum?: number | undefined;
}

export type ResolvedHealthOptions = {
  readonly [Key in keyof HealthOptions]-?: Exclude<HealthOptions[Key], undefined>;
};

export function healthOptionsSchema(defaults: Omit<ResolvedHealthOptions, 'staleAfterMs'>) {
  return z
    .strictObject(
      {
        staleAfterMs: integer(1_000, 86_400_000).optional(),
        failureRate: share().default(defaults.failureRate),
        failureMinimum: integer(1, 1_000_000).default(defaults.failureMinimum),
      },
      expecting('an object'),
    )
    .prefault({});
}
