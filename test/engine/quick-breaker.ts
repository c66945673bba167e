/** A breaker that opens and tries again soon, and a provider that is down. */
import type { SchedulerOptions } from '../../src/config.ts';
import { DeliveryError } from '../../src/messengers/messenger.ts';

export const QUICK_BREAKER = {
  consecutiveFailures: 2,
  windowMs: 20_000,
  openMs: 500,
  maxOpenMs: 1_000,
  rampMs: 200,
} satisfies SchedulerOptions['breaker'];

export const refuse = (): never => {
  throw new DeliveryError('provider', 'connection refused', { code: 'ECONNREFUSED' });
};
