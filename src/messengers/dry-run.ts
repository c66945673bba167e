/**
 * A messenger that sends nothing and says that it sent: for trying out campaigns, audiences and schedules, and for
 * measuring the scheduler itself. Invariant: no network, and the same message twice does no harm.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { ValidationError } from '../errors.ts';
import { expectation } from '../input-checks.ts';
import { DeliveryError, type Message, type Messenger } from './messenger.ts';

export interface DryRunOptions {
  /** Milliseconds each send takes, 0 to 600000. Default: 0. */
  readonly latencyMs?: number | undefined;
  /** Called with each message when it counts as sent; what it throws fails the send. Default: none. */
  readonly onMessage?: ((message: Message) => void) | undefined;
}

/**
 * Takes any content and reports every message as sent, without a provider id.
 *
 * @throws ValidationError (`invalid_options`) for a wrong `latencyMs`.
 */
export function dryRunMessenger(options: DryRunOptions = {}): Messenger {
  const { latencyMs = 0, onMessage } = options;
  if (!(Number.isFinite(latencyMs) && latencyMs >= 0 && latencyMs <= 600_000)) {
    const message = expectation('latencyMs', 'a number from 0 to 600000', latencyMs);
    throw new ValidationError('invalid_options', 'These options of dryRunMessenger are wrong', [
      { path: 'latencyMs', message },
    ]);
  }
  return {
    idempotent: true,
    send: async (message, { signal }) => {
      if (latencyMs > 0) {
        await sleep(latencyMs, undefined, { signal }).catch(() => {
          throw new DeliveryError('transient', 'given up before sending', { code: 'EABORT' });
        });
      }
      onMessage?.(message);
      return { status: 'sent' };
    },
  };
}
