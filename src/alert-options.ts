/** The option `alerts`: who is told, from which level on, and when anew. */
import { z } from 'zod';
import { ALERT_LEVELS, type AlertLevel } from './core/alert-policy.ts';
import { expecting, fitting, integer } from './input-checks.ts';
import type { AlertSink } from './services/alert-sinks.ts';

export interface AlertOptions {
  /** Who is told of alerts: `webhookSink()`, `messengerSink()`, or a function `(alert) => …`. At most 20. Default: nobody. */
  readonly sinks?: readonly AlertSink[] | undefined;
  /**
   * What comes back within this time after it was told to be over is not told anew unless it is still there when the time
   * ends, 0 to 86400000 ms. Default: 600000.
   */
  readonly cooldownMs?: number | undefined;
  /** Sinks are told of this level and higher ones. All are stored, logged and told to listeners. Default: `info`. */
  readonly minimumLevel?: AlertLevel | undefined;
  /** Most tellings of one minute in one process; the rest is told as one that counts it, 1 to 10000. Default: 30. */
  readonly perMinute?: number | undefined;
}

export type ResolvedAlertOptions = {
  readonly [Key in keyof AlertOptions]-?: Exclude<AlertOptions[Key], undefined>;
};

export function alertOptionsSchema(defaults: Omit<ResolvedAlertOptions, 'sinks'>) {
  return z
    .strictObject(
      {
        sinks: z
          .array(
            fitting<AlertSink>('a sink, a function (alert)', (value) => typeof value === 'function'),
            expecting('a list of sinks'),
          )
          .max(20, expecting('a list of at most 20 sinks'))
          .default([]),
        cooldownMs: integer(0, 86_400_000).default(defaults.cooldownMs),
        minimumLevel: z
          .enum(ALERT_LEVELS, expecting(`one of ${ALERT_LEVELS.join(', ')}`))
          .default(defaults.minimumLevel),
        perMinute: integer(1, 10_000).default(defaults.perMinute),
      },
      expecting('an object'),
    )
    .prefault({});
}
