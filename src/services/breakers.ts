/**
 * The breakers of this worker's messengers: about once a second it reads what the cluster knows of those that are in use,
 * in one question, adds what it has seen itself, and does what is due. Invariants: a messenger in good health costs that
 * one question and no write, also where now and then a recipient fails; an idle one is asked about every 5 s; what takes
 * long with one messenger holds up no other.
 */

import { NEW_BREAKER } from '../core/breaker.ts';
import { breakerOf } from '../core/breaker-document.ts';
import type { MessengerLine } from '../delivery/messenger-line.ts';
import type { MessengerSurvey } from '../delivery/messenger-survey.ts';
import { type ReadBreaker, readBreakers } from '../store/breakers.ts';
import { isNewer } from '../store/campaigns.ts';
import type { Store } from '../store/store.ts';
import { liveWorkers } from '../store/workers.ts';
import { createDuty, type Duty } from './duty.ts';
import { LineBreaker, type LineBreakerOptions } from './line-breaker.ts';

export interface BreakersDutyOptions extends LineBreakerOptions {
  readonly lines: readonly MessengerLine[];
  readonly survey: () => ReadonlyMap<string, MessengerSurvey>;
  readonly serverNow: () => Date;
  /** How often work is looked for, ms. */
  readonly pollMs: number;
}

/** Ids of the live workers that have this messenger with a breaker: they gave a sign of life within so long. */
export async function workersHaving(store: Store, messenger: string, withinMs: number): Promise<string[]> {
  const workers = await liveWorkers(store, withinMs);
  return workers
    .filter(
      ({ state, messengers }) =>
        state === 'running' && messengers.some(({ name, breaker }) => name === messenger && breaker === true),
    )
    .map(({ _id }) => _id);
}

const IDLE_MS = 5_000;
const SLOWEST_MS = 1_000;
const FASTEST_MS = 250;

export function createBreakers(options: BreakersDutyOptions): Duty {
  const { store, clock, serverNow, logger, survey } = options;
  const all = options.lines.map((line) => new LineBreaker(options, line));
  let allReadAt = Number.NEGATIVE_INFINITY;
  /** What is being done about each. */
  const underWay = new Map<LineBreaker, Promise<void>>();

  const lookAfter = async (
    one: LineBreaker,
    found: ReadBreaker | undefined,
    askedAt: number,
    surveyed: MessengerSurvey | undefined,
  ) => {
    const { document, now = serverNow().getTime() } = found ?? {};
    try {
      if (document === undefined) await one.treat(NEW_BREAKER, now, askedAt, surveyed);
      else if (isNewer(document)) one.leaveAlone();
      else {
        const breaker = breakerOf(document, now);
        if (breaker === undefined) await one.repair(document, now);
        else await one.treat(breaker, now, askedAt, surveyed);
      }
    } catch (error) {
      // What goes wrong with one messenger must not stop the others; the next round tries again.
      logger.warn({ error, messenger: one.messenger }, 'a breaker could not be looked after; trying again');
    } finally {
      underWay.delete(one);
    }
  };

  const duty = createDuty({
    name: 'breakers',
    everyMs: Math.min(SLOWEST_MS, Math.max(FASTEST_MS, options.pollMs)),
    clock,
    logger,
    run: async () => {
      const askedAt = clock.monotonic();
      const surveyed = survey();
      const isTime = askedAt - allReadAt >= IDLE_MS;
      const due = all.filter(
        (one) => !underWay.has(one) && (isTime || one.wantsToKnow(surveyed.get(one.messenger))),
      );
      if (due.length === 0) return;
      const found = await readBreakers(
        store,
        due.map(({ messenger }) => messenger),
      );
      if (isTime) allReadAt = askedAt;
      for (const one of due)
        underWay.set(one, lookAfter(one, found.get(one.messenger), askedAt, surveyed.get(one.messenger)));
    },
  });
  return {
    ...duty,
    stop: async () => {
      await duty.stop();
      await Promise.all(underWay.values());
    },
  };
}
