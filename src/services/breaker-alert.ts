/**
 * The alert of a messenger whose breaker is not closed. Invariant: every worker that has the messenger tells it, so that
 * none can take it to the grave; it is raised and cleared once.
 */
import type { Breaker } from '../core/breaker.ts';
import type { AlertDoc } from '../store/documents.ts';
import type { Alerter } from './alerter.ts';
import { whyPaused } from './breaker-campaigns.ts';

export const breakerAlertKey = (messenger: string): string => `breaker:${messenger}`;

/** The messenger that an alert of this kind is about. */
export function messengerOf({ _id, detail }: AlertDoc): string {
  return typeof detail?.messenger === 'string' ? detail.messenger : _id.replace(/^breaker:/, '');
}

export class BreakerAlert {
  readonly #alerter: Pick<Alerter, 'raise' | 'clear'>;
  readonly #messenger: string;
  /** Who opened it, as this worker has told; null: it has told that it is cleared; undefined: nothing yet. */
  #told: string | null | undefined;

  constructor(alerter: Pick<Alerter, 'raise' | 'clear'>, messenger: string) {
    this.#alerter = alerter;
    this.#messenger = messenger;
  }

  /** To be called with each transition. */
  async tell(breaker: Breaker): Promise<void> {
    const messenger = this.#messenger;
    const key = breakerAlertKey(messenger);
    const before = this.#told;
    if (breaker.state === 'closed') {
      this.#told = null;
      if (typeof before === 'string' || breaker.term > 0) await this.#alerter.clear(key);
      return;
    }
    const { detail } = breaker;
    const { openedBy } = whyPaused(breaker);
    this.#told = openedBy ?? 'breaker';
    if (before === this.#told) return;
    const message =
      openedBy === undefined
        ? `The messenger \`${messenger}\` does not work: ${detail}. Its campaigns are paused until it does.`
        : `${openedBy} opened the breaker of the messenger \`${messenger}\`: ${detail}. Its campaigns are paused until somebody closes it.`;
    await this.#alerter.raise({
      key,
      kind: 'breaker',
      level: 'critical',
      message,
      detail: { messenger, detail },
    });
  }
}
