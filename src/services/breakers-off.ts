/**
 * Breakers that are switched off (`breaker: false`): what one had opened before is closed, and what it had paused goes on.
 * Invariants: a messenger whose breaker another live worker still looks after is left alone; where nothing is held, a
 * messenger costs one question in all.
 */
import type { Clock } from '../clock.ts';
import { closed } from '../core/breaker.ts';
import { breakerOf } from '../core/breaker-document.ts';
import type { MessengerSurvey } from '../delivery/messenger-survey.ts';
import { readBreakers, turnBreaker } from '../store/breakers.ts';
import { isNewer } from '../store/campaigns.ts';
import type { Alerter } from './alerter.ts';
import { breakerAlertKey } from './breaker-alert.ts';
import { type BreakerCampaignsOptions, resumeCampaigns } from './breaker-campaigns.ts';
import { createDuty, type Duty } from './duty.ts';

export interface BreakersOffOptions extends BreakerCampaignsOptions {
  readonly clock: Clock;
  readonly alerter: Pick<Alerter, 'clear'>;
  /** How often work is looked for, ms. */
  readonly pollMs: number;
  readonly messengers: readonly string[];
  readonly survey: () => ReadonlyMap<string, MessengerSurvey>;
  /** Ids of the live workers that have the messenger with a breaker. */
  readonly workersHaving: (messenger: string) => Promise<readonly string[]>;
}

const SLOWEST_MS = 5_000;

export function createBreakersOff(options: BreakersOffOptions): Duty {
  const { store, clock, logger, journal, events, alerter, messengers, survey } = options;
  /** Whose breaker is closed, or never was open. */
  const settled = new Set<string>();

  return createDuty({
    name: 'breakers',
    everyMs: Math.min(SLOWEST_MS, options.pollMs),
    clock,
    logger,
    run: async () => {
      const surveyed = survey();
      const isHeld = (name: string): boolean => surveyed.get(name)?.held === true;
      const due = messengers.filter((name) => !settled.has(name) || isHeld(name));
      if (due.length === 0) return;
      const found = await readBreakers(store, due);
      for (const messenger of due) {
        const read = found.get(messenger);
        const breaker = read && !isNewer(read.document) ? breakerOf(read.document, read.now) : undefined;
        const isOpen = breaker !== undefined && breaker.state !== 'closed';
        if (isOpen || isHeld(messenger)) {
          if ((await options.workersHaving(messenger)).length > 0) continue;
          if (isOpen) {
            if (!(await turnBreaker(store, messenger, breaker, closed(breaker, read?.now ?? 0)))) continue;
            logger.warn({ messenger }, 'breaker closed: breakers are switched off');
            events.emit('breaker:closed', { messenger, by: 'scheduler' });
            await journal.write({ kind: 'breaker-closed', detail: { messenger, by: 'scheduler' } });
          }
          await alerter.clear(breakerAlertKey(messenger));
          await resumeCampaigns(options, messenger);
        }
        settled.add(messenger);
      }
    },
  });
}
