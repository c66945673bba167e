/** The option `breaker`: when a messenger that does not work is given up for a while, and how it is tried again. */
import { z } from 'zod';
import type { BreakerSettings } from './core/breaker.ts';
import { expectation, expecting, fitting, integer } from './input-checks.ts';

export interface BreakerOptions {
  /** It opens when at least this part of the sends in the window has failed, above 0 to 1. Default: 0.5. */
  readonly failureRate?: number | undefined;
  /**
   * With fewer sends in the window the rate says nothing, 1 to 100000; it opens as well after so many failures of any kind
   * in a row, over all workers. Default: 20.
   */
  readonly minimumVolume?: number | undefined;
  /**
   * It opens after so many failures of the provider in a row, over all workers and however far apart, 1 to 1000. Those that
   * failed together count once. Default: 5.
   */
  readonly consecutiveFailures?: number | undefined;
  /** How far back is looked, 1000 to 3600000 ms. Default: 60000. */
  readonly windowMs?: number | undefined;
  /** How long it is open before it is tried, 100 to 86400000 ms; doubled each time in a row. Default: 15000. */
  readonly openMs?: number | undefined;
  /** The longest that it is open, at least `openMs`, at most 86400000 ms. Default: 600000. */
  readonly maxOpenMs?: number | undefined;
  /** Recipients that are tried, one by one, before it closes, 1 to 100. Default: 5. */
  readonly trialSize?: number | undefined;
  /** How long after closing until as many sends are in flight as before, 0 to 3600000 ms. Default: 10000. */
  readonly rampMs?: number | undefined;
}

/** The settings of a breaker that is not off. */
export function breakerOptionsSchema(defaults: BreakerSettings) {
  const isRate = (value: unknown): boolean => typeof value === 'number' && value > 0 && value <= 1;
  return z
    .strictObject(
      {
        failureRate: fitting<number>('a number above 0 to 1', isRate).default(defaults.failureRate),
        minimumVolume: integer(1, 100_000).default(defaults.minimumVolume),
        consecutiveFailures: integer(1, 1_000).default(defaults.consecutiveFailures),
        windowMs: integer(1_000, 3_600_000).default(defaults.windowMs),
        openMs: integer(100, 86_400_000).default(defaults.openMs),
        maxOpenMs: integer(100, 86_400_000).default(defaults.maxOpenMs),
        trialSize: integer(1, 100).default(defaults.trialSize),
        rampMs: integer(0, 3_600_000).default(defaults.rampMs),
      },
      expecting('an object with its settings, or false'),
    )
    .refine(({ openMs, maxOpenMs }) => maxOpenMs >= openMs, {
      path: ['maxOpenMs'],
      error: ({ input }) => {
        const { openMs, maxOpenMs } = input as BreakerSettings;
        return expectation('breaker.maxOpenMs', `at least \`openMs\`, ${openMs}`, maxOpenMs);
      },
    })
    .prefault({});
}
